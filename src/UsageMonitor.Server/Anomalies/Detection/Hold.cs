namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>What goes on is said once: for a while only what is stranger than the last is said.</summary>
internal struct Hold
{
    private const int Samples = 100;

    private double _strongest;
    private int _left;

    /// <returns>The evidence if it is news, else 0.</returns>
    public double News(double evidence)
    {
        if (_left == 0)
        {
            _strongest = 0;
        }
        else
        {
            _left--;
        }

        if (evidence <= _strongest)
        {
            return 0;
        }

        _strongest = evidence;
        _left = Samples;
        return evidence;
    }
}
