using System.Security.Cryptography;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Mails and posts about anomalies, written into the alerts' outbox in the transaction of what they tell of.</summary>
internal sealed partial class AnomalyNotices(Database database, ILogger<AnomalyNotices> logger)
{
    private const string ReadRecipients = "SELECT recipients FROM anomaly_settings WHERE enterprise_id = $1";

    /// <summary>Adds the deliveries of what was opened, as far as the hour's number allows; the strangest first.</summary>
    /// <returns>Whether there are any.</returns>
    public async Task<bool> AddAsync(
        NpgsqlConnection connection,
        NpgsqlBatch batch,
        EnterpriseInfo enterprise,
        EnterprisePosition position,
        List<Finding> opened,
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        var hour = new DateTime(now.Ticks - (now.Ticks % TimeSpan.TicksPerHour), DateTimeKind.Utc);
        if (position.NoticesHour != hour)
        {
            (position.NoticesHour, position.Notices) = (hour, 0);
        }

        List<Finding> told =
        [
            .. opened
                .OrderByDescending(found => found.Kind == AnomalyTerms.Stopped)
                .ThenByDescending(found => found.Score)
                .Take(AnomalyLimits.NoticesPerHourMax - position.Notices),
        ];
        if (told.Count == 0)
        {
            return false;
        }

        await using var command = new NpgsqlCommand(ReadRecipients, connection)
        {
            Parameters = { new() { Value = enterprise.EnterpriseId } },
        };
        if (await command.ExecuteScalarAsync(cancellationToken) is not byte[] sealedRecipients)
        {
            return false;
        }

        if (AnomalySettingsStore.OpenRecipients(enterprise, sealedRecipients) is not { } recipients)
        {
            LogUnreadable(enterprise.EnterpriseId);
            return false;
        }

        if (recipients.Count == 0)
        {
            return false;
        }

        Dictionary<Guid, string> names = await ReadNamesAsync(enterprise, told, cancellationToken);

        position.Notices += told.Count;
        batch.BatchCommands.Add(
            AlertOutbox.Insert([
                .. told.SelectMany(found =>
                    recipients.Select(recipient => new NewDelivery(
                        enterprise,
                        // No address is an id.
                        Guid.TryParseExact(recipient, "D", out _)
                            ? AlertRule.Webhook
                            : AlertRule.Email,
                        recipient,
                        Notice(found, names, now),
                        NewDelivery.Opened
                    ))
                ),
            ])
        );
        return true;
    }

    private const string ReadExternalIds = """
        SELECT user_id, external_id FROM users WHERE enterprise_id = $1 AND user_id = ANY ($2) AND external_id IS NOT NULL
        """;

    // What customers call their users only they may read: by the login of the enterprise, not by that of processing.
    private async Task<Dictionary<Guid, string>> ReadNamesAsync(
        EnterpriseInfo enterprise,
        List<Finding> told,
        CancellationToken cancellationToken
    )
    {
        var names = new Dictionary<Guid, string>();
        Guid[] users = [.. told.Select(found => found.UserId).Where(userId => userId != Guid.Empty).Distinct()];
        if (users.Length == 0)
        {
            return names;
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await using NpgsqlCommand command = own.Command(ReadExternalIds, enterprise.EnterpriseId, users);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            try
            {
                names[reader.GetGuid(0)] = ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(1));
            }
            catch (CryptographicException)
            {
                // Told by the UUID, which is better than not at all.
            }
        }

        return names;
    }

    private static AlertNotice Notice(Finding found, Dictionary<Guid, string> names, DateTime now) =>
        new(
            found.AnomalyId,
            AlertNotice.Anomaly,
            found.Kind == AnomalyTerms.Stopped ? AlertNotice.High : AlertNotice.Low,
            found.FeatureName.Length == 0 ? "*" : found.FeatureName,
            found.Series == AnomalyTerms.User ? "USER" : "ENTERPRISE",
            found.UserId == Guid.Empty ? null : names.GetValueOrDefault(found.UserId) ?? found.UserId.ToString(),
            found.Series == AnomalyTerms.User ? "DAILY" : "HOURLY",
            found.StartsAt,
            found.EndsAt,
            Whole(found.Kind is AnomalyTerms.Drop or AnomalyTerms.Stopped ? found.Low : found.High),
            null,
            null,
            false,
            Whole(found.Observed),
            found.StartsAt,
            now,
            found.Detail
        );

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Whom enterprise {EnterpriseId} tells of abnormal behaviour cannot be read: nobody is told until the recipients are given again."
    )]
    private partial void LogUnreadable(Guid enterpriseId);

    private static long Whole(double number) => (long)Math.Round(Math.Clamp(number, 0, 1e15));
}
