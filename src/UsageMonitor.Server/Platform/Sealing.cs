using System.Security.Cryptography;

namespace UsageMonitor.Server.Platform;

/// <summary>AES-256-GCM with a random nonce. A sealed value is <c>nonce (12) ‖ ciphertext ‖ tag (16)</c>.</summary>
internal static class Sealing
{
    public const int NonceBytes = 12;
    public const int TagBytes = 16;
    public const int OverheadBytes = NonceBytes + TagBytes;

    public static byte[] Seal(byte[] key, ReadOnlySpan<byte> plain, ReadOnlySpan<byte> context)
    {
        byte[] sealedBytes = new byte[plain.Length + OverheadBytes];
        Seal(key, plain, context, sealedBytes);
        return sealedBytes;
    }

    /// <param name="key">32 bytes.</param>
    /// <param name="plain">What to seal.</param>
    /// <param name="context">Associated data: opening needs the same.</param>
    /// <param name="destination">Exactly <c>plain.Length + OverheadBytes</c> bytes.</param>
    public static void Seal(byte[] key, ReadOnlySpan<byte> plain, ReadOnlySpan<byte> context, Span<byte> destination)
    {
        Span<byte> nonce = destination[..NonceBytes];
        RandomNumberGenerator.Fill(nonce);
        using var aes = new AesGcm(key, TagBytes);
        aes.Encrypt(nonce, plain, destination[NonceBytes..^TagBytes], destination[^TagBytes..], context);
    }

    /// <exception cref="CryptographicException">Another key or context, or the bytes were altered.</exception>
    public static byte[] Open(byte[] key, ReadOnlySpan<byte> sealedBytes, ReadOnlySpan<byte> context)
    {
        if (sealedBytes.Length < OverheadBytes)
        {
            throw new CryptographicException("A sealed value is shorter than its nonce and tag.");
        }

        byte[] plain = new byte[sealedBytes.Length - OverheadBytes];
        using var aes = new AesGcm(key, TagBytes);
        aes.Decrypt(
            sealedBytes[..NonceBytes],
            sealedBytes[NonceBytes..^TagBytes],
            sealedBytes[^TagBytes..],
            plain,
            context
        );
        return plain;
    }
}
