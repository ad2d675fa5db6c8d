using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text.Json;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>A sign-in under way, between the browser's leaving for the provider and its coming back.</summary>
/// <param name="EnterpriseId">Whose provider; nothing that comes back can change it.</param>
/// <param name="ProviderId">The provider.</param>
/// <param name="Issuer">As it was at the beginning.</param>
/// <param name="ClientId">As it was at the beginning.</param>
/// <param name="Nonce">What the ID token must repeat.</param>
/// <param name="Verifier">What the code's redeemer must know (PKCE).</param>
/// <param name="RedirectUri">Where the browser comes back; the provider wants to hear it again.</param>
/// <param name="ReturnUrl">Where the person wanted to go.</param>
/// <param name="BegunAt">When the browser left.</param>
internal sealed record SignOnState(
    Guid EnterpriseId,
    Guid ProviderId,
    string Issuer,
    string ClientId,
    string Nonce,
    string Verifier,
    string RedirectUri,
    string ReturnUrl,
    DateTimeOffset BegunAt
);

/// <summary>
/// Keeps sign-ins under way in the browser itself, in a cookie sealed under the master key: whoever comes back with a state
/// but from another browser has no cookie for it, and people who never come back leave nothing behind in the database.
/// </summary>
/// <remarks>
/// The state is part of what is authenticated, so a cookie opens with its own state only. That a state completes once is
/// kept in the database, in the transaction that completes it.
/// </remarks>
internal sealed class SignOnStates(MasterKey masterKey, TimeProvider time)
{
    public static readonly TimeSpan Lifetime = TimeSpan.FromMinutes(10);

    /// <summary>Several tabs may be at it at once; more than these is no person, and a request's headers are finite.</summary>
    public const int UnderWayMax = 4;

    private const int RandomBytes = 32;
    private const string CookiePrefix = "um_sso_";
    private const string HostPrefix = "__Host-";
    private const int HashCharactersInName = 16;
    private readonly byte[] _key = masterKey.Derive("sign-on-state");

    public static string NewSecret() => Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(RandomBytes));

    public static byte[] HashOf(string state) => Sessions.HashOf(state);

    /// <summary>Gives the browser a state to come back with.</summary>
    /// <returns>The parameter <c>state</c>.</returns>
    public string Begin(HttpContext context, SignOnState begun, bool secure)
    {
        string[] underWay = [.. context.Request.Cookies.Keys.Where(IsOurs)];
        if (underWay.Length >= UnderWayMax)
        {
            foreach (string name in underWay)
            {
                context.Response.Cookies.Delete(name, Options(secure));
            }
        }

        string state = NewSecret();
        byte[] sealedState = Sealing.Seal(_key, JsonSerializer.SerializeToUtf8Bytes(begun), HashOf(state));
        CookieOptions options = Options(secure);
        options.MaxAge = Lifetime;
        context.Response.Cookies.Append(NameOf(state, secure), Base64Url.EncodeToString(sealedState), options);
        return state;
    }

    /// <summary>What this browser began with the state, or null: another browser, too late, or made up. The cookie goes.</summary>
    public SignOnState? End(HttpContext context, string? state, bool secure)
    {
        if (string.IsNullOrEmpty(state))
        {
            return null;
        }

        string name = NameOf(state, secure);
        if (!context.Request.Cookies.TryGetValue(name, out string? cookie))
        {
            return null;
        }

        context.Response.Cookies.Delete(name, Options(secure));
        try
        {
            byte[] opened = Sealing.Open(_key, Base64Url.DecodeFromChars(cookie), HashOf(state));
            SignOnState begun = JsonSerializer.Deserialize<SignOnState>(opened)!;
            TimeSpan age = time.GetUtcNow() - begun.BegunAt;
            return age >= TimeSpan.Zero && age < Lifetime ? begun : null;
        }
        catch (Exception exception) when (exception is CryptographicException or FormatException)
        {
            return null;
        }
    }

    // __Host-: no other host of the domain can have set it (RFC 6265bis, 4.1.3.2). A browser takes that over TLS only.
    private static string NameOf(string state, bool secure) =>
        (secure ? HostPrefix : "")
        + CookiePrefix
        + Convert.ToHexStringLower(HashOf(state)).AsSpan(0, HashCharactersInName).ToString();

    private static bool IsOurs(string name) =>
        name.StartsWith(CookiePrefix, StringComparison.Ordinal)
        || name.StartsWith(HostPrefix + CookiePrefix, StringComparison.Ordinal);

    // Lax: the browser comes back by a link from another site, which a strict cookie would not go along with.
    private static CookieOptions Options(bool secure) =>
        new()
        {
            HttpOnly = true,
            IsEssential = true,
            Path = "/",
            SameSite = SameSiteMode.Lax,
            Secure = secure,
        };
}
