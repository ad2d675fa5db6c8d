using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.IdentityModel.Tokens;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary>What a checkpoint says.</summary>
internal sealed record CheckpointClaims(
    Guid EnterpriseId,
    long Sequence,
    string Hash,
    string PreviousHash,
    string SignedAt
)
{
    public AuditAnchor Anchor =>
        new(
            Sequence,
            Convert.FromHexString(Hash),
            Convert.FromHexString(PreviousHash),
            DateTimeOffset.Parse(SignedAt, System.Globalization.CultureInfo.InvariantCulture)
        );
}

/// <summary>Checkpoints as JWS in compact form (RFC 7515), ES256. Their type keeps them from being taken for access tokens.</summary>
internal static class CheckpointSignature
{
    private const string Type = "audit-checkpoint+jws";
    private const string Algorithm = "ES256";
    private const int CharactersMax = 4_096;
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web);

    private sealed record Header(string Alg, string Kid, string Typ);

    private sealed record PublicKey(string Kty, string Crv, string Use, string Alg, string Kid, string X, string Y);

    public static string Sign(ECDsaSecurityKey key, CheckpointClaims claims)
    {
        string signed =
            Encode(CanonicalJson.Of(new Header(Algorithm, key.KeyId, Type), s_json))
            + '.'
            + Encode(CanonicalJson.Of(claims, s_json));
        byte[] signature = key.ECDsa.SignData(
            Encoding.ASCII.GetBytes(signed),
            HashAlgorithmName.SHA256,
            DSASignatureFormat.IeeeP1363FixedFieldConcatenation
        );
        return $"{signed}.{Base64Url.EncodeToString(signature)}";
    }

    /// <summary>The public half as a JSON Web Key.</summary>
    public static string Jwk(ECDsaSecurityKey key)
    {
        ECPoint point = key.ECDsa.ExportParameters(includePrivateParameters: false).Q;
        return CanonicalJson.Of(
            new PublicKey(
                "EC",
                "P-256",
                "sig",
                Algorithm,
                key.KeyId,
                Base64UrlEncoder.Encode(point.X),
                Base64UrlEncoder.Encode(point.Y)
            ),
            s_json
        );
    }

    /// <summary>The key id that a checkpoint names, or null: it is none.</summary>
    public static string? KeyIdOf(string jws)
    {
        try
        {
            string[] parts = jws.Split('.');
            return
                jws.Length <= CharactersMax
                && parts.Length == 3
                && Read<Header>(parts[0]) is { Alg: Algorithm, Typ: Type, Kid: { } keyId }
                ? keyId
                : null;
        }
        catch (Exception exception) when (exception is FormatException or JsonException)
        {
            return null;
        }
    }

    /// <summary>What a checkpoint says, or null: it is none of that key.</summary>
    public static CheckpointClaims? Read(string jws, JsonElement jwk)
    {
        try
        {
            if (KeyIdOf(jws) is null || jwk.Deserialize<PublicKey>(s_json) is not { Crv: "P-256" } key)
            {
                return null;
            }

            string[] parts = jws.Split('.');
            using var ecdsa = ECDsa.Create(
                new ECParameters
                {
                    Curve = ECCurve.NamedCurves.nistP256,
                    Q = new ECPoint { X = Base64Url.DecodeFromChars(key.X), Y = Base64Url.DecodeFromChars(key.Y) },
                }
            );
            return ecdsa.VerifyData(
                Encoding.ASCII.GetBytes($"{parts[0]}.{parts[1]}"),
                Base64Url.DecodeFromChars(parts[2]),
                HashAlgorithmName.SHA256,
                DSASignatureFormat.IeeeP1363FixedFieldConcatenation
            )
                ? Read<CheckpointClaims>(parts[1])
                : null;
        }
        catch (Exception exception) when (exception is FormatException or JsonException or CryptographicException)
        {
            return null;
        }
    }

    private static string Encode(string json) => Base64Url.EncodeToString(CanonicalJson.Utf8(json));

    private static T? Read<T>(string part) => JsonSerializer.Deserialize<T>(Base64Url.DecodeFromChars(part), s_json);
}
