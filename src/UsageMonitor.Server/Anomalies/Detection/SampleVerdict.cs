namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>What a sample is held for.</summary>
internal enum SampleKind
{
    /// <summary>As expected, or still warming up.</summary>
    Normal,

    /// <summary>More than expected.</summary>
    Spike,

    /// <summary>Less than expected.</summary>
    Drop,

    /// <summary>Nothing, where something was expected.</summary>
    Stopped,
}

/// <summary>What a detector says of a sample.</summary>
/// <param name="Kind">What it is held for at the sensitivity of the series.</param>
/// <param name="Score">0 (as expected) to 1 (as strange as can be); comparable between series.</param>
/// <param name="Expected">What was expected before the sample was seen.</param>
/// <param name="Low">The lower end of the expected range.</param>
/// <param name="High">The upper end of the expected range.</param>
/// <param name="IsWarmingUp">Too little is known yet: never an anomaly.</param>
internal readonly record struct SampleVerdict(
    SampleKind Kind,
    double Score,
    double Expected,
    double Low,
    double High,
    bool IsWarmingUp
);
