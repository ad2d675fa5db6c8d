using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// The root of all keys: 32 bytes from <c>MasterKey</c> (base64) or the file <c>master.key</c> in the data folder, made on
/// the first start. It wraps the enterprises' data keys; what else needs a secret derives one from it by HKDF.
/// </summary>
internal sealed class MasterKey
{
    public const int KeyBytes = 32;
    private readonly byte[] _key;

    public MasterKey(byte[] key)
    {
        if (key.Length != KeyBytes)
        {
            throw new ArgumentException($"The master key must be {KeyBytes} bytes, base64-encoded.", nameof(key));
        }

        _key = key;
    }

    /// <summary>Reads the key from configuration or its file; makes the file, readable by its owner only, when there is neither.</summary>
    public static MasterKey Load(string? base64, string dataFolder)
    {
        if (!string.IsNullOrWhiteSpace(base64))
        {
            return new MasterKey(Convert.FromBase64String(base64.Trim()));
        }

        string path = Path.Combine(dataFolder, "master.key");
        if (!File.Exists(path))
        {
            Directory.CreateDirectory(dataFolder);
            string partial = path + ".partial";
            File.Delete(partial);
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            }

            using (var file = new FileStream(partial, options))
            {
                file.Write(Encoding.ASCII.GetBytes(Convert.ToBase64String(RandomNumberGenerator.GetBytes(KeyBytes))));
                file.Flush(flushToDisk: true);
            }

            File.Move(partial, path, overwrite: false);
        }

        return new MasterKey(Convert.FromBase64String(File.ReadAllText(path).Trim()));
    }

    /// <summary>A key for one purpose, by HKDF-SHA-256 (RFC 5869).</summary>
    public byte[] Derive(string purpose) =>
        HKDF.DeriveKey(HashAlgorithmName.SHA256, _key, KeyBytes, info: Encoding.UTF8.GetBytes(purpose));

    /// <summary>The password of a database login: the same on every instance that has the master key, and kept nowhere.</summary>
    public string DatabasePassword(string login) => Convert.ToHexString(Derive("postgres-login:" + login));

    /// <summary>Wraps an enterprise's data key; the enterprise is bound to it as associated data.</summary>
    public byte[] Wrap(byte[] dataKey, Guid enterpriseId) =>
        Sealing.Seal(Derive("wrap"), dataKey, enterpriseId.ToByteArray());

    /// <exception cref="CryptographicException">The key is another master key's, another enterprise's, or was altered.</exception>
    public byte[] Unwrap(byte[] wrapped, Guid enterpriseId) =>
        Sealing.Open(Derive("wrap"), wrapped, enterpriseId.ToByteArray());
}
