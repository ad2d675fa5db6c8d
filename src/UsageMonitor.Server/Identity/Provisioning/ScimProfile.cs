using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>What a provisioning system keeps of a person beside address and display name; sealed in the table.</summary>
internal sealed record ScimProfile(string? ExternalId, ScimName? Name, IReadOnlyList<ScimEmail> Emails)
{
    public static ScimProfile Empty { get; } = new(null, null, []);

    public byte[] Seal(EnterpriseInfo enterprise, Guid userId) =>
        Sealing.Seal(
            enterprise.DataKey,
            JsonSerializer.SerializeToUtf8Bytes(this),
            Context(enterprise.EnterpriseId, userId)
        );

    public static ScimProfile Open(EnterpriseInfo enterprise, Guid userId, byte[] sealedProfile) =>
        JsonSerializer.Deserialize<ScimProfile>(
            Sealing.Open(enterprise.DataKey, sealedProfile, Context(enterprise.EnterpriseId, userId))
        )!;

    private static byte[] Context(Guid enterpriseId, Guid userId) =>
        [.. enterpriseId.ToByteArray(), .. userId.ToByteArray(), .. "provisioned-profile"u8];
}

/// <summary>
/// A blind index: people are found by what is sealed, and the table tells nobody what that is. Each enterprise has a key of
/// its own, derived from its data key, so that equal values of two enterprises are not seen to be equal.
/// </summary>
internal sealed class ScimLookup(EnterpriseInfo enterprise)
{
    public const string ExternalId = "externalid";
    public const string Email = "emails.value";
    public const string DisplayName = "displayname";

    private readonly byte[] _key = HKDF.DeriveKey(
        HashAlgorithmName.SHA256,
        enterprise.DataKey,
        MasterKey.KeyBytes,
        info: Encoding.UTF8.GetBytes("provisioned-lookup")
    );

    /// <summary>External ids differ by case (RFC 7643, 3.1); nothing else does.</summary>
    public byte[] Of(string attribute, string value) =>
        HMACSHA256.HashData(
            _key,
            Encoding.UTF8.GetBytes($"{attribute}\0{(attribute == ExternalId ? value : value.ToLowerInvariant())}")
        );

    /// <summary>Everything that a person is found by beside address and id.</summary>
    public byte[][] Of(ScimProfile profile, string? displayName) =>
        [
            .. profile.ExternalId is { } externalId ? [Of(ExternalId, externalId)] : Array.Empty<byte[]>(),
            .. displayName is not null ? [Of(DisplayName, displayName)] : Array.Empty<byte[]>(),
            .. profile.Emails.Select(email => Of(Email, email.Value)).DistinctBy(Convert.ToHexString),
        ];
}
