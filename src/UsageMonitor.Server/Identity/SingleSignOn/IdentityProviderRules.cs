using System.Diagnostics.CodeAnalysis;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>What an identity provider may be set up to be, and by whom.</summary>
internal sealed class IdentityProviderRules(ProviderConnections connections)
{
    public const int ProvidersPerEnterpriseMax = 5;
    public const int NameCharactersMax = 100;
    public const int IssuerCharactersMax = 500;
    public const int ClientIdCharactersMax = 300;
    public const int SecretCharactersMax = 1_000;
    public const int DomainsMax = 20;
    public const int ScopesMax = 20;
    public const int ClaimCharactersMax = 100;
    public const int MappingsMax = 100;
    public const int MappedCharactersMax = 200;
    public const int DefaultRolesMax = 10;
    private const int RolesListedMax = 500;

    /// <summary>Where everybody can get an address: whoever claimed one of these would claim the world.</summary>
    private static readonly string[] s_publicDomains =
    [
        "aol.com",
        "gmail.com",
        "gmx.de",
        "gmx.net",
        "googlemail.com",
        "hotmail.com",
        "icloud.com",
        "live.com",
        "mail.com",
        "mail.ru",
        "me.com",
        "msn.com",
        "outlook.com",
        "proton.me",
        "protonmail.com",
        "qq.com",
        "web.de",
        "yahoo.com",
        "yandex.ru",
        "zoho.com",
        "163.com",
    ];

    /// <summary>
    /// Whoever sets up a provider decides who gets in as anybody of the enterprise whose address is of its domains, an
    /// EnterpriseAdmin included. So it takes all that an EnterpriseAdmin may do, not settings:write alone.
    /// </summary>
    /// <returns>The problem, or null.</returns>
    public static IResult? Refuse(Caller caller)
    {
        if (caller.EnterpriseId == Guid.Empty)
        {
            return Problems.Problem(
                403,
                "forbidden",
                "The platform's operators sign in by password and second factor."
            );
        }

        return RolePermissions.BuiltIn[RolePermissions.EnterpriseAdmin].All(caller.May)
            ? null
            : Problems.Problem(
                403,
                "forbidden",
                $"Whoever sets up single sign-on needs all permissions of {RolePermissions.EnterpriseAdmin}."
            );
    }

    /// <summary>Reads a request.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="caller">Can give no role that permits more than they may do.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The provider, with neither id, secret nor times; or the problem.</returns>
    public async Task<(IdentityProvider? Provider, IResult? Problem)> ReadAsync(
        ScopedTransaction transaction,
        Caller caller,
        IdentityProviderRequest request,
        CancellationToken cancellationToken
    )
    {
        if (WrongWith(request, out string[]? domains) is { } wrong)
        {
            return (null, Problems.Problem(400, "invalid_request", wrong));
        }

        string[] scopes = request.Scopes is { Count: > 0 } given
            ? [.. given.Distinct()]
            : IdentityProvider.StandardScopes;
        RoleMapping[] mapping = [.. (request.RoleMapping ?? []).Select(Trimmed).Distinct()];
        string[] defaults = [.. (request.DefaultRoles ?? []).Select(role => role.Trim()).Distinct()];
        string[] roles = [.. mapping.Select(pair => pair.Role!).Concat(defaults).Distinct()];
        if (await RefuseRolesAsync(transaction, caller, roles, cancellationToken) is { } problem)
        {
            return (null, problem);
        }

        var provider = new IdentityProvider
        {
            EnterpriseId = caller.EnterpriseId,
            ProviderId = Guid.Empty,
            Name = request.Name!.Trim(),
            Issuer = request.Issuer!.Trim(),
            ClientId = request.ClientId!.Trim(),
            Domains = domains,
            Scopes = scopes,
            EmailClaim = Claim(request.EmailClaim, IdentityProvider.StandardEmailClaim),
            DisplayNameClaim = Claim(request.DisplayNameClaim, IdentityProvider.StandardDisplayNameClaim),
            RolesClaim = Claim(request.RolesClaim, IdentityProvider.UsualRolesClaim),
            TrustEmail = request.TrustEmail ?? false,
            RoleMapping = mapping,
            DefaultRoles = defaults,
            JustInTime = request.JustInTime ?? true,
            Status = request.Status ?? IdentityProvider.Active,
            CreatedAt = default,
            UpdatedAt = default,
        };
        return (provider, null);
    }

    private const string ReadRoles = "SELECT role_name FROM roles WHERE enterprise_id = $1 ORDER BY role_name LIMIT $2";

    /// <summary>The roles that a provider's people can be given: the built-in ones and the enterprise's own.</summary>
    public static async Task<IReadOnlyList<string>> RolesAsync(
        Database database,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        List<string> roles =
        [
            RolePermissions.EnterpriseAdmin,
            RolePermissions.Analyst,
            RolePermissions.Auditor,
            RolePermissions.Employee,
        ];
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await using NpgsqlCommand command = transaction.Command(ReadRoles, enterpriseId, RolesListedMax);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            roles.Add(reader.GetString(0));
        }

