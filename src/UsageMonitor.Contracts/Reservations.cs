using System.Text.Json;
using System.Text.Json.Serialization;

namespace UsageMonitor.Contracts;

/// <summary><c>POST /v1/usage/reservations</c>: holds one use until it is done.</summary>
/// <param name="UserId">1–128 characters: a UUID, or the enterprise's own id of the user.</param>
/// <param name="FeatureName">1–100 characters.</param>
/// <param name="EventType">1–100 characters, <c>use</c> when absent.</param>
/// <param name="ExpiresInSeconds">1–900; 60 when absent.</param>
public sealed record ReserveRequest(
    string? UserId,
    string? FeatureName,
    string? EventType = null,
    int? ExpiresInSeconds = null
);

/// <summary>A use that is held. A refusal is answered with a <see cref="CheckResponse"/> instead.</summary>
/// <param name="ReservationId">Commit or release it by this; also the id of the event that it becomes.</param>
/// <param name="Allowed">True.</param>
/// <param name="Limit">Of the limit with the least left; null when there is none.</param>
/// <param name="Used">Of the limit, this use included.</param>
/// <param name="Remaining">Of the limit.</param>
/// <param name="ResetsAt">When the limit's window ends.</param>
/// <param name="ExpiresAt">Until when it is held.</param>
public sealed record ReserveResponse(
    Guid ReservationId,
    bool Allowed,
    long? Limit,
    long? Used,
    long? Remaining,
    DateTimeOffset? ResetsAt,
    DateTimeOffset ExpiresAt
)
{
    /// <summary>True: it could not be counted on its limits, and was let through as the enterprise chose. Absent otherwise.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? LimitsUncounted { get; init; }
}

/// <summary><c>POST /v1/usage/reservations/{reservationId}/commit</c>: what was held is done.</summary>
/// <param name="EventType">1–100 characters; the reservation's when absent.</param>
/// <param name="Properties">Of the event, a JSON object.</param>
public sealed record CommitReservationRequest(string? EventType = null, JsonElement? Properties = null);

/// <summary><c>POST /v1/admin/decisions/{receiptId}/reclassify</c>.</summary>
/// <param name="Reason">1–500 characters, kept with the refusal.</param>
public sealed record ReclassifyRequest(string? Reason);
