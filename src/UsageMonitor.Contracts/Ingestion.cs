using System.Text.Json.Serialization;

namespace UsageMonitor.Contracts;

/// <summary>The answer to <c>POST /v1/usage/events</c>; sent only after the accepted events are durable.</summary>
/// <param name="Received">Events in the request: <c>Accepted + Rejected.Count + Blocked.Count</c>.</param>
/// <param name="Accepted">Events that are durable and will be counted once.</param>
/// <param name="Rejected">Events that were refused as malformed, each with its reason; the others are not affected.</param>
/// <param name="Blocked">
/// Events that the enterprise's policies and limits refuse: durable as attempts, and not counted as usage. Absent when there are none.
/// </param>
public sealed record IngestResponse(
    int Received,
    int Accepted,
    IReadOnlyList<RejectedEvent> Rejected,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] IReadOnlyList<BlockedEvent>? Blocked = null
)
{
    /// <summary>
    /// True: usage could not be counted on its BLOCK limits just now, and was let through as the enterprise chose. Absent otherwise.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? LimitsUncounted { get; init; }
}

/// <summary>One event that a policy or limit refuses.</summary>
/// <param name="Index">Its place in the request, from 0.</param>
/// <param name="Code">
/// Stable: <c>policy_forbidden</c>, <c>policy_default</c>, <c>limit_reached</c> or <c>limit_uncounted</c>; see <see cref="DecisionCodes"/>.
/// </param>
/// <param name="PolicyId">The policy, or null when no policy says anything and the default is to forbid.</param>
/// <param name="PolicyVersion">The policy's version that was applied.</param>
/// <param name="ReceiptId">Look it up with <c>GET /v1/admin/decisions/{receiptId}</c>.</param>
public sealed record BlockedEvent(int Index, string Code, Guid? PolicyId, int? PolicyVersion, Guid ReceiptId)
{
    /// <summary>The limit that is used up; absent when a policy refused.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public Guid? LimitId { get; init; }

    /// <summary>The limit's version that was applied.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? LimitVersion { get; init; }

    /// <summary>When the limit's window ends.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public DateTimeOffset? ResetsAt { get; init; }
}

/// <summary>One malformed event.</summary>
/// <param name="Index">Its place in the request, from 0.</param>
/// <param name="EventId">Its id, when it had a readable one.</param>
/// <param name="Code">
/// Stable: <c>invalid_json</c>, <c>missing_field</c>, <c>invalid_field</c>, <c>event_too_large</c>, <c>timestamp_in_future</c> or
/// <c>timestamp_too_old</c>; see <see cref="RejectionCodes"/>.
/// </param>
/// <param name="Detail">For people: which field and why.</param>
public sealed record RejectedEvent(int Index, Guid? EventId, string Code, string Detail);

/// <summary>Why an event can be refused.</summary>
public static class RejectionCodes
{
    /// <summary>The line or element is not a JSON object, or has duplicate or malformed member names.</summary>
    public const string InvalidJson = "invalid_json";

    /// <summary>A required field is absent or null.</summary>
    public const string MissingField = "missing_field";

    /// <summary>A field has the wrong type, length or form, or properties with text, numbers or nesting that not every reader takes.</summary>
    public const string InvalidField = "invalid_field";

    /// <summary>The event is larger than 32 KB.</summary>
    public const string EventTooLarge = "event_too_large";

    /// <summary>The event's timestamp is more than 5 minutes ahead of the server's clock.</summary>
    public const string TimestampInFuture = "timestamp_in_future";

    /// <summary>Older than 7 days and the caller has no <c>usage:backfill</c>, or before the year 2000.</summary>
    public const string TimestampTooOld = "timestamp_too_old";
}

/// <summary>One use of a feature by a user, as sent to <c>POST /v1/usage/events</c>; at most 32 KB of JSON.</summary>
/// <param name="UserId">1–128 characters: a UUID, or the enterprise's own id of the user.</param>
/// <param name="FeatureName">1–100 characters.</param>
/// <param name="EventId">A UUID that makes a retry recognisable; without it every sending is another event.</param>
/// <param name="EventType">1–100 characters, <c>use</c> when absent.</param>
/// <param name="EventTimestamp">ISO 8601 with offset; the server's clock when absent.</param>
/// <param name="Properties">Anything worth keeping, a JSON object at most 32 deep.</param>
public sealed record UsageEvent(
    string UserId,
    string FeatureName,
    Guid? EventId = null,
    string? EventType = null,
    DateTimeOffset? EventTimestamp = null,
    System.Text.Json.Nodes.JsonObject? Properties = null
);
