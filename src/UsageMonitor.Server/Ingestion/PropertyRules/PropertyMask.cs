using System.Buffers;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>
/// What stands in the place of a masked value: <c>masked:</c> and 16 hexadecimal digits of an HMAC-SHA-256 under a key that derives
/// from the enterprise's data key. Equal values of an enterprise have equal masks, so they can still be counted and compared; without
/// the key nobody can try values, another enterprise's masks are others, and with the key's destruction they are noise.
/// </summary>
internal sealed class PropertyMask(byte[] key) : IDisposable
{
    /// <summary>With its quotes.</summary>
    public const int Bytes = 25;
    private const int DigestBytes = 8;
    private readonly IncrementalHash _hash = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, key);

    /// <summary>The key of an enterprise's masks.</summary>
    public static byte[] KeyOf(byte[] dataKey) =>
        HKDF.DeriveKey(HashAlgorithmName.SHA256, dataKey, 32, info: "property-mask"u8.ToArray());

    /// <param name="json">Stands on the first token of a value, and afterwards on its last one.</param>
    /// <param name="destination">Takes the mask as JSON.</param>
    public void Write(ref Utf8JsonReader json, IBufferWriter<byte> destination)
    {
        // Tokens, not bytes: neither white space nor how a character is escaped makes another value.
        int depth = json.CurrentDepth;
        bool isWhole = json.TokenType is not (JsonTokenType.StartObject or JsonTokenType.StartArray);
        Add(ref json);
        while (!isWhole && json.Read())
        {
            Add(ref json);
            isWhole =
                json.CurrentDepth == depth && json.TokenType is (JsonTokenType.EndObject or JsonTokenType.EndArray);
        }

        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        _hash.GetHashAndReset(digest);
        destination.Write("\"masked:"u8);
        destination.Write(Encoding.ASCII.GetBytes(Convert.ToHexStringLower(digest[..DigestBytes])));
        destination.Write("\""u8);
    }

    private void Add(ref Utf8JsonReader json)
    {
        byte[]? rented = null;
        ReadOnlySpan<byte> value = json.ValueSpan;
        if (json.TokenType is (JsonTokenType.String or JsonTokenType.PropertyName) && json.ValueIsEscaped)
        {
            rented = ArrayPool<byte>.Shared.Rent(value.Length);
            value = rented.AsSpan(0, json.CopyString(rented));
        }

        // The length makes the tokens' sequence unambiguous.
        Span<byte> head = stackalloc byte[1 + sizeof(int)];
        head[0] = (byte)json.TokenType;
        BinaryPrimitives.WriteInt32LittleEndian(head[1..], value.Length);
        _hash.AppendData(head);
        _hash.AppendData(value);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented, clearArray: true);
        }
    }

    public void Dispose() => _hash.Dispose();
}
