using UsageMonitor.Server.Anomalies.Detection;

namespace UsageMonitor.Server.Anomalies;

/// <summary>The words of anomalies, as they are stored and answered.</summary>
internal static class AnomalyTerms
{
    public const string Spike = "SPIKE";
    public const string Drop = "DROP";
    public const string Stopped = "STOPPED";
    public const string UnusualHours = "UNUSUAL_HOURS";
    public const string SuddenVolume = "SUDDEN_VOLUME";
    public const string NewFeature = "NEW_FEATURE";

    public const string Usage = "USAGE";
    public const string ActiveUsers = "ACTIVE_USERS";
    public const string User = "USER";

    public const string Open = "OPEN";
    public const string Resolved = "RESOLVED";

    public const string Off = "OFF";
    public const string Low = "LOW";
    public const string Normal = "NORMAL";
    public const string High = "HIGH";

    public static readonly string[] Kinds = [Spike, Drop, Stopped, UnusualHours, SuddenVolume, NewFeature];

    public static readonly string[] SensitivityNames = [Off, Low, Normal, High];

    /// <summary>The detector's number for a word; what is off is learned as the usual.</summary>
    public static double SensitivityOf(string word) =>
        word switch
        {
            Low => Sensitivities.Low,
            High => Sensitivities.High,
            _ => Sensitivities.Normal,
        };

    public static string? KindOf(SampleKind kind) =>
        kind switch
        {
            SampleKind.Spike => Spike,
            SampleKind.Drop => Drop,
            SampleKind.Stopped => Stopped,
            _ => null,
        };
}
