namespace UsageMonitor.Contracts;

/// <summary><c>POST /v1/auth/password-reset</c>. The answer is the same whether or not the address signs in.</summary>
public sealed record PasswordResetRequest(string? Email);

/// <summary><c>POST /v1/auth/password-reset/complete</c>.</summary>
/// <param name="Token">From the link.</param>
/// <param name="Password">12–128 characters, not easy to guess.</param>
public sealed record CompletePasswordResetRequest(string? Token, string? Password);

/// <summary><c>POST /v1/auth/invitations/accept</c>.</summary>
/// <param name="Token">From the link.</param>
/// <param name="Password">12–128 characters, not easy to guess.</param>
/// <param name="DisplayName">What people shall call them, up to 100 characters; absent: as the invitation said.</param>
public sealed record AcceptInvitationRequest(string? Token, string? Password, string? DisplayName = null);

/// <summary><c>POST /v1/admin/users</c>: invites a person.</summary>
/// <param name="Email">Where the invitation goes.</param>
/// <param name="DisplayName">Up to 100 characters, or absent.</param>
/// <param name="Roles">Names of roles; none may permit what the caller is not permitted.</param>
public sealed record InviteUserRequest(string? Email, string? DisplayName, IReadOnlyList<string>? Roles);

/// <summary>A person was invited, or sent a link again.</summary>
/// <param name="UserId">The person.</param>
/// <param name="Link">The one-time link to hand over, only where the platform sends no mail; shown this once.</param>
/// <param name="LinkExpiresAt">Until when it can be used.</param>
public sealed record SentLinkResponse(Guid UserId, string? Link, DateTimeOffset LinkExpiresAt);

/// <summary><c>PUT /v1/admin/users/{userId}</c>: how the person shall be.</summary>
/// <param name="DisplayName">Up to 100 characters, or null for none.</param>
/// <param name="Roles">All their own roles; those of their groups they have besides.</param>
/// <param name="Active">False: every credential of theirs is refused, within a second.</param>
public sealed record UpdateUserRequest(string? DisplayName, IReadOnlyList<string>? Roles, bool? Active);

/// <summary>A person who signs in, or is invited to.</summary>
/// <param name="UserId">The person.</param>
/// <param name="Email">Their address.</param>
/// <param name="DisplayName">What people call them, or null.</param>
/// <param name="Roles">Their own roles.</param>
/// <param name="GroupRoles">Roles they have through groups.</param>
/// <param name="Status"><c>INVITED</c>, <c>ACTIVE</c> or <c>DEACTIVATED</c>.</param>
/// <param name="Origin"><c>LOCAL</c>, <c>SSO</c> or <c>SCIM</c>.</param>
/// <param name="CreatedAt">When they were first known.</param>
public sealed record UserSummary(
    Guid UserId,
    string Email,
    string? DisplayName,
    IReadOnlyList<string> Roles,
    IReadOnlyList<string> GroupRoles,
    string Status,
    string Origin,
    DateTimeOffset CreatedAt
);

/// <summary>A page of people, oldest first.</summary>
/// <param name="Users">The people.</param>
/// <param name="Next">The <c>cursor</c> of the next page, or null: this is the last.</param>
public sealed record UserPage(IReadOnlyList<UserSummary> Users, string? Next);

/// <summary>A sign-in that has not ended.</summary>
/// <param name="SessionId">Ends it, see <c>DELETE …/sessions/{sessionId}</c>.</param>
/// <param name="Method"><c>password</c> or <c>sso</c>.</param>
/// <param name="SecondFactor"><c>totp</c>, <c>passkey</c>, <c>recovery</c>, or null.</param>
/// <param name="Address">From where it was begun.</param>
/// <param name="UserAgent">With what it was begun.</param>
/// <param name="CreatedAt">When.</param>
/// <param name="ExpiresAt">When it ends unless it is used.</param>
/// <param name="IsCurrent">The caller's own, by which this was asked.</param>
public sealed record UserSession(
    Guid SessionId,
    string Method,
    string? SecondFactor,
    string? Address,
    string? UserAgent,
    DateTimeOffset CreatedAt,
    DateTimeOffset ExpiresAt,
    bool IsCurrent
);

/// <summary><c>GET/PUT /v1/admin/security-settings</c>.</summary>
/// <param name="SecondFactorRequired">Whoever signs in with a password must show a second factor.</param>
/// <param name="PasswordSignIn">False: single sign-on only; needs an active identity provider.</param>
public sealed record SecuritySettings(bool? SecondFactorRequired, bool? PasswordSignIn);

/// <summary><c>PUT /v1/platform/enterprises/{enterpriseId}</c> (operator).</summary>
/// <param name="Name">1–200 characters.</param>
/// <param name="Status"><c>ACTIVE</c>, or <c>SUSPENDED</c>: every credential of the enterprise is refused within a second.</param>
public sealed record UpdateEnterpriseRequest(string? Name, string? Status);
