using Microsoft.Extensions.Primitives;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SingleSignOn;

namespace UsageMonitor.Server.Web;

/// <summary>An identity provider as a form shows and sends it.</summary>
internal static class IdentityProviderForm
{
    /// <summary>Empty lines of the role mapping; saving gives as many again.</summary>
    public const int EmptyMappingLines = 3;

    private static readonly char[] s_betweenWords = [' ', ',', ';', '\r', '\n', '\t'];

    /// <summary>What a form starts with: the provider as it is, or what most providers are.</summary>
    public static IdentityProviderRequest Of(IdentityProviderResponse? provider) =>
        provider is null
            ? new IdentityProviderRequest(
                null,
                null,
                null,
                null,
                null,
                IdentityProvider.StandardScopes,
                IdentityProvider.StandardEmailClaim,
                IdentityProvider.StandardDisplayNameClaim,
                IdentityProvider.UsualRolesClaim
            )
            : new IdentityProviderRequest(
                provider.Name,
                provider.Issuer,
                provider.ClientId,
                null,
                provider.Domains,
                provider.Scopes,
                provider.EmailClaim,
                provider.DisplayNameClaim,
                provider.RolesClaim,
                provider.RoleMapping,
                provider.DefaultRoles,
                provider.JustInTime,
                provider.TrustEmail,
                provider.Status
            );

    /// <summary>Reads what was sent. A secret that was left empty stays as it is, unless it is to be removed.</summary>
    public static IdentityProviderRequest Read(IFormCollection form, bool isNew)
    {
        string? secret = form["clientSecret"];
        if (string.IsNullOrEmpty(secret))
        {
            secret = isNew || IsChecked(form, "removeSecret") ? "" : null;
        }

        return new IdentityProviderRequest(
            form["name"],
            form["issuer"],
            form["clientId"],
            secret,
            Words(form["domains"]),
            Words(form["scopes"]),
            form["emailClaim"],
            form["displayNameClaim"],
            form["rolesClaim"],
            [.. Mapping(form["mappedValue"], form["mappedRole"])],
            [.. form["defaultRoles"].OfType<string>()],
            IsChecked(form, "justInTime"),
            IsChecked(form, "trustEmail"),
            IsChecked(form, "active") ? IdentityProvider.Active : IdentityProvider.Inactive
        );
    }

    // A line that was left empty is none.
    private static IEnumerable<RoleMapping> Mapping(StringValues values, StringValues roles) =>
        values
            .Zip(roles, (value, role) => new RoleMapping(value, role))
            .Where(pair => !string.IsNullOrWhiteSpace(pair.Value));

    private static bool IsChecked(IFormCollection form, string name) => form[name] == "true";

    private static string[] Words(string? text) =>
        (text ?? "").Split(s_betweenWords, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
}
