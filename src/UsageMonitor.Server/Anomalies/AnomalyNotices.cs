using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Mails about anomalies, written into the alerts' outbox in the transaction of what they tell of.</summary>
internal static class AnomalyNotices
{
    private const string ReadRecipients = "SELECT recipients FROM anomaly_settings WHERE enterprise_id = $1";

    /// <summary>Adds the deliveries of what was opened, as far as the hour's number allows; the strangest first.</summary>
    /// <returns>Whether there are any.</returns>
    public static async Task<bool> AddAsync(
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

        IReadOnlyList<string> recipients = AnomalySettingsStore.OpenRecipients(enterprise, sealedRecipients);
        if (recipients.Count == 0)
        {
            return false;
        }

        position.Notices += told.Count;
        batch.BatchCommands.Add(
            AlertOutbox.Insert([
                .. told.SelectMany(found =>
                    recipients.Select(recipient => new NewDelivery(
                        enterprise,
                        AlertRule.Email,
                        recipient,
                        Notice(found, now),
                        NewDelivery.Opened
                    ))
                ),
            ])
        );
        return true;
    }

    private static AlertNotice Notice(Finding found, DateTime now) =>
        new(
            found.AnomalyId,
            AlertNotice.Anomaly,
            found.Kind == AnomalyTerms.Stopped ? AlertNotice.High : AlertNotice.Low,
            found.FeatureName.Length == 0 ? "*" : found.FeatureName,
            found.Series == AnomalyTerms.User ? "USER" : "ENTERPRISE",
            found.UserId == Guid.Empty ? null : found.UserId.ToString(),
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

    private static long Whole(double number) => (long)Math.Round(Math.Clamp(number, 0, 1e15));
}
