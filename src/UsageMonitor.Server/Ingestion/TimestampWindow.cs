using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

/// <summary>Which timestamps a request may carry.</summary>
internal readonly struct TimestampWindow(DateTimeOffset now, bool mayBackfill)
{
    public const int AgeDaysMax = 7;
    public const int AheadMinutesMax = 5;

    // Before this nobody measured usage: it is a clock or a unit gone wrong, whatever the caller may do.
    private static readonly DateTimeOffset s_earliest = new(2000, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly long _latest = EventTimestamp.FromInstant(now.AddMinutes(AheadMinutesMax));
    private readonly long _oldest = Math.Max(
        EventTimestamp.FromInstant(s_earliest),
        mayBackfill ? 0 : EventTimestamp.FromInstant(now.AddDays(-AgeDaysMax))
    );

    /// <summary>The server's clock, in microseconds since 1970-01-01Z.</summary>
    public long Now { get; } = EventTimestamp.FromInstant(now);

    /// <returns>One of <see cref="RejectionCodes"/>, or null for a timestamp within the window.</returns>
    public string? Check(long microseconds) =>
        microseconds > _latest ? RejectionCodes.TimestampInFuture
        : microseconds < _oldest ? RejectionCodes.TimestampTooOld
        : null;

    public static string Describe(string code) =>
        code == RejectionCodes.TimestampInFuture
            ? $"eventTimestamp is more than {AheadMinutesMax} minutes ahead of the server's clock."
            : $"eventTimestamp is more than {AgeDaysMax} days ago, which needs the permission {Permissions.UsageBackfill}, "
                + $"or before {s_earliest:yyyy-MM-dd}.";
}
