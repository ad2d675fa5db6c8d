using System.IdentityModel.Tokens.Jwt;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Protocols.OpenIdConnect;
using Microsoft.IdentityModel.Tokens;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Whom a provider has vouched for, in a token that was checked.</summary>
/// <param name="Subject">The provider's own name of the person; it never gives it to another.</param>
/// <param name="Email">As the provider writes it, or null.</param>
/// <param name="EmailVerified">What the provider says of the address; null when it says nothing.</param>
/// <param name="DisplayName">Or null.</param>
/// <param name="Roles">Values of the roles claim.</param>
internal sealed record VouchedPerson(
    string Subject,
    string? Email,
    bool? EmailVerified,
    string? DisplayName,
    IReadOnlyList<string> Roles
);

/// <summary>Checks ID tokens (OpenID Connect Core, 3.1.3.7).</summary>
internal sealed class IdTokens(ProviderMetadata metadata, TimeProvider time)
{
    /// <summary>Signatures by a private key that only the provider has; never <c>none</c>, never HMAC.</summary>
    public static readonly string[] Algorithms =
    [
        SecurityAlgorithms.RsaSha256,
        SecurityAlgorithms.RsaSsaPssSha256,
        SecurityAlgorithms.EcdsaSha256,
    ];

    public const int ClockSkewSeconds = 60;
    private const int SubjectCharactersMax = 255;
    private const int RolesMax = 2_000;

    /// <summary>A token that was issued longer ago than any sign-in takes is not of this one.</summary>
    private static readonly TimeSpan AgeMax = TimeSpan.FromHours(1);

    // What is signed with one provider's key must not be answered from what was remembered of another's.
    private static readonly CryptoProviderFactory s_noMemory = new() { CacheSignatureProviders = false };
    private static readonly JsonWebTokenHandler s_handler = new();
    private static readonly OpenIdConnectProtocolValidator s_protocol = new() { RequireTimeStampInNonce = false };

    /// <returns>Whom the token names; or null and, for the log, what is wrong with it.</returns>
    /// <exception cref="ProviderException">The provider's keys cannot be had.</exception>
    public async Task<(VouchedPerson? Person, string? Wrong)> CheckAsync(
        IdentityProvider provider,
        OpenIdConnectMessage answer,
        string nonce,
        DateTimeOffset begunAt,
        CancellationToken cancellationToken
    )
    {
        if (!s_handler.CanReadToken(answer.IdToken))
        {
            return (null, "It is no JWT.");
        }

        try
        {
            JsonWebToken read = s_handler.ReadJsonWebToken(answer.IdToken);
            LoadedMetadata known = await metadata.GetAsync(provider.Issuer, null, cancellationToken);
            if (!Has(known, read.Kid))
            {
                known = await metadata.GetAsync(provider.Issuer, begunAt, cancellationToken);
            }

            TokenValidationResult result = await s_handler.ValidateTokenAsync(
                answer.IdToken,
                Parameters(provider, known.Configuration)
            );
            if (!result.IsValid)
            {
                return (null, result.Exception?.GetType().Name ?? "It is not valid.");
            }

            var token = (JsonWebToken)result.SecurityToken;
            s_protocol.ValidateTokenResponse(
                new OpenIdConnectProtocolValidationContext
                {
                    ClientId = provider.ClientId,
                    Nonce = nonce,
                    ProtocolMessage = answer,
                    ValidatedIdToken = new JwtSecurityToken(answer.IdToken),
                }
            );
            return WrongWith(token) is { } wrong ? (null, wrong) : (Read(provider, token), null);
        }
        catch (Exception exception)
            when (exception is SecurityTokenException or ArgumentException or OpenIdConnectProtocolException)
        {
            return (null, exception.GetType().Name);
        }
    }

    private TokenValidationParameters Parameters(IdentityProvider provider, OpenIdConnectConfiguration configuration) =>
        new()
        {
            ValidIssuer = provider.Issuer,
            ValidAudience = provider.ClientId,
            ValidAlgorithms = Algorithms,
            IssuerSigningKeys = configuration.SigningKeys.Where(key => key is not SymmetricSecurityKey),
            RequireSignedTokens = true,
            CryptoProviderFactory = s_noMemory,
            LifetimeValidator = (notBefore, expires, _, _) => IsWithin(notBefore, expires),
        };

    private bool IsWithin(DateTime? notBefore, DateTime? expires)
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        return expires is { } end
            && now < end.AddSeconds(ClockSkewSeconds)
            && (notBefore is not { } start || now >= start.AddSeconds(-ClockSkewSeconds));
    }

    private string? WrongWith(JsonWebToken token)
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        if (token.IssuedAt == DateTime.MinValue)
        {
            return "It does not say when it was issued.";
        }

        if (token.IssuedAt > now.AddSeconds(ClockSkewSeconds) || token.IssuedAt < now - AgeMax)
        {
            return "It was not issued for this sign-in.";
        }

        // One that others take as well is one that others could have passed on.
        if (token.Audiences.Count() > 1 && string.IsNullOrEmpty(token.Azp))
        {
            return "It is for several audiences and names no authorized party.";
        }

        return token.Subject is { Length: > 0 and <= SubjectCharactersMax } ? null : "It names no subject.";
    }

    private static VouchedPerson Read(IdentityProvider provider, JsonWebToken token) =>
        new(
            token.Subject,
            First(token, provider.EmailClaim),
            bool.TryParse(First(token, "email_verified"), out bool verified) ? verified : null,
            First(token, provider.DisplayNameClaim),
            [
                .. token
                    .Claims.Where(claim => claim.Type == provider.RolesClaim)
                    .Select(claim => claim.Value)
                    .Take(RolesMax),
            ]
        );

    private static string? First(JsonWebToken token, string name) =>
        token.Claims.FirstOrDefault(claim => claim.Type == name)?.Value;

    private static bool Has(LoadedMetadata known, string? keyId) =>
        string.IsNullOrEmpty(keyId) || known.Configuration.SigningKeys.Any(key => key.KeyId == keyId);
}
