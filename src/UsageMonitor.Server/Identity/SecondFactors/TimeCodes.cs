using System.Security.Cryptography;
using System.Text;
using OtpNet;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>Time-based one-time codes as authenticator apps make them (RFC 6238): HMAC-SHA-1, six digits, 30 seconds.</summary>
internal static class TimeCodes
{
    public const int SecretBytes = 20; // RFC 4226, 4: 160 bits recommended
    public const int Digits = 6;
    public const int StepSeconds = 30;
    private const string Issuer = "Usage Monitor";

    public static byte[] NewSecret() => RandomNumberGenerator.GetBytes(SecretBytes);

    public static string Base32(byte[] secret) => Base32Encoding.ToString(secret).TrimEnd('=');

    /// <summary>For a QR code: <c>otpauth://totp/issuer:account?secret=…</c>.</summary>
    public static string Uri(byte[] secret, string email) =>
        $"otpauth://totp/{System.Uri.EscapeDataString(Issuer)}:{System.Uri.EscapeDataString(email)}"
        + $"?secret={Base32(secret)}&issuer={System.Uri.EscapeDataString(Issuer)}";

    /// <summary>
    /// The step after <paramref name="lastStep"/> whose code this is, or null. One step either side of now is taken, for
    /// clocks that differ and fingers that are slow (RFC 6238, 5.2).
    /// </summary>
    public static long? StepOf(byte[] secret, string? code, DateTimeOffset now, long lastStep)
    {
        string digits = new([.. (code ?? "").Where(character => character is not ' ')]);
        if (digits.Length != Digits || !digits.All(char.IsAsciiDigit))
        {
            return null;
        }

        byte[] given = Encoding.ASCII.GetBytes(digits);
        long current = now.ToUnixTimeSeconds() / StepSeconds;
        long? found = null;
        for (long step = current - 1; step <= current + 1; step++)
        {
            // All three are computed whichever is right.
            bool same = CryptographicOperations.FixedTimeEquals(given, Encoding.ASCII.GetBytes(CodeOf(secret, step)));
            if (same && step > lastStep)
            {
                found ??= step;
            }
        }

        return found;
    }

    public static string CodeOf(byte[] secret, long step) =>
        new Totp(secret, StepSeconds, OtpHashMode.Sha1, Digits).ComputeTotp(
            DateTimeOffset.FromUnixTimeSeconds(step * StepSeconds).UtcDateTime
        );
}
