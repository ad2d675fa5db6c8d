using UsageMonitor.Contracts;

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

/// <summary>A request's events after parsing: <c>Received = Accepted.Count + Rejected.Count</c>.</summary>
internal sealed record ParsedBatch(List<ParsedEvent> Accepted, List<RejectedEvent> Rejected);
