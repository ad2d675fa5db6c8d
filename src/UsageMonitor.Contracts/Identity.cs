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

/// <summary><c>POST /v1/admin/api-keys</c>.</summary>
/// <param name="Name">1–100 characters.</param>
/// <param name="Scopes">One or more of <c>usage:write</c>, <c>usage:backfill</c>, <c>usage:check</c>, <c>usage:read</c>,
/// <c>decisions:read</c>, <c>provisioning:write</c>, as far as the caller may give them.</param>
/// <param name="ExpiresAt">When it ends by itself, at most ten years from now; absent: not at all.</param>
/// <param name="Networks">Up to 20 IPv4 and IPv6 networks such as <c>10.0.0.0/8</c> from which alone it is accepted; absent: from anywhere.</param>
public sealed record CreateApiKeyRequest(
    string? Name,
    IReadOnlyList<string>? Scopes,
    DateTimeOffset? ExpiresAt = null,
    IReadOnlyList<string>? Networks = null
)
{
    /// <summary>What the data is processed for, 1–500 characters; absent: not recorded.</summary>
    public string? Purpose { get; init; }

    /// <summary>What allows it: one of <see cref="LegalBases"/>; absent: not recorded.</summary>
    public string? LegalBasis { get; init; }
}

/// <summary><c>PUT /v1/admin/api-keys/{id}</c>: replaces all of them.</summary>
/// <param name="Name">1–100 characters.</param>
/// <param name="ExpiresAt">As when it is made.</param>
/// <param name="Networks">As when it is made.</param>
public sealed record ChangeApiKeyRequest(
    string? Name,
    DateTimeOffset? ExpiresAt = null,
    IReadOnlyList<string>? Networks = null
)
{
    /// <summary>What the data is processed for, 1–500 characters; absent: not recorded.</summary>
    public string? Purpose { get; init; }

    /// <summary>What allows it: one of <see cref="LegalBases"/>; absent: not recorded.</summary>
    public string? LegalBasis { get; init; }
}

/// <summary><c>POST /v1/admin/api-keys/{id}/rotate</c>.</summary>
/// <param name="OverlapHours">0–720: how long the old key is accepted beside the new one.</param>
public sealed record RotateApiKeyRequest(int OverlapHours = 24);

/// <summary>What may allow that personal data is processed (GDPR, Article 6 (1)).</summary>
public static class LegalBases
{
    public const string Consent = "CONSENT";
    public const string Contract = "CONTRACT";
    public const string LegalObligation = "LEGAL_OBLIGATION";
    public const string VitalInterests = "VITAL_INTERESTS";
    public const string PublicTask = "PUBLIC_TASK";
    public const string LegitimateInterests = "LEGITIMATE_INTERESTS";
}

/// <summary>A new API key; <paramref name="ApiKey"/> is shown this once and kept only as a hash.</summary>
public sealed record CreateApiKeyResponse(Guid ApiKeyId, string ApiKey);

/// <summary>An API key as listed.</summary>
/// <param name="ApiKeyId">The key's id; not the key.</param>
/// <param name="Name">For people.</param>
/// <param name="Scopes">What it may do.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="RevokedAt">When it was revoked, or null.</param>
/// <param name="ExpiresAt">When it ends or has ended by itself, or null.</param>
/// <param name="LastUsedAt">When it was last accepted, up to a minute late, or null: never.</param>
/// <param name="Networks">Where it may be used from, or null: anywhere.</param>
/// <param name="ReplacedBy">The key that a rotation made in its place, or null.</param>
/// <param name="CreatedBy">The person, or the key, who made it.</param>
public sealed record ApiKeySummary(
    Guid ApiKeyId,
    string Name,
    IReadOnlyList<string> Scopes,
    DateTimeOffset CreatedAt,
    DateTimeOffset? RevokedAt,
    DateTimeOffset? ExpiresAt,
    DateTimeOffset? LastUsedAt,
    IReadOnlyList<string>? Networks,
    Guid? ReplacedBy,
    Guid CreatedBy
)
{
    /// <summary>What the data is processed for, or null: not recorded.</summary>
    public string? Purpose { get; init; }

    /// <summary>What allows it: one of <see cref="LegalBases"/>; or null: not recorded.</summary>
    public string? LegalBasis { get; init; }
}

/// <summary>The answer to <c>GET /v1/admin/api-keys</c>: keys, newest first, also those that have ended.</summary>
/// <param name="ApiKeys">At most as many as asked for.</param>
/// <param name="Next">For <c>after</c>, or null: that was all.</param>
public sealed record ApiKeysResponse(IReadOnlyList<ApiKeySummary> ApiKeys, string? Next);

/// <summary>An enterprise as the operator lists it.</summary>
public sealed record EnterpriseSummary(
    Guid EnterpriseId,
    string Name,
    string TimeZone,
    string Status,
    DateTimeOffset CreatedAt
);