        return roles;
    }

    private string? WrongWith(IdentityProviderRequest request, [NotNull] out string[]? domains)
    {
        domains = [.. (request.Domains ?? []).Select(domain => EmailDomain.Normalize(domain) ?? "").Distinct()];
        return !IsText(request.Name, NameCharactersMax) ? $"name must have 1 to {NameCharactersMax} characters."
            : !IsIssuer(request.Issuer) ? "issuer must be an https address without query or fragment."
            : !IsText(request.ClientId, ClientIdCharactersMax)
                ? $"clientId must have 1 to {ClientIdCharactersMax} characters."
            : request.ClientSecret is { Length: > SecretCharactersMax }
                ? $"clientSecret may have {SecretCharactersMax} characters at most."
            : domains.Length is 0 or > DomainsMax || domains.Contains("")
                ? $"domains must be 1 to {DomainsMax} domains of e-mail addresses, such as example.com."
            : domains.FirstOrDefault(s_publicDomains.Contains) is { } open
                ? $"domains: everybody can have an address of {open}."
            : request.Scopes is { Count: > 0 } scopes
            && (scopes.Count > ScopesMax || !scopes.All(IsScope) || !scopes.Contains("openid"))
                ? $"scopes must be up to {ScopesMax} words, openid among them."
            : !new[] { request.EmailClaim, request.DisplayNameClaim, request.RolesClaim }.All(IsClaim)
                ? $"Names of claims may have {ClaimCharactersMax} characters at most."
            : request.RoleMapping is { Count: > MappingsMax } ? $"roleMapping may have {MappingsMax} lines at most."
            : request.RoleMapping?.All(IsMapping) == false
                ? "roleMapping: each line needs a value of the claim and the name of a role."
            : request.DefaultRoles is { Count: > DefaultRolesMax }
            || request.DefaultRoles?.All(role => IsText(role, MappedCharactersMax)) == false
                ? $"defaultRoles may be up to {DefaultRolesMax} names of roles."
            : request.Status is not (null or IdentityProvider.Active or IdentityProvider.Inactive)
                ? $"status must be {IdentityProvider.Active} or {IdentityProvider.Inactive}."
            : null;
    }

    private const string ReadPermissions = """
        SELECT r.role_name, ARRAY(SELECT p.permission FROM role_permissions p
                                  WHERE p.enterprise_id = r.enterprise_id AND p.role_name = r.role_name)
        FROM roles r WHERE r.enterprise_id = $1 AND r.role_name = ANY($2)
        """;

    private static async Task<IResult?> RefuseRolesAsync(
        ScopedTransaction transaction,
        Caller caller,
        string[] roles,
        CancellationToken cancellationToken
    )
    {
        var known = RolePermissions
            .BuiltIn.Where(role => role.Key != RolePermissions.Operator)
            .ToDictionary(StringComparer.Ordinal);
        await using NpgsqlCommand command = transaction.Command(ReadPermissions, caller.EnterpriseId, roles);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            known.TryAdd(reader.GetString(0), reader.GetFieldValue<string[]>(1));
        }

        if (roles.FirstOrDefault(role => !known.ContainsKey(role)) is { } unknown)
        {
            return Problems.Problem(400, "unknown_role", $"Your enterprise has no role '{unknown}'.");
        }

        return roles.FirstOrDefault(role => !known[role].All(caller.May)) is { } beyond
            ? Problems.Problem(403, "role_beyond_yours", $"The role '{beyond}' permits more than you may do.")
            : null;
    }

    // As the provider's tokens say it, to the letter; so nothing may stand behind the path.
    private bool IsIssuer(string? text) =>
        text?.Trim() is { Length: <= IssuerCharactersMax } issuer
        && connections.IsAllowed(issuer)
        && !issuer.Any(character =>
            char.IsControl(character) || char.IsWhiteSpace(character) || character is '?' or '#'
        );

    private static bool IsText(string? text, int charactersMax) =>
        text?.Trim() is { Length: > 0 } trimmed && trimmed.Length <= charactersMax && !trimmed.Any(char.IsControl);

    private static bool IsClaim(string? name) => string.IsNullOrWhiteSpace(name) || IsText(name, ClaimCharactersMax);

    // RFC 6749, 3.3.
    private static bool IsScope(string? scope) =>
        scope is { Length: > 0 and <= ClaimCharactersMax }
        && scope.All(character => character is > ' ' and <= '~' and not '"' and not '\\');

    private static bool IsMapping(RoleMapping? pair) =>
        pair is not null && IsText(pair.Value, MappedCharactersMax) && IsText(pair.Role, MappedCharactersMax);

    private static RoleMapping Trimmed(RoleMapping pair) => new(pair.Value!.Trim(), pair.Role!.Trim());

    private static string Claim(string? name, string fallback) =>
        string.IsNullOrWhiteSpace(name) ? fallback : name.Trim();
}
