using System.Security.Cryptography;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Whom an enterprise's anomalies are told: e-mail addresses and ids of webhooks, sealed with its data key.</summary>
internal static class AnomalySettingsStore
{
    public static byte[] SealRecipients(EnterpriseInfo enterprise, IReadOnlyList<string> recipients) =>
        Sealing.Seal(
            enterprise.DataKey,
            JsonSerializer.SerializeToUtf8Bytes(recipients),
            Context(enterprise.EnterpriseId)
        );

    /// <returns>Null when they cannot be read, as after a restore with another key: nobody is told until they are given again.</returns>
    public static IReadOnlyList<string>? OpenRecipients(EnterpriseInfo enterprise, byte[] recipients)
    {
        try
        {
            return JsonSerializer.Deserialize<string[]>(
                Sealing.Open(enterprise.DataKey, recipients, Context(enterprise.EnterpriseId))
            );
        }
        catch (Exception exception) when (exception is CryptographicException or JsonException)
        {
            return null;
        }
    }

    private const string ReadRecipients = "SELECT recipients FROM anomaly_settings WHERE enterprise_id = $1";

    public static async Task<IReadOnlyList<string>> ReadAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(ReadRecipients, enterprise.EnterpriseId);
        return await command.ExecuteScalarAsync(cancellationToken) is byte[] recipients
            ? OpenRecipients(enterprise, recipients) ?? []
            : [];
    }

    private static byte[] Context(Guid enterpriseId) => [.. enterpriseId.ToByteArray(), .. "anomaly-recipients"u8];
}
