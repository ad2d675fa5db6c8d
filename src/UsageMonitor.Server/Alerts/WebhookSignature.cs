using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Alerts;

/// <summary>The symmetric signatures of Standard Webhooks 1.0: HMAC-SHA-256 of <c>id.timestamp.body</c>.</summary>
internal static class WebhookSignature
{
    public const int SecretBytes = 32;
    private const string SecretPrefix = "whsec_";

    public static byte[] NewSecret() => RandomNumberGenerator.GetBytes(SecretBytes);

    /// <summary>The secret as receivers are given it.</summary>
    public static string Show(byte[] secret) => SecretPrefix + Convert.ToBase64String(secret);

    /// <param name="secrets">While secrets change there are two: a receiver is content with either.</param>
    /// <param name="id"><c>webhook-id</c>.</param>
    /// <param name="timestamp"><c>webhook-timestamp</c>: seconds since 1970.</param>
    /// <param name="body">Exactly what is sent.</param>
    /// <returns><c>webhook-signature</c>.</returns>
    public static string Sign(IReadOnlyList<byte[]> secrets, string id, long timestamp, byte[] body)
    {
        byte[] signed =
        [
            .. Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{id}.{timestamp}.")),
            .. body,
        ];
        return string.Join(
            ' ',
            secrets.Select(secret => "v1," + Convert.ToBase64String(HMACSHA256.HashData(secret, signed)))
        );
    }
}
