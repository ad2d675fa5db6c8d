using System.Text;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>Where an enterprise has alerts posted to: a row of <c>webhooks</c>. Its address may hold a token, so it is sealed like the secret.</summary>
internal sealed record Webhook(
    Guid WebhookId,
    int Version,
    string Name,
    string Url,
    string Status,
    string? InactiveBecause,
    DateTime? FormerSecretUntil,
    Guid CreatedBy,
    DateTime CreatedAt,
    DateTime UpdatedAt
)
{
    /// <summary>Webhooks of an enterprise, the inactive ones too.</summary>
    public const int WebhooksMax = 50;

    /// <summary>The columns that <see cref="Read"/> reads.</summary>
    public const string Columns = """
        webhook_id, version, name, url, status, inactive_because, former_secret_until, created_by, created_at, updated_at
        """;

    public static Webhook Read(NpgsqlDataReader reader, EnterpriseInfo enterprise)
    {
        Guid webhookId = reader.GetGuid(0);
        return new Webhook(
            webhookId,
            reader.GetInt32(1),
            reader.GetString(2),
            OpenUrl(enterprise, webhookId, reader.GetFieldValue<byte[]>(3)),
            reader.GetString(4),
            reader.IsDBNull(5) ? null : reader.GetString(5),
            reader.GetFieldValue<DateTime?>(6),
            reader.GetGuid(7),
            reader.GetFieldValue<DateTime>(8),
            reader.GetFieldValue<DateTime>(9)
        );
    }

    /// <param name="isWhole">Whether the whole address may be seen.</param>
    /// <param name="now">A former secret that signs no more is not told of.</param>
    public WebhookResponse Answer(bool isWhole, DateTimeOffset now) =>
        new(
            WebhookId,
            Version,
            Name,
            isWhole ? Url : new Uri(Url).GetLeftPart(UriPartial.Authority) + "/…",
            Status,
            InactiveBecause,
            FormerSecretUntil > now.UtcDateTime ? FormerSecretUntil : null,
            CreatedBy,
            CreatedAt,
            UpdatedAt
        );

    public static byte[] SealUrl(EnterpriseInfo enterprise, Guid webhookId, string url) =>
        Sealing.Seal(
            enterprise.DataKey,
            Encoding.UTF8.GetBytes(url),
            Context(enterprise.EnterpriseId, webhookId, "webhook-url"u8)
        );

    public static string OpenUrl(EnterpriseInfo enterprise, Guid webhookId, byte[] url) =>
        Encoding.UTF8.GetString(
            Sealing.Open(enterprise.DataKey, url, Context(enterprise.EnterpriseId, webhookId, "webhook-url"u8))
        );

    public static byte[] SealSecret(EnterpriseInfo enterprise, Guid webhookId, byte[] secret) =>
        Sealing.Seal(enterprise.DataKey, secret, Context(enterprise.EnterpriseId, webhookId, "webhook-secret"u8));

    public static byte[] OpenSecret(EnterpriseInfo enterprise, Guid webhookId, byte[] secret) =>
        Sealing.Open(enterprise.DataKey, secret, Context(enterprise.EnterpriseId, webhookId, "webhook-secret"u8));

    private static byte[] Context(Guid enterpriseId, Guid webhookId, ReadOnlySpan<byte> purpose) =>
        [.. enterpriseId.ToByteArray(), .. webhookId.ToByteArray(), .. purpose];
}
