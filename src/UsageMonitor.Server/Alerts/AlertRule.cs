using System.Security.Cryptography;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>A rule that says when somebody is told: a row of <c>usage_alerts</c>.</summary>
/// <param name="AlertId">The rule.</param>
/// <param name="Version">Raised by every change.</param>
/// <param name="FeatureName">A name, a beginning such as <c>export*</c>, or <c>*</c>; a percentage is of the limits with this very pattern.</param>
/// <param name="Scope">Of an absolute threshold: each user's usage, or everybody's.</param>
/// <param name="ThresholdPct">Percent of every active limit on the feature and window; or null.</param>
/// <param name="ThresholdValue">Events in a window; or null.</param>
/// <param name="Window">What is counted in.</param>
/// <param name="Channel"><c>EMAIL</c> or <c>WEBHOOK</c>.</param>
/// <param name="Recipients">Addresses, or ids of webhooks; none: they cannot be read.</param>
/// <param name="Status"><c>ACTIVE</c> or <c>INACTIVE</c>.</param>
/// <param name="CreatedBy">Who made it.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="UpdatedAt">When this version was made.</param>
internal sealed record AlertRule(
    Guid AlertId,
    int Version,
    string FeatureName,
    LimitScope Scope,
    int? ThresholdPct,
    long? ThresholdValue,
    LimitWindow Window,
    string Channel,
    IReadOnlyList<string> Recipients,
    string Status,
    Guid CreatedBy,
    DateTime CreatedAt,
    DateTime UpdatedAt
)
{
    public const string Email = "EMAIL";
    public const string Webhook = "WEBHOOK";

    /// <summary>A status that is never stored: whom it tells cannot be read.</summary>
    public const string Broken = "BROKEN";

    /// <summary>
    /// Its recipients cannot be opened, as after a restore with another key: it tells nobody until they are given again. It must not
    /// throw, because processing reads rules, and would stand still for every enterprise of the partition.
    /// </summary>
    public bool IsBroken => Recipients.Count == 0;

    /// <summary><see cref="Status"/>, or <see cref="Broken"/> of one that is meant to be active.</summary>
    public string ShownStatus => IsBroken && Status == LimitTerms.Active ? Broken : Status;

    /// <summary>The columns that <see cref="Read"/> reads, of a table or alias <c>a</c>.</summary>
    public const string Columns = """
        a.alert_id, a.version, a.feature_name, a.scope, a.threshold_pct, a.threshold_value, a.window_type, a.notification, a.recipients,
        a.status, a.created_by, a.created_at, a.updated_at
        """;

    public static AlertRule Read(NpgsqlDataReader reader, EnterpriseInfo enterprise)
    {
        Guid alertId = reader.GetGuid(0);
        return new AlertRule(
            alertId,
            reader.GetInt32(1),
            reader.GetString(2),
            LimitTerms.Scope(reader.GetString(3))!.Value,
            reader.GetFieldValue<int?>(4),
            reader.GetFieldValue<long?>(5),
            LimitTerms.Window(reader.GetString(6))!.Value,
            reader.GetString(7),
            OpenRecipients(enterprise, alertId, reader.GetString(7), reader.GetFieldValue<byte[]>(8)),
            reader.GetString(9),
            reader.GetGuid(10),
            reader.GetFieldValue<DateTime>(11),
            reader.GetFieldValue<DateTime>(12)
        );
    }

    public static byte[] SealRecipients(EnterpriseInfo enterprise, Guid alertId, IReadOnlyList<string> recipients) =>
        Sealing.Seal(
            enterprise.DataKey,
            JsonSerializer.SerializeToUtf8Bytes(recipients),
            Context(enterprise.EnterpriseId, alertId)
        );

    private static string[] OpenRecipients(
        EnterpriseInfo enterprise,
        Guid alertId,
        string channel,
        byte[] sealedRecipients
    )
    {
        try
        {
            string?[]? recipients = JsonSerializer.Deserialize<string?[]>(
                Sealing.Open(enterprise.DataKey, sealedRecipients, Context(enterprise.EnterpriseId, alertId))
            );
            return recipients is not null && recipients.All(recipient => IsRecipient(channel, recipient))
                ? [.. recipients.Select(recipient => recipient!)]
                : [];
        }
        catch (Exception exception) when (exception is CryptographicException or JsonException)
        {
            return [];
        }
    }

    private static bool IsRecipient(string channel, string? recipient) =>
        channel == Webhook ? Guid.TryParse(recipient, out _) : recipient is not null;

    private static byte[] Context(Guid enterpriseId, Guid alertId) =>
        [.. enterpriseId.ToByteArray(), .. alertId.ToByteArray(), .. "recipients"u8];
}
