namespace UsageMonitor.Contracts;

/// <summary>A limit that was exceeded, or that refused somebody, in one of its windows: one row however often.</summary>
/// <param name="ViolationId">The violation.</param>
/// <param name="LimitId">The limit.</param>
/// <param name="LimitVersion">As it was when it was last violated.</param>
/// <param name="FeatureName">The limit's: a name, a beginning such as <c>export*</c>, or <c>*</c>.</param>
/// <param name="Scope"><c>USER</c>, <c>ROLE</c> or <c>ENTERPRISE</c>.</param>
/// <param name="UserId">Of scope USER: the user as the events name them.</param>
/// <param name="Role">Of scope ROLE: the role.</param>
/// <param name="WindowType"><c>HOURLY</c>, <c>DAILY</c> or <c>MONTHLY</c>.</param>
/// <param name="WindowStart">Inclusive.</param>
/// <param name="WindowEnd">Exclusive.</param>
/// <param name="Action"><c>ALERT</c>: exceeded; <c>BLOCK</c>: it refused.</param>
/// <param name="LimitValue">How much is within the limit.</param>
/// <param name="Used">Events counted in the window when it was last violated.</param>
/// <param name="Blocked">Attempts refused in the window.</param>
/// <param name="Over">What goes beyond the limit: events above it, and refused attempts.</param>
/// <param name="OpenedAt">When it was found for the first time.</param>
/// <param name="LastAt">The latest event or attempt.</param>
/// <param name="Status"><c>OPEN</c> or <c>RESOLVED</c>. What is used or refused after it was resolved opens it again.</param>
/// <param name="ResolvedAt">When somebody resolved it.</param>
/// <param name="ResolvedBy">Who: the id of a person or an API key.</param>
/// <param name="ResolvedReason">Why it is settled.</param>
public sealed record ViolationSummary(
    Guid ViolationId,
    Guid LimitId,
    int LimitVersion,
    string FeatureName,
    string Scope,
    string? UserId,
    string? Role,
    string WindowType,
    DateTimeOffset WindowStart,
    DateTimeOffset WindowEnd,
    string Action,
    long LimitValue,
    long Used,
    long Blocked,
    long Over,
    DateTimeOffset OpenedAt,
    DateTimeOffset LastAt,
    string Status,
    DateTimeOffset? ResolvedAt,
    Guid? ResolvedBy,
    string? ResolvedReason
);

/// <summary><c>GET /v1/dashboard/violations</c>, newest first.</summary>
/// <param name="Violations">A page of them.</param>
/// <param name="Next">Ask again with <c>before</c> set to this; null when there are no more.</param>
public sealed record ViolationListResponse(IReadOnlyList<ViolationSummary> Violations, Guid? Next);

/// <summary>A user with open violations.</summary>
/// <param name="UserId">As the events name them.</param>
/// <param name="OpenViolations">How many.</param>
/// <param name="Over">What goes beyond their limits altogether.</param>
/// <param name="Since">When the first of them was opened.</param>
/// <param name="Violations">The newest of them, at most 10.</param>
public sealed record ExceedingUser(
    string UserId,
    int OpenViolations,
    long Over,
    DateTimeOffset Since,
    IReadOnlyList<ViolationSummary> Violations
);

/// <summary><c>GET /v1/dashboard/users/exceeded-limits</c>, who is furthest beyond first.</summary>
/// <param name="Users">A page of them.</param>
/// <param name="Next">Ask again with <c>after</c> set to this; null when there are no more.</param>
public sealed record ExceedingUsersResponse(IReadOnlyList<ExceedingUser> Users, string? Next);

/// <summary><c>POST /v1/dashboard/violations/{violationId}/resolve</c>.</summary>
/// <param name="Reason">1–500 characters: why it is settled.</param>
public sealed record ResolveViolationRequest(string? Reason);

/// <summary><c>POST /v1/dashboard/violations/resolve</c>.</summary>
/// <param name="Ids">1–100 violations.</param>
/// <param name="Reason">1–500 characters: why they are settled.</param>
public sealed record ResolveViolationsRequest(IReadOnlyList<Guid>? Ids, string? Reason);

/// <summary>What became of each of them.</summary>
/// <param name="Resolved">Resolved now.</param>
/// <param name="AlreadyResolved">Resolved before: nothing was changed.</param>
/// <param name="NotFound">Your enterprise has no such violation.</param>
public sealed record ResolveViolationsResponse(
    IReadOnlyList<Guid> Resolved,
    IReadOnlyList<Guid> AlreadyResolved,
    IReadOnlyList<Guid> NotFound
);
