using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace UsageMonitor.Server.Platform;

/// <summary>The server's spans and metrics, for any OpenTelemetry or <c>dotnet-counters</c> listener.</summary>
internal static class Telemetry
{
    public const string Name = "UsageMonitor";

    public static readonly ActivitySource Source = new(Name);
    private static readonly Meter Meter = new(Name);

    public static readonly Counter<long> ReceivedEvents = Meter.CreateCounter<long>(
        "usage_monitor.ingestion.received",
        "{event}"
    );
    public static readonly Counter<long> RejectedEvents = Meter.CreateCounter<long>(
        "usage_monitor.ingestion.rejected",
        "{event}"
    );
    public static readonly Counter<long> BlockedEvents = Meter.CreateCounter<long>(
        "usage_monitor.ingestion.blocked",
        "{event}"
    );
    public static readonly Counter<long> ProcessedEvents = Meter.CreateCounter<long>(
        "usage_monitor.processing.events",
        "{event}"
    );
    public static readonly Counter<long> RateRefusals = Meter.CreateCounter<long>(
        "usage_monitor.rate_limit.refused",
        "{request}"
    );

    /// <summary>Requests that an instance limited by itself because Redis was away.</summary>
    public static readonly Counter<long> LocalRateDecisions = Meter.CreateCounter<long>(
        "usage_monitor.rate_limit.local",
        "{request}"
    );
    public static readonly Histogram<double> StepSeconds = Meter.CreateHistogram<double>(
        "usage_monitor.processing.step.duration",
        "s"
    );
    public static readonly Histogram<double> CommitSeconds = Meter.CreateHistogram<double>(
        "usage_monitor.ingestion.commit.duration",
        "s"
    );
}
