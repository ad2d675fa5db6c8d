using System.Buffers.Binary;
using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace UsageMonitor.Tests.Identity.SecondFactors;

/// <summary>An authenticator in software, and the browser around it: honest unless told otherwise (WebAuthn level 3).</summary>
internal sealed class SoftwareAuthenticator(string origin) : IDisposable
{
    private static readonly string[] s_transports = ["internal"];
    private const byte UserPresent = 0x01;
    private const byte UserVerified = 0x04;
    private const byte AttestedData = 0x40;
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private string _userHandle = "";

    public byte[] CredentialId { get; init; } = RandomNumberGenerator.GetBytes(32);

    /// <summary>Counts up with every use, unless it is a copy.</summary>
    public uint SignCount { get; set; }

    /// <summary>Where the browser says it is.</summary>
    public string Origin { get; set; } = origin;

    /// <summary>For whom the key is used, when not for whom the options say.</summary>
    public string? RelyingParty { get; set; }

    /// <summary>Whether the owner showed a finger or a PIN.</summary>
    public bool VerifiesUser { get; set; } = true;

    /// <summary>What <c>navigator.credentials.create</c> gives.</summary>
    public JsonElement Create(JsonElement options)
    {
        _userHandle = options.GetProperty("user").GetProperty("id").GetString()!;
        ECPoint point = _key.ExportParameters(includePrivateParameters: false).Q;
        byte[] length = new byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(length, (ushort)CredentialId.Length);

        // COSE: {1: 2, 3: -7, -1: 1, -2: x, -3: y}
        byte[] cose =
        [
            0xa5,
            0x01,
            0x02,
            0x03,
            0x26,
            0x20,
            0x01,
            0x21,
            0x58,
            0x20,
            .. point.X!,
            0x22,
            0x58,
            0x20,
            .. point.Y!,
        ];
        byte[] data =
        [
            .. Data(options.GetProperty("rp").GetProperty("id").GetString()!, AttestedData),
            .. new byte[16],
            .. length,
            .. CredentialId,
            .. cose,
        ];
        byte[] attestation =
        [
            0xa3,
            .. Text("fmt"),
            .. Text("none"),
            .. Text("attStmt"),
            0xa0,
            .. Text("authData"),
            0x59,
            (byte)(data.Length >> 8),
            (byte)data.Length,
            .. data,
        ];
        return Credential(
            new
            {
                clientDataJSON = Encode(ClientData("webauthn.create", options)),
                attestationObject = Encode(attestation),
                transports = s_transports,
            }
        );
    }

    /// <summary>What <c>navigator.credentials.get</c> gives.</summary>
    public JsonElement Get(JsonElement options)
    {
        SignCount++;
        byte[] data = Data(options.GetProperty("rpId").GetString()!, 0);
        byte[] clientData = ClientData("webauthn.get", options);
        byte[] signature = _key.SignData(
            [.. data, .. SHA256.HashData(clientData)],
            HashAlgorithmName.SHA256,
            DSASignatureFormat.Rfc3279DerSequence
        );
        return Credential(
            new
            {
                clientDataJSON = Encode(clientData),
                authenticatorData = Encode(data),
                signature = Encode(signature),
                userHandle = _userHandle,
            }
        );
    }

    public void Dispose() => _key.Dispose();

    private byte[] Data(string relyingParty, byte flags)
    {
        byte[] count = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(count, SignCount);
        byte all = (byte)(flags | UserPresent | (VerifiesUser ? UserVerified : 0));
        return [.. SHA256.HashData(Encoding.UTF8.GetBytes(RelyingParty ?? relyingParty)), all, .. count];
    }

    private byte[] ClientData(string type, JsonElement options) =>
        JsonSerializer.SerializeToUtf8Bytes(
            new
            {
                type,
                challenge = options.GetProperty("challenge").GetString(),
                origin = Origin,
                crossOrigin = false,
            }
        );

    private JsonElement Credential(object response) =>
        JsonSerializer.SerializeToElement(
            new
            {
                id = Encode(CredentialId),
                rawId = Encode(CredentialId),
                type = "public-key",
                clientExtensionResults = new { },
                response,
            }
        );

    private static byte[] Text(string text) => [(byte)(0x60 | text.Length), .. Encoding.ASCII.GetBytes(text)];

    private static string Encode(byte[] bytes) => Base64Url.EncodeToString(bytes);
}
