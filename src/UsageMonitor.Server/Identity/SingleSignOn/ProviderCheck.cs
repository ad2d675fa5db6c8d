using Microsoft.IdentityModel.Protocols.OpenIdConnect;
using Microsoft.IdentityModel.Tokens;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Looks at a provider before people have to find out: what it says of itself, and whether its keys are there.</summary>
internal sealed class ProviderCheck(ProviderMetadata metadata, ProviderConnections connections)
{
    public async Task<IdentityProviderTestResponse> RunAsync(
        IdentityProvider provider,
        CancellationToken cancellationToken
    )
    {
        OpenIdConnectConfiguration configuration;
        try
        {
            configuration = (await metadata.FetchAsync(provider.Issuer, cancellationToken)).Configuration;
        }
        catch (ProviderException exception)
        {
            return new IdentityProviderTestResponse(false, [new("discovery", false, exception.Message)]);
        }

        IdentityProviderFinding[] findings =
        [
            new("discovery", true, $"{ProviderMetadata.AddressOf(provider.Issuer)} was read."),
            new("issuer", true, $"It calls itself {configuration.Issuer}, as its tokens must."),
            Endpoints(configuration),
            Keys(configuration),
            Algorithms(configuration),
            Pkce(configuration),
            ClientAuthentication(provider, configuration),
        ];
        return new IdentityProviderTestResponse(findings.All(finding => finding.Ok), findings);
    }

    private IdentityProviderFinding Endpoints(OpenIdConnectConfiguration configuration) =>
        connections.IsAllowed(configuration.JwksUri)
            ? new(
                "endpoints",
                true,
                $"People go to {configuration.AuthorizationEndpoint}, codes to {configuration.TokenEndpoint}."
            )
            : new("endpoints", false, "It names no https address of its keys (jwks_uri).");

    private static IdentityProviderFinding Keys(OpenIdConnectConfiguration configuration)
    {
        int keys = configuration.SigningKeys.Count(key => key is not SymmetricSecurityKey);
        return keys > 0
            ? new("keys", true, keys == 1 ? "It has one signing key." : $"It has {keys} signing keys.")
            : new("keys", false, "It publishes no key that its tokens could be checked with.");
    }

    private static IdentityProviderFinding Algorithms(OpenIdConnectConfiguration configuration)
    {
        ICollection<string> offered = configuration.IdTokenSigningAlgValuesSupported;
        string ours = string.Join(", ", IdTokens.Algorithms);
        return offered.Count == 0 || offered.Any(IdTokens.Algorithms.Contains)
            ? new("algorithms", true, $"It signs with one of {ours}.")
            : new("algorithms", false, $"It signs with {string.Join(", ", offered)}; {ours} are accepted.");
    }

    // A provider that does not know PKCE ignores it; the nonce guards the code then.
    private static IdentityProviderFinding Pkce(OpenIdConnectConfiguration configuration) =>
        configuration.CodeChallengeMethodsSupported.Contains("S256")
            ? new("pkce", true, "It knows PKCE with S256.")
            : new("pkce", true, "It does not say that it knows PKCE; it is sent all the same.");

    private static IdentityProviderFinding ClientAuthentication(
        IdentityProvider provider,
        OpenIdConnectConfiguration configuration
    ) =>
        CodeExchange.AuthenticationOf(configuration, provider.SealedSecret is not null) is { } method
            ? new(
                "client_authentication",
                true,
                $"Codes are redeemed with {method}. The secret itself shows at sign-in."
            )
            : new("client_authentication", false, "It takes a client secret neither by header nor by form.");
}
