namespace UsageMonitor.Contracts;

/// <summary><c>POST /v1/auth/login</c>.</summary>
public sealed record LoginRequest(string? Email, string? Password);

/// <summary><c>POST /v1/auth/refresh</c> and <c>/logout</c>.</summary>
public sealed record RefreshRequest(string? RefreshToken);

/// <summary>The answer to a sign-in or a refresh.</summary>
/// <param name="AccessToken">A JWT (ES256) for <c>Authorization: Bearer</c>.</param>
/// <param name="RefreshToken">Good for one refresh.</param>
/// <param name="ExpiresIn">Seconds the access token is good for.</param>
/// <param name="User">Who signed in.</param>
public sealed record LoginResponse(string AccessToken, string RefreshToken, int ExpiresIn, SignedInUser User);

/// <summary>A person who signed in.</summary>
/// <param name="UserId">The person.</param>
/// <param name="Email">Their address.</param>
/// <param name="EnterpriseId">Their enterprise, or null for a platform operator.</param>
/// <param name="Roles">Names of their roles.</param>
public sealed record SignedInUser(Guid UserId, string Email, Guid? EnterpriseId, IReadOnlyList<string> Roles);

/// <summary>The answer to <c>GET /v1/auth/validate</c>: whose the token or key is and what it may do.</summary>
public sealed record ValidateResponse(
    Guid? EnterpriseId,
    Guid? UserId,
    Guid? ApiKeyId,
    string? Email,
    IReadOnlyList<string> Permissions
);

/// <summary><c>POST /v1/platform/enterprises</c> (operator).</summary>
/// <param name="Name">1–200 characters.</param>
/// <param name="TimeZone">An IANA time zone such as <c>Asia/Kolkata</c>.</param>
/// <param name="AdminEmail">The address with which the first admin signs in.</param>
/// <param name="AdminPassword">12–128 characters; when absent one is made up and answered once.</param>
public sealed record CreateEnterpriseRequest(
    string? Name,
    string? TimeZone,
    string? AdminEmail,
    string? AdminPassword = null
);

/// <summary>A new enterprise and its first admin.</summary>
public sealed record CreateEnterpriseResponse(Guid EnterpriseId, CreatedAdmin Admin);

/// <summary>The first admin; the password only when it was made up, and only this once.</summary>
public sealed record CreatedAdmin(Guid UserId, string Email, string? TemporaryPassword);

/// <summary><c>POST /v1/admin/api-keys</c> (admin).</summary>
/// <param name="Name">1–100 characters.</param>
/// <param name="Scopes">One or more of <c>usage:write</c>, <c>usage:backfill</c>, <c>usage:read</c>.</param>
public sealed record CreateApiKeyRequest(string? Name, IReadOnlyList<string>? Scopes);

/// <summary>A new API key; <paramref name="ApiKey"/> is shown this once and kept only as a hash.</summary>
public sealed record CreateApiKeyResponse(Guid ApiKeyId, string ApiKey);

/// <summary>An API key as listed.</summary>
public sealed record ApiKeySummary(
    Guid ApiKeyId,
    string Name,
    IReadOnlyList<string> Scopes,
    DateTimeOffset CreatedAt,
    DateTimeOffset? RevokedAt
);

/// <summary>An enterprise as the operator lists it.</summary>
public sealed record EnterpriseSummary(
    Guid EnterpriseId,
    string Name,
    string TimeZone,
    string Status,
    DateTimeOffset CreatedAt
);
