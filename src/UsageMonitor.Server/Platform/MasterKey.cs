using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// What every other key comes from. The master key itself (<see cref="WrappingKeys"/>) wraps the enterprises' data keys and one
/// root key, which the database keeps; whatever else needs a secret derives one from the root by HKDF. So the master key can be
/// replaced while the passwords, indexes and seals that derive from the root stay what they are.
/// </summary>
internal sealed class MasterKey(WrappingKeys keys, byte[] root)
{
    public const int KeyBytes = 32;

    /// <summary>A data key wrapped before wrapping keys had ids: under a key derived from the root.</summary>
    private const int UnnamedBytes = KeyBytes + Sealing.OverheadBytes;

    /// <summary>A single key that is its own root, as all were before the root was kept in the database.</summary>
    public MasterKey(byte[] key)
        : this(new WrappingKeys([key]), key) { }

    public WrappingKeys Keys { get; } = keys;

    /// <summary>32 bytes. Nothing but <see cref="RootKey"/> needs them as they are.</summary>
    public byte[] Root { get; } = root;

    /// <summary>A key for one purpose, by HKDF-SHA-256 (RFC 5869).</summary>
    public byte[] Derive(string purpose) =>
        HKDF.DeriveKey(HashAlgorithmName.SHA256, Root, KeyBytes, info: Encoding.UTF8.GetBytes(purpose));

    /// <summary>The password of a database login: the same on every instance that has the root key, and kept nowhere.</summary>
    public string DatabasePassword(string login) => Convert.ToHexString(Derive("postgres-login:" + login));

    /// <summary>Wraps an enterprise's data key; the enterprise is bound to it as associated data.</summary>
    public byte[] Wrap(byte[] dataKey, Guid enterpriseId) => Keys.Wrap(dataKey, Context(enterpriseId));

    /// <exception cref="CryptographicException">The key is another master key's, another enterprise's, or was altered.</exception>
    public byte[] Unwrap(byte[] wrapped, Guid enterpriseId) =>
        wrapped.Length == UnnamedBytes
            ? Sealing.Open(Derive("wrap"), wrapped, enterpriseId.ToByteArray())
            : Keys.Unwrap(wrapped, Context(enterpriseId));

    private static byte[] Context(Guid enterpriseId) => [.. "data-key"u8, .. enterpriseId.ToByteArray()];
}
