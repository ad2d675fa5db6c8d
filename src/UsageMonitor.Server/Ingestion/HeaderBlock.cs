using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Ingestion;

/// <summary>What processing needs to know of one enterprise's events in a segment; the properties stay where they are.</summary>
/// <param name="FeatureNames">What <see cref="EventHeader.Feature"/> counts in.</param>
/// <param name="EventTypes">What <see cref="EventHeader.Type"/> counts in.</param>
/// <param name="Events">In the order of their slots.</param>
internal sealed record HeaderBlock(string[] FeatureNames, string[] EventTypes, EventHeader[] Events)
{
    /// <summary>The refused ones, whose slots come after those of <see cref="Events"/>.</summary>
    public BlockedHeader[] Blocked { get; init; } = [];
}

/// <summary>One event of a <see cref="HeaderBlock"/>.</summary>
internal readonly record struct EventHeader(
    Guid EventId,
    Guid UserId,
    string? ExternalId,
    int Feature,
    int Type,
    long TimestampMicroseconds
);

/// <summary>One refused event of a <see cref="HeaderBlock"/>, and why; see <see cref="BlockedAttempt"/>.</summary>
internal readonly record struct BlockedHeader(
    EventHeader Event,
    Guid ReceiptId,
    string Code,
    Guid? ApiKeyId,
    Guid? PolicyId,
    int? PolicyVersion
)
{
    /// <summary>The limit that refused it, or null when it was a policy.</summary>
    public LimitRefusal? Limit { get; init; }
}
