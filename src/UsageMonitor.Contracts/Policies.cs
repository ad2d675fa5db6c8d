namespace UsageMonitor.Contracts;

/// <summary>Why something was refused, or allowed.</summary>
public static class DecisionCodes
{
    /// <summary>Refused: a policy forbids it, whatever others permit.</summary>
    public const string PolicyForbidden = "policy_forbidden";

    /// <summary>No policy says anything, so the enterprise's default decides: allowed or refused.</summary>
    public const string PolicyDefault = "policy_default";

    /// <summary>Allowed: a policy permits it.</summary>
    public const string PolicyPermitted = "policy_permitted";

    /// <summary>Refused: a limit with BLOCK is used up.</summary>
    public const string LimitReached = "limit_reached";

    /// <summary>Allowed: every limit with BLOCK that applies has something left.</summary>
    public const string WithinLimit = "within_limit";

    /// <summary>Usage cannot be counted at the moment: allowed or refused as the enterprise chose.</summary>
    public const string LimitUncounted = "limit_uncounted";
}

/// <summary>Whom a policy is about: whoever is in any of the lists; everybody when all are empty.</summary>
/// <param name="Users">Users as the events name them; they need not have been seen yet.</param>
/// <param name="Roles">Names of built-in or own roles.</param>
/// <param name="Groups">Ids or names of groups; answered as ids.</param>
/// <param name="ApiKeys">Ids or names of API keys, for what these keys send; answered as ids.</param>
public sealed record PolicyPrincipals(
    IReadOnlyList<string>? Users = null,
    IReadOnlyList<string>? Roles = null,
    IReadOnlyList<string>? Groups = null,
    IReadOnlyList<string>? ApiKeys = null
);

/// <summary>When a policy holds: all that are given must be met.</summary>
/// <param name="Weekdays"><c>MON</c> … <c>SUN</c>, on which the time begins; every day when empty.</param>
/// <param name="From">Local time such as <c>22:00</c> in the enterprise's zone, inclusive.</param>
/// <param name="To">Local time, exclusive; <c>24:00</c> is midnight. Before <c>From</c>: on the following day.</param>
/// <param name="Networks">Where the client sends from, such as <c>10.0.0.0/8</c> or <c>2001:db8::/32</c>.</param>
/// <param name="EventTypes">Types of events.</param>
public sealed record PolicyConditions(
    IReadOnlyList<string>? Weekdays = null,
    string? From = null,
    string? To = null,
    IReadOnlyList<string>? Networks = null,
    IReadOnlyList<string>? EventTypes = null
);

/// <summary>A policy as it is made or changed.</summary>
/// <param name="Name">1–100 characters, for people.</param>
/// <param name="Effect"><c>PERMIT</c> or <c>FORBID</c>; FORBID overrides PERMIT.</param>
/// <param name="Principals">Whom it is about; everybody when absent.</param>
/// <param name="Features">Exact names, or beginnings such as <c>export*</c>; all features when empty.</param>
/// <param name="Actions"><c>record</c> (an event is sent) and <c>check</c> (it is asked in advance); both when empty.</param>
/// <param name="Conditions">When it holds; always when absent.</param>
/// <param name="Status"><c>ACTIVE</c> (when absent) or <c>INACTIVE</c>.</param>
/// <param name="Version">Of a change: the version that is being changed. Another in between is answered 409.</param>
public sealed record PolicyRequest(
    string? Name,
    string? Effect,
    PolicyPrincipals? Principals = null,
    IReadOnlyList<string>? Features = null,
    IReadOnlyList<string>? Actions = null,
    PolicyConditions? Conditions = null,
    string? Status = null,
    int? Version = null
);

