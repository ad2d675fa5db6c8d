using UsageMonitor.Server.Anomalies.Detection;

namespace UsageMonitor.Tests.Anomalies.Detection;

/// <summary>Hourly counts of an office: busy by day, quiet at weekends, growing, with noise; the same for the same seed.</summary>
internal static class SeriesMaking
{
    public const long Start = 1_767_571_200; // a Monday
    public const int Week = 168;

    /// <summary>A Tuesday noon in the seventh week.</summary>
    public const int Noon = (6 * Week) + 24 + 12;

    public static double[] Office(int seed, int weeks = 10, double level = 2_000, double growthPerWeek = 0)
    {
        var random = new Random(seed);
        double[] values = new double[weeks * Week];
        for (int hour = 0; hour < values.Length; hour++)
        {
            double day = 0.1 + (0.9 * Math.Max(0, Math.Sin(((hour % 24) - 6) / 12.0 * Math.PI)));
            double week = hour / 24 % 7 >= 5 ? 0.25 : 1;
            double mean = level * day * week * (1 + (growthPerWeek * hour / Week));
            double gauss =
                Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
            values[hour] = Math.Max(0, Math.Round(mean + (gauss * ((1.5 * Math.Sqrt(mean)) + (0.05 * mean)))));
        }

        return values;
    }

    public static List<SampleVerdict> Feed(
        this SeriesDetector detector,
        IEnumerable<double> values,
        int from = 0,
        double sensitivity = Sensitivities.Normal
    ) => [.. values.Select((value, i) => detector.Observe(Start + ((from + i) * 3_600L), value, sensitivity))];
}
