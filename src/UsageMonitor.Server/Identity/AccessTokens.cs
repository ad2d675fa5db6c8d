using System.Globalization;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;

namespace UsageMonitor.Server.Identity;

/// <summary>What an access token with a good signature says.</summary>
internal sealed record AccessTokenClaims(
    Guid EnterpriseId,
    Guid UserId,
    Guid SessionId,
    string Email,
    DateTimeOffset ExpiresAt
);

/// <summary>Access tokens: JWTs (RFC 9068) signed with ES256, good for a quarter of an hour.</summary>
internal sealed class AccessTokens(SigningKeys keys, TimeProvider time)
{
    public const int LifetimeSeconds = 15 * 60;
    public const int ClockSkewSeconds = 30;
    public const string Issuer = "usage-monitor";
    public const string Audience = "usage-monitor";
    private const string TokenType = "at+jwt";
    private const string EnterpriseClaim = "ent";
    private const string RolesClaim = "roles";
    private readonly JsonWebTokenHandler _handler = new() { SetDefaultTimesOnTokenCreation = false };

    public async Task<string> IssueAsync(Person person, Guid sessionId, CancellationToken cancellationToken)
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        var descriptor = new SecurityTokenDescriptor
        {
            Issuer = Issuer,
            Audience = Audience,
            TokenType = TokenType,
            IssuedAt = now,
            Expires = now.AddSeconds(LifetimeSeconds),
            SigningCredentials = new SigningCredentials(
                await keys.SigningKeyAsync(cancellationToken),
                SecurityAlgorithms.EcdsaSha256
            ),
            Claims = new Dictionary<string, object>
            {
                [JwtRegisteredClaimNames.Sub] = person.UserId.ToString(),
                [JwtRegisteredClaimNames.Sid] = sessionId.ToString(),
                [JwtRegisteredClaimNames.Email] = person.Email,
                [JwtRegisteredClaimNames.Jti] = Guid.NewGuid().ToString(),
                [EnterpriseClaim] = person.EnterpriseId.ToString(),
                [RolesClaim] = person.Roles.ToArray(),
            },
        };
        return _handler.CreateToken(descriptor);
    }

    /// <summary>What the token says, or null when it is not one of ours, was altered, or has expired.</summary>
    public async Task<AccessTokenClaims?> ValidateAsync(string token, CancellationToken cancellationToken)
    {
        if (!_handler.CanReadToken(token))
        {
            return null;
        }

        string keyId;
        try
        {
            keyId = _handler.ReadJsonWebToken(token).Kid;
        }
        catch (Exception exception) when (exception is ArgumentException or SecurityTokenException)
        {
            return null;
        }

        await keys.LookForAsync(keyId, cancellationToken);
        TokenValidationResult result = await _handler.ValidateTokenAsync(
            token,
            new TokenValidationParameters
            {
                ValidAlgorithms = [SecurityAlgorithms.EcdsaSha256],
                ValidTypes = [TokenType],
                ValidIssuer = Issuer,
                ValidAudience = Audience,
                TryAllIssuerSigningKeys = false,
                IssuerSigningKeyResolver = (_, _, kid, _) => keys.TryGet(kid, out ECDsaSecurityKey? key) ? [key] : [],
                LifetimeValidator = (_, expires, _, _) => expires is { } at && IsBefore(at),
            }
        );
        return result.IsValid && result.SecurityToken is JsonWebToken valid ? Read(valid) : null;
    }

    private bool IsBefore(DateTime expires) => time.GetUtcNow().UtcDateTime < expires.AddSeconds(ClockSkewSeconds);

    private static AccessTokenClaims? Read(JsonWebToken token) =>
        Guid.TryParse(Text(token, EnterpriseClaim), CultureInfo.InvariantCulture, out Guid enterpriseId)
        && Guid.TryParse(Text(token, JwtRegisteredClaimNames.Sub), CultureInfo.InvariantCulture, out Guid userId)
        && Guid.TryParse(Text(token, JwtRegisteredClaimNames.Sid), CultureInfo.InvariantCulture, out Guid sessionId)
        && Text(token, JwtRegisteredClaimNames.Email) is { } email
            ? new AccessTokenClaims(
                enterpriseId,
                userId,
                sessionId,
                email,
                new DateTimeOffset(token.ValidTo, TimeSpan.Zero).AddSeconds(ClockSkewSeconds)
            )
            : null;

    private static string? Text(JsonWebToken token, string claim) =>
        token.TryGetPayloadValue(claim, out string? value) ? value : null;
}