/// <summary>A policy.</summary>
/// <param name="PolicyId">The policy.</param>
/// <param name="Version">Raised by every change; refusals name it.</param>
/// <param name="Name">For people.</param>
/// <param name="Effect"><c>PERMIT</c> or <c>FORBID</c>.</param>
/// <param name="Principals">Whom it is about.</param>
/// <param name="Features">Exact names or beginnings.</param>
/// <param name="Actions"><c>record</c>, <c>check</c>.</param>
/// <param name="Conditions">When it holds.</param>
/// <param name="Status"><c>ACTIVE</c>, <c>INACTIVE</c>, or <c>DELETED</c> of a version that ended it.</param>
/// <param name="CreatedBy">Who made it; of an old version, who changed it.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="UpdatedAt">When this version was made.</param>
public sealed record PolicyResponse(
    Guid PolicyId,
    int Version,
    string Name,
    string Effect,
    PolicyPrincipals Principals,
    IReadOnlyList<string> Features,
    IReadOnlyList<string> Actions,
    PolicyConditions Conditions,
    string Status,
    Guid CreatedBy,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary><c>GET /v1/admin/policies</c>.</summary>
/// <param name="Default">What happens when no policy says anything: <c>PERMIT</c> or <c>FORBID</c>.</param>
/// <param name="Policies">As they were made.</param>
/// <param name="Next">Ask again with <c>after</c> set to this; null when there are no more.</param>
public sealed record PolicyListResponse(string Default, IReadOnlyList<PolicyResponse> Policies, Guid? Next);

/// <summary><c>PUT /v1/admin/policies/default</c>.</summary>
/// <param name="Default"><c>PERMIT</c> or <c>FORBID</c>.</param>
public sealed record PolicyDefaultRequest(string? Default);

/// <summary>One question of <c>POST /v1/usage/check</c>.</summary>
/// <param name="UserId">The user as the events name them.</param>
/// <param name="FeatureName">The feature.</param>
/// <param name="EventType"><c>use</c> when absent.</param>
public sealed record CheckQuestion(string? UserId, string? FeatureName, string? EventType = null);

/// <summary><c>POST /v1/usage/check</c>: one question, or many in <paramref name="Checks"/>.</summary>
/// <param name="UserId">The user as the events name them.</param>
/// <param name="FeatureName">The feature.</param>
/// <param name="EventType"><c>use</c> when absent.</param>
/// <param name="Checks">At most 100, instead of the others.</param>
public sealed record CheckRequest(
    string? UserId,
    string? FeatureName,
    string? EventType = null,
    IReadOnlyList<CheckQuestion>? Checks = null
);

/// <summary>Whether a user may use a feature now.</summary>
/// <param name="Allowed">They may.</param>
/// <param name="Reason">See <see cref="DecisionCodes"/>.</param>
/// <param name="Limit">Of the limit that applies; null when there is none.</param>
/// <param name="Used">Of the limit, so far.</param>
/// <param name="Remaining">Of the limit.</param>
/// <param name="ResetsAt">When the limit's window ends.</param>
/// <param name="ReceiptId">Of a refusal: look it up with <c>GET /v1/admin/decisions/{receiptId}</c>.</param>
public sealed record CheckResponse(
    bool Allowed,
    string Reason,
    long? Limit,
    long? Used,
    long? Remaining,
    DateTimeOffset? ResetsAt,
    Guid? ReceiptId
)
{
    /// <summary>The limit that applies; null when there is none.</summary>
    public Guid? LimitId { get; init; }
}

/// <summary>The answers to many questions, in their order.</summary>
public sealed record CheckResultsResponse(IReadOnlyList<CheckResponse> Results);

/// <summary>A refusal.</summary>
/// <param name="ReceiptId">What the caller was given.</param>
/// <param name="DecidedAt">When.</param>
/// <param name="Source"><c>CHECK</c>: it was asked in advance. <c>INGEST</c>: an event was sent.</param>
/// <param name="Code">See <see cref="DecisionCodes"/>.</param>
/// <param name="UserId">The user as the caller named them.</param>
/// <param name="FeatureName">The feature.</param>
/// <param name="EventType">The event's type.</param>
/// <param name="Action"><c>check</c> or <c>record</c>.</param>
/// <param name="ApiKeyId">The key that asked or sent; null for a person.</param>
/// <param name="PolicyId">The policy; null when it was the default.</param>
/// <param name="PolicyVersion">The policy's version that was applied.</param>
/// <param name="EventId">Of an event.</param>
/// <param name="EventTimestamp">Of an event.</param>
public sealed record DecisionSummary(
    Guid ReceiptId,
    DateTimeOffset DecidedAt,
    string Source,
    string Code,
    string UserId,
    string FeatureName,
    string EventType,
    string Action,
    Guid? ApiKeyId,
    Guid? PolicyId,
    int? PolicyVersion,
    Guid? EventId,
    DateTimeOffset? EventTimestamp
)
{
    /// <summary>The limit that refused; null when it was a policy.</summary>
    public DecisionLimit? Limit { get; init; }

    /// <summary>When an admin made the refused event count as usage after all.</summary>
    public DateTimeOffset? ReclassifiedAt { get; init; }

    /// <summary>Who did.</summary>
    public Guid? ReclassifiedBy { get; init; }

    /// <summary>Why, in their words.</summary>
    public string? ReclassifiedReason { get; init; }
}

/// <summary>The limit that refused something, as it was.</summary>
/// <param name="LimitId">The limit.</param>
/// <param name="LimitVersion">Its version that was applied.</param>
/// <param name="LimitValue">How much is within it.</param>
/// <param name="Used">How much of it was used, the attempt not included.</param>
/// <param name="WindowStart">When the window began.</param>
/// <param name="ResetsAt">When the window ends.</param>
/// <param name="CountedAt">The instant of the count.</param>
/// <param name="FeatureName">What the limit is about; of one receipt only.</param>
/// <param name="Scope"><c>USER</c>, <c>ROLE</c> or <c>ENTERPRISE</c>; of one receipt only.</param>
/// <param name="WindowType"><c>HOURLY</c>, <c>DAILY</c> or <c>MONTHLY</c>; of one receipt only.</param>
public sealed record DecisionLimit(
    Guid LimitId,
    int LimitVersion,
    long LimitValue,
    long Used,
    DateTimeOffset WindowStart,
    DateTimeOffset ResetsAt,
    DateTimeOffset CountedAt,
    string? FeatureName = null,
    string? Scope = null,
    string? WindowType = null
);

/// <summary><c>GET /v1/admin/decisions/{receiptId}</c>.</summary>
/// <param name="Decision">What was refused.</param>
/// <param name="Explanation">Why, in words.</param>
/// <param name="Policy">The policy as it was then, whatever became of it; null when it was the default.</param>
public sealed record DecisionResponse(DecisionSummary Decision, string Explanation, PolicyResponse? Policy);

/// <summary><c>GET /v1/admin/decisions</c>, newest first.</summary>
/// <param name="Decisions">Refusals.</param>
/// <param name="Next">Ask again with <c>before</c> set to this; null when there are no more.</param>
public sealed record DecisionListResponse(IReadOnlyList<DecisionSummary> Decisions, Guid? Next);

/// <summary><c>POST /v1/admin/policies/simulate</c>.</summary>
/// <param name="Policy">The policy to try; it is not kept.</param>
/// <param name="From">The first local day.</param>
/// <param name="To">The local day after the last; at most 31 days.</param>
/// <param name="Replaces">The policy whose place it takes; it is added when absent.</param>
public sealed record SimulateRequest(PolicyRequest? Policy, string? From, string? To, Guid? Replaces = null);

/// <summary>What a policy would have meant for what was recorded.</summary>
/// <param name="Evaluated">Attempts replayed: events stored and events refused.</param>
/// <param name="WouldBeRefused">Of these, refused with the policy.</param>
/// <param name="NewlyRefused">Refused with the policy, and not with the policies as they are.</param>
/// <param name="NewlyPermitted">Refused by the policies as they are, and not with the policy.</param>
/// <param name="Users">Those with the most refusals.</param>
/// <param name="Features">Those with the most refusals.</param>
/// <param name="NotReplayed">
/// Conditions that are not recorded with events and were taken as met, in any policy: <c>networks</c>, <c>apiKeys</c>.
/// </param>
public sealed record SimulateResponse(
    long Evaluated,
    long WouldBeRefused,
    long NewlyRefused,
    long NewlyPermitted,
    IReadOnlyList<SimulatedUser> Users,
    IReadOnlyList<SimulatedFeature> Features,
    IReadOnlyList<string> NotReplayed
);

/// <summary>A user who would have been refused.</summary>
/// <param name="UserId">As the events name them.</param>
/// <param name="Refused">How often.</param>
/// <param name="FirstAt">When for the first time.</param>
public sealed record SimulatedUser(string UserId, long Refused, DateTimeOffset FirstAt);

/// <summary>A feature that would have been refused.</summary>
/// <param name="FeatureName">The feature.</param>
/// <param name="Refused">How often.</param>
/// <param name="FirstAt">When for the first time.</param>
public sealed record SimulatedFeature(string FeatureName, long Refused, DateTimeOffset FirstAt);
