using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.IdentityModel.Protocols.OpenIdConnect;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Redeems the code that a browser brought for tokens, at the provider itself (RFC 6749, 4.1.3).</summary>
internal sealed class CodeExchange(ProviderConnections connections)
{
    public const string Basic = "client_secret_basic";
    public const string Post = "client_secret_post";
    public const string None = "none";

    /// <summary>How a client with this secret shows who it is, or null when the provider takes none of our ways.</summary>
    public static string? AuthenticationOf(OpenIdConnectConfiguration configuration, bool hasSecret)
    {
        if (!hasSecret)
        {
            return None;
        }

        // Nothing said means basic (OpenID Connect Discovery, 3).
        ICollection<string> methods = configuration.TokenEndpointAuthMethodsSupported;
        return methods.Count == 0 || methods.Contains(Basic) ? Basic
            : methods.Contains(Post) ? Post
            : null;
    }

    /// <returns>The provider's answer, or null when it refuses the code.</returns>
    /// <exception cref="ProviderException">It does not answer, or not as a provider does.</exception>
    public async Task<OpenIdConnectMessage?> RedeemAsync(
        IdentityProvider provider,
        string? secret,
        OpenIdConnectConfiguration configuration,
        string code,
        string verifier,
        string redirectUri,
        CancellationToken cancellationToken
    )
    {
        var fields = new Dictionary<string, string>
        {
            ["grant_type"] = "authorization_code",
            ["code"] = code,
            ["redirect_uri"] = redirectUri,
            ["code_verifier"] = verifier,
        };
        string? authorization = null;
        switch (AuthenticationOf(configuration, secret is not null))
        {
            case Basic:
                authorization = "Basic " + BasicCredential(provider.ClientId, secret!);
                break;
            case Post:
                fields["client_id"] = provider.ClientId;
                fields["client_secret"] = secret!;
                break;
            case None:
                fields["client_id"] = provider.ClientId;
                break;
            default:
                throw new ProviderException("The provider takes no client secret, neither by header nor by form.");
        }

        using var form = new FormUrlEncodedContent(fields);
        (HttpStatusCode status, string text) = await connections.PostAsync(
            configuration.TokenEndpoint,
            form,
            authorization,
            cancellationToken
        );
        if (status is HttpStatusCode.BadRequest or HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden)
        {
            return null;
        }

        if (status != HttpStatusCode.OK)
        {
            throw new ProviderException($"{configuration.TokenEndpoint} answered with {(int)status}.");
        }

        try
        {
            var answer = new OpenIdConnectMessage(text);
            return string.IsNullOrEmpty(answer.IdToken) || string.IsNullOrEmpty(answer.AccessToken)
                ? throw new ProviderException($"{configuration.TokenEndpoint} answered without tokens.")
                : answer;
        }
        catch (Exception exception) when (exception is JsonException or ArgumentException)
        {
            throw new ProviderException($"{configuration.TokenEndpoint} answered what is not JSON.", exception);
        }
    }

    // Both are form-encoded before they become one credential (RFC 6749, 2.3.1).
    private static string BasicCredential(string clientId, string secret) =>
        Convert.ToBase64String(
            Encoding.UTF8.GetBytes($"{WebUtility.UrlEncode(clientId)}:{WebUtility.UrlEncode(secret)}")
        );
}
