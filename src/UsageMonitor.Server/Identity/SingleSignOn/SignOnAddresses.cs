using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Where single sign-on happens, as browsers and providers see it.</summary>
internal sealed class SignOnAddresses(ServerSettings settings)
{
    public const string SignInPath = "/sign-in/sso";
    public const string CallbackPath = SignInPath + "/callback";

    /// <summary>Whether browsers reach us over TLS.</summary>
    public bool IsSecure(HttpRequest request) =>
        BaseOf(request).StartsWith("https:", StringComparison.OrdinalIgnoreCase);

    /// <summary>
    /// What an enterprise registers at its providers. Each enterprise has its own: a provider of one that sends browsers on
    /// to the provider of another gets nothing that could be redeemed (mix-up, RFC 9700, 4.4.2.2).
    /// </summary>
    public string RedirectUri(HttpRequest request, Guid enterpriseId) =>
        $"{BaseOf(request)}{CallbackPath}/{enterpriseId}";

    /// <summary>A link that leads straight to a provider.</summary>
    public string SignInUri(HttpRequest request, Guid providerId) => $"{BaseOf(request)}{SignInPath}/{providerId}";

    private string BaseOf(HttpRequest request) =>
        settings.PublicUrl ?? $"{request.Scheme}://{request.Host}{request.PathBase}";
}
