namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>
/// How much it takes to be held for an anomaly. A sensitivity moves the score that a sample must reach, and nothing else: what is
/// learned and what is scored are the same at each.
/// </summary>
internal static class Sensitivities
{
    /// <summary>Only what has hardly ever been seen.</summary>
    public const double Low = 0.35;

    public const double Normal = 0.5;

    /// <summary>What is merely unusual as well.</summary>
    public const double High = 0.65;

    /// <summary>The score from which a sample is an anomaly at a sensitivity of 0 (nothing is) to 1 (all is).</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not a sensitivity.</exception>
    public static double ThresholdOf(double sensitivity)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sensitivity);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sensitivity, 1);
        return 1 - sensitivity;
    }
}
