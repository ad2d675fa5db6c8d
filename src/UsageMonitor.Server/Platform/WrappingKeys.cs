using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// The master key; several while it is being replaced: the first wraps, every one of them unwraps. It only ever wraps other
/// keys, so replacing it means to wrap those few again and nothing else.
/// </summary>
/// <remarks>
/// A wrapped key is <c>id of the wrapping key (8) ‖ nonce (12) ‖ ciphertext ‖ tag (16)</c>; the id is authenticated with the
/// context. The id is derived from the key by HKDF and tells nothing of it.
/// </remarks>
internal sealed class WrappingKeys
{
    public const int KeysMax = 8;
    public const int KeyIdBytes = 8;
    public const int OverheadBytes = KeyIdBytes + Sealing.OverheadBytes;

    private readonly List<Key> _keys = [];

    /// <param name="keys">The first wraps; each of <see cref="MasterKey.KeyBytes"/> bytes.</param>
    /// <exception cref="FormatException">None, too many, one twice, or one of another length.</exception>
    public WrappingKeys(IEnumerable<byte[]> keys)
    {
        foreach (byte[] key in keys)
        {
            if (key.Length != MasterKey.KeyBytes)
            {
                throw new FormatException($"a key must be {MasterKey.KeyBytes} bytes, base64-encoded");
            }

            var next = new Key(Derive(key, "master-key id")[..KeyIdBytes], Derive(key, "master-key wrapping"), key);
            if (Find(next.Id) is not null)
            {
                throw new FormatException("the same key is there twice");
            }

            _keys.Add(next);
        }

        if (_keys.Count is 0 or > KeysMax)
        {
            throw new FormatException($"1 to {KeysMax} keys are needed, one a line or separated by commas");
        }
    }

    /// <summary>The id of the key that wraps.</summary>
    public string FirstId => Convert.ToHexStringLower(_keys[0].Id);

    /// <summary>The ids of all, in their order.</summary>
    public IReadOnlyList<string> Ids => [.. _keys.Select(key => Convert.ToHexStringLower(key.Id))];

    /// <summary>The keys themselves, for a database from before there was a root key: one of them was it.</summary>
    public IEnumerable<byte[]> Secrets => _keys.Select(key => key.Secret);

    /// <param name="text">Base64, one key a line or separated by commas; the first wraps.</param>
    /// <exception cref="FormatException">It is not that. The message does not quote it.</exception>
    public static WrappingKeys Parse(string text) =>
        new(
            text.Split(
                    [',', '\n', '\r', '\t', ' '],
                    StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries
                )
                .Select(FromBase64)
        );

    /// <summary>Wraps a key with the first of ours; the context is bound to it as associated data.</summary>
    public byte[] Wrap(ReadOnlySpan<byte> plain, ReadOnlySpan<byte> context)
    {
        byte[] wrapped = new byte[plain.Length + OverheadBytes];
        _keys[0].Id.CopyTo(wrapped, 0);
        Sealing.Seal(_keys[0].Wrapping, plain, [.. _keys[0].Id, .. context], wrapped.AsSpan(KeyIdBytes));
        return wrapped;
    }

    /// <exception cref="CryptographicException">We do not have the key, the context is another, or it was altered.</exception>
    public byte[] Unwrap(ReadOnlySpan<byte> wrapped, ReadOnlySpan<byte> context)
    {
        if (wrapped.Length < OverheadBytes || Find(wrapped[..KeyIdBytes]) is not { } key)
        {
            throw new CryptographicException("A wrapped key is under a master key that is not there.");
        }

        return Sealing.Open(key.Wrapping, wrapped[KeyIdBytes..], [.. key.Id, .. context]);
    }

    /// <summary>The id of the key that something is wrapped by.</summary>
    public static string IdOf(ReadOnlySpan<byte> wrapped) => Convert.ToHexStringLower(wrapped[..KeyIdBytes]);

    public bool Has(string id) => Ids.Contains(id, StringComparer.Ordinal);

    private Key? Find(ReadOnlySpan<byte> id)
    {
        foreach (Key key in _keys)
        {
            if (id.SequenceEqual(key.Id))
            {
                return key;
            }
        }

        return null;
    }

    private static byte[] FromBase64(string text)
    {
        byte[] bytes = new byte[MasterKey.KeyBytes + 1];
        return Convert.TryFromBase64String(text, bytes, out int written)
            ? bytes[..written]
            : throw new FormatException($"a key must be base64 of {MasterKey.KeyBytes} bytes");
    }

    private static byte[] Derive(byte[] key, string purpose) =>
        HKDF.DeriveKey(HashAlgorithmName.SHA256, key, MasterKey.KeyBytes, info: Encoding.UTF8.GetBytes(purpose));

    private sealed record Key(byte[] Id, byte[] Wrapping, byte[] Secret);
}

/// <summary>The master key cannot be had, or is not the one this database needs; the message says what to do.</summary>
internal sealed class MasterKeyException(string message, Exception? inner = null) : Exception(message, inner);
