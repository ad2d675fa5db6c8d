using UsageMonitor.Contracts;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Ingestion;

/// <summary>An event that passed every check.</summary>
/// <param name="EventId">The caller's id, or a new UUIDv7.</param>
/// <param name="UserId">The user: the caller's UUID, or UUIDv5 of the external id in the enterprise's namespace.</param>
/// <param name="ExternalId">The caller's own id for the user, or null when that is a UUID.</param>
/// <param name="FeatureName">1–100 characters.</param>
/// <param name="EventType">1–100 characters.</param>
/// <param name="TimestampMicroseconds">Microseconds since 1970-01-01Z, PostgreSQL's precision.</param>
/// <param name="Properties">The JSON object as sent, a slice of the request's body; empty when there is none.</param>
internal readonly record struct ParsedEvent(
    Guid EventId,
    Guid UserId,
    string? ExternalId,
    string FeatureName,
    string EventType,
    long TimestampMicroseconds,
    ReadOnlyMemory<byte> Properties
);

/// <summary>An event that was refused: it is kept as an attempt, and counts as blocked.</summary>
/// <param name="Event">The event.</param>
/// <param name="Index">Its place in the request, from 0.</param>
/// <param name="ReceiptId">A UUIDv7 by which the refusal is looked up; its time is that of the decision.</param>
/// <param name="Code">Why, stable.</param>
/// <param name="ApiKeyId">The key that sent it, or null for a person.</param>
/// <param name="PolicyId">The policy that refused it, or null when it was the enterprise's default.</param>
/// <param name="PolicyVersion">The policy's version.</param>
internal sealed record BlockedAttempt(
    ParsedEvent Event,
    int Index,
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

/// <summary>A request's events: <c>Received = Accepted.Count + Rejected.Count + Blocked.Count</c>.</summary>
/// <param name="Accepted">Those that will be stored, in the request's order.</param>
/// <param name="Rejected">Those that are no events, in the request's order.</param>
internal sealed record ParsedBatch(List<ParsedEvent> Accepted, List<RejectedEvent> Rejected)
{
    private static readonly List<BlockedAttempt> s_none = [];

    /// <summary>The request was one event, not a list of events.</summary>
    public bool IsSingle { get; set; }

    /// <summary>Those that the enterprise's policies and limits refuse; parsing knows nothing of them. Not to be added to.</summary>
    public List<BlockedAttempt> Blocked { get; set; } = s_none;

    /// <summary>The fence under which some of them were counted on limits, or null: see <see cref="LimitCounters"/>.</summary>
    public long? Fence { get; set; }

    /// <summary>Some of them were let through without being counted on their limits.</summary>
    public bool IsUncounted { get; set; }

    /// <summary>The enterprise's property rules have been applied to all of them: see <see cref="PropertyRules.PropertyRuleSet"/>.</summary>
    public bool IsRuled { get; set; }

    public int Received => Accepted.Count + Rejected.Count + Blocked.Count;
}
