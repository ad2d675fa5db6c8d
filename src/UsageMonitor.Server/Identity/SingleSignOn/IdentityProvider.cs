using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>An enterprise's OpenID provider as it is kept.</summary>
internal sealed record IdentityProvider
{
    public const string Active = "ACTIVE";
    public const string Inactive = "INACTIVE";

    /// <summary>The claim that <c>email_verified</c> speaks of (OpenID Connect Core, 5.1).</summary>
    public const string StandardEmailClaim = "email";
    public const string StandardDisplayNameClaim = "name";
    public const string UsualRolesClaim = "groups";
    public static readonly string[] StandardScopes = ["openid", "email", "profile"];

    public required Guid EnterpriseId { get; init; }
    public required Guid ProviderId { get; init; }
    public required string Name { get; init; }
    public required string Issuer { get; init; }
    public required string ClientId { get; init; }

    /// <summary>Sealed; see <see cref="OpenSecret"/>. Null: a public client.</summary>
    public byte[]? SealedSecret { get; init; }
    public required IReadOnlyList<string> Domains { get; init; }
    public required IReadOnlyList<string> Scopes { get; init; }
    public required string EmailClaim { get; init; }
    public required string DisplayNameClaim { get; init; }
    public required string RolesClaim { get; init; }
    public required bool TrustEmail { get; init; }
    public required IReadOnlyList<RoleMapping> RoleMapping { get; init; }
    public required IReadOnlyList<string> DefaultRoles { get; init; }
    public required bool JustInTime { get; init; }
    public required string Status { get; init; }
    public required DateTimeOffset CreatedAt { get; init; }
    public required DateTimeOffset UpdatedAt { get; init; }

    public bool IsActive => Status == Active;

    public byte[] SealSecret(byte[] dataKey, string secret) =>
        Sealing.Seal(dataKey, Encoding.UTF8.GetBytes(secret), SecretContext());

    /// <summary>The client secret, or null for a public client.</summary>
    public string? OpenSecret(byte[] dataKey) =>
        SealedSecret is null ? null : Encoding.UTF8.GetString(Sealing.Open(dataKey, SealedSecret, SecretContext()));

    /// <summary>The roles that the values of the roles claim give, and those that everybody gets.</summary>
    public IReadOnlyList<string> RolesFor(IReadOnlyCollection<string> values) =>
        [
            .. RoleMapping
                .Where(mapping => values.Contains(mapping.Value!, StringComparer.Ordinal))
                .Select(mapping => mapping.Role!)
                .Concat(DefaultRoles)
                .Where(role => role != RolePermissions.Operator)
                .Distinct(StringComparer.Ordinal),
        ];

    // A secret opens for the issuer it was given for and for no other: a changed address never receives it.
    private byte[] SecretContext() =>
        [
            .. EnterpriseId.ToByteArray(),
            .. ProviderId.ToByteArray(),
            .. "client-secret"u8,
            .. Encoding.UTF8.GetBytes(Issuer),
        ];
}

/// <summary>E-mail domains in the one form under which they are claimed and found: lower-case ASCII.</summary>
internal static class EmailDomain
{
    private const int CharactersMax = 253;
    private static readonly IdnMapping s_idn = new() { UseStd3AsciiRules = true };

    /// <summary>The domain of a normalized address, or null when it cannot be one.</summary>
    public static string? Of(string email) => Normalize(email[(email.IndexOf('@', StringComparison.Ordinal) + 1)..]);

    public static string? Normalize(string? text)
    {
        try
        {
            string domain = s_idn.GetAscii(text?.Trim() ?? "").ToLowerInvariant();
            return domain.Length <= CharactersMax && domain.Contains('.', StringComparison.Ordinal) ? domain : null;
        }
        catch (ArgumentException)
        {
            return null;
        }
    }

    public static byte[] Hash(string domain) => SHA256.HashData(Encoding.ASCII.GetBytes(domain));
}
