namespace UsageMonitor.Contracts;

/// <summary>The answer to <c>GET /v1/me</c>: who is signed in.</summary>
/// <param name="UserId">The person.</param>
/// <param name="Email">Their address.</param>
/// <param name="DisplayName">What people call them, or null.</param>
/// <param name="EnterpriseId">Their enterprise, or null for a platform operator.</param>
/// <param name="EnterpriseName">Its name.</param>
/// <param name="Roles">Names of their roles, also those of their groups.</param>
/// <param name="HasPassword">False: they sign in elsewhere.</param>
/// <param name="PasswordChangedAt">When the password was set, or null.</param>
/// <param name="SessionId">The sign-in of this request.</param>
/// <param name="MustSetUpSecondFactor">Nothing else is open to them until they have set one up.</param>
public sealed record MeResponse(
    Guid UserId,
    string Email,
    string? DisplayName,
    Guid? EnterpriseId,
    string EnterpriseName,
    IReadOnlyList<string> Roles,
    bool HasPassword,
    DateTimeOffset? PasswordChangedAt,
    Guid SessionId,
    bool MustSetUpSecondFactor
);

/// <summary><c>PUT /v1/me</c>.</summary>
/// <param name="DisplayName">1–100 characters, or null for none.</param>
public sealed record ChangeMeRequest(string? DisplayName = null);

/// <summary><c>PUT /v1/me/password</c>.</summary>
/// <param name="Current">The password until now.</param>
/// <param name="New">12–128 characters.</param>
public sealed record ChangePasswordRequest(string? Current, string? New);

/// <summary>The answer to <c>GET /v1/me/sessions</c>: where the person is signed in, newest first.</summary>
/// <param name="Sessions">At most as many as asked for.</param>
/// <param name="Next">For <c>after</c>, or null: that was all.</param>
public sealed record SessionsResponse(IReadOnlyList<SessionSummary> Sessions, string? Next);

/// <summary>A sign-in that still stands.</summary>
/// <param name="SessionId">The session.</param>
/// <param name="IsThisOne">The request came by it.</param>
/// <param name="Method"><c>password</c>, <c>passkey</c> or <c>sso</c>.</param>
/// <param name="SecondFactor"><c>totp</c>, <c>passkey</c>, <c>recovery</c> or null.</param>
/// <param name="InBrowser">False: over the API.</param>
/// <param name="Address">The IP address it was begun from, or null.</param>
/// <param name="UserAgent">The program it was begun with, or null.</param>
/// <param name="CreatedAt">When it began.</param>
/// <param name="LastSeenAt">When it was last used, about, or null.</param>
/// <param name="ExpiresAt">When it ends by itself.</param>
public sealed record SessionSummary(
    Guid SessionId,
    bool IsThisOne,
    string Method,
    string? SecondFactor,
    bool InBrowser,
    string? Address,
    string? UserAgent,
    DateTimeOffset CreatedAt,
    DateTimeOffset? LastSeenAt,
    DateTimeOffset ExpiresAt
);

/// <summary>How many sessions were ended.</summary>
public sealed record EndedSessionsResponse(int Ended);
