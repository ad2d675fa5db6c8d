namespace UsageMonitor.Contracts;

/// <summary><c>POST /v1/admin/identity-providers</c> and <c>PUT …/{providerId}</c>: an OpenID provider that signs an enterprise's people in.</summary>
/// <param name="Name">1–100 characters; people see it.</param>
/// <param name="Issuer">The provider's issuer, exactly as its tokens say: an https address.</param>
/// <param name="ClientId">What the provider calls this platform.</param>
/// <param name="ClientSecret">
/// Never answered. Absent in a <c>PUT</c>: the old one stays, as long as issuer and client stay. Empty: a public client.
/// </param>
/// <param name="Domains">The e-mail domains whose addresses the provider may vouch for; 1–20, each claimed by one provider of the platform only.</param>
/// <param name="Scopes">What is asked for; <c>openid email profile</c> when absent.</param>
/// <param name="EmailClaim">Where the address is; <c>email</c> when absent.</param>
/// <param name="DisplayNameClaim">Where the name is; <c>name</c> when absent.</param>
/// <param name="RolesClaim">Where groups or roles are; <c>groups</c> when absent.</param>
/// <param name="RoleMapping">Which role a value of that claim gives; up to 100.</param>
/// <param name="DefaultRoles">Roles that everybody gets who signs in here.</param>
/// <param name="JustInTime">People who are unknown here are made at their first sign-in; true when absent.</param>
/// <param name="TrustEmail">The provider's addresses count as verified where it does not say; false when absent.</param>
/// <param name="Status"><c>ACTIVE</c> (when absent) or <c>INACTIVE</c>: nobody signs in by it.</param>
public sealed record IdentityProviderRequest(
    string? Name,
    string? Issuer,
    string? ClientId,
    string? ClientSecret,
    IReadOnlyList<string>? Domains,
    IReadOnlyList<string>? Scopes = null,
    string? EmailClaim = null,
    string? DisplayNameClaim = null,
    string? RolesClaim = null,
    IReadOnlyList<RoleMapping>? RoleMapping = null,
    IReadOnlyList<string>? DefaultRoles = null,
    bool? JustInTime = null,
    bool? TrustEmail = null,
    string? Status = null
);

/// <summary>A value of the provider's roles claim and the role that it gives here.</summary>
public sealed record RoleMapping(string? Value, string? Role);

/// <summary>An OpenID provider as it is set up; its secret is never answered.</summary>
/// <param name="ProviderId">The provider.</param>
/// <param name="Name">What people call it.</param>
/// <param name="Issuer">Its issuer.</param>
/// <param name="ClientId">What it calls this platform.</param>
/// <param name="HasClientSecret">False: a public client.</param>
/// <param name="Domains">Whose addresses it may vouch for.</param>
/// <param name="Scopes">What it is asked for.</param>
/// <param name="EmailClaim">Where the address is.</param>
/// <param name="DisplayNameClaim">Where the name is.</param>
/// <param name="RolesClaim">Where groups or roles are.</param>
/// <param name="RoleMapping">Which role a value of that claim gives.</param>
/// <param name="DefaultRoles">Roles that everybody gets who signs in here.</param>
/// <param name="JustInTime">People who are unknown here are made at their first sign-in.</param>
/// <param name="TrustEmail">Its addresses count as verified where it does not say.</param>
/// <param name="Status"><c>ACTIVE</c> or <c>INACTIVE</c>.</param>
/// <param name="RedirectUri">What to register at the provider.</param>
/// <param name="SignInUri">A link that leads straight to the provider.</param>
/// <param name="CreatedAt">When it was set up.</param>
/// <param name="UpdatedAt">When it was last changed.</param>
public sealed record IdentityProviderResponse(
    Guid ProviderId,
    string Name,
    string Issuer,
    string ClientId,
    bool HasClientSecret,
    IReadOnlyList<string> Domains,
    IReadOnlyList<string> Scopes,
    string EmailClaim,
    string DisplayNameClaim,
    string RolesClaim,
    IReadOnlyList<RoleMapping> RoleMapping,
    IReadOnlyList<string> DefaultRoles,
    bool JustInTime,
    bool TrustEmail,
    string Status,
    string RedirectUri,
    string SignInUri,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary>The answer to <c>POST /v1/admin/identity-providers/{providerId}/test</c>.</summary>
/// <param name="Ok">Nothing was found that would keep people from signing in.</param>
/// <param name="Findings">What was looked at, in order.</param>
public sealed record IdentityProviderTestResponse(bool Ok, IReadOnlyList<IdentityProviderFinding> Findings);

/// <summary>One thing that was looked at.</summary>
/// <param name="Code">Stable, for programs: <c>discovery</c>, <c>issuer</c>, <c>endpoints</c>, <c>keys</c>, <c>algorithms</c>, <c>pkce</c>, <c>client_authentication</c>.</param>
/// <param name="Ok">Whether it is as it must be.</param>
/// <param name="Detail">What was found, for people.</param>
public sealed record IdentityProviderFinding(string Code, bool Ok, string Detail);
