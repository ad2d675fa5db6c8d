using Npgsql;
using Xunit;

namespace UsageMonitor.EndToEnd.Alerts;

/// <summary>Holds what is stored, and what arrived, against what must be.</summary>
internal sealed class DrillCheck(NpgsqlDataSource owner, MailServer mails, HookReceiver hooks)
{
    private sealed record Alert(Guid AlertEventId, AlertIdentity Identity, bool IsRaised);

    private sealed record Delivery(
        Guid AlertEventId,
        string Id,
        string Channel,
        string Cause,
        int Attempts,
        bool IsDelivered
    );

    /// <summary>Whether nothing is waiting to be sent.</summary>
    public async Task<bool> AllSentAsync()
    {
        await using NpgsqlCommand command = owner.CreateCommand(
            "SELECT count(*) FROM alert_deliveries WHERE next_attempt_at IS NOT NULL"
        );
        return (long)(await command.ExecuteScalarAsync())! == 0;
    }

    /// <returns>What there was, for the test's output.</returns>
    public async Task<string> RunAsync(DrillTenant tenant)
    {
        HashSet<AlertIdentity> expected = ExpectedAlerts.Of(tenant, DateTimeOffset.UtcNow);
        List<Alert> alerts = await AlertsAsync(tenant);
        List<AlertIdentity> stored = alerts.ConvertAll(alert => alert.Identity);
        Assert.True(
            expected.SetEquals(stored) && stored.Count == expected.Count,
            $"missing: {string.Join("; ", expected.Except(stored).Take(5))}\nextra: {string.Join("; ", stored.Except(expected).Take(5))}"
        );
        Assert.Contains(expected, alert => alert.Severity == "LOW");
        Assert.Contains(expected, alert => alert.Severity == "HIGH");

        List<Delivery> deliveries = await DeliveriesAsync(tenant);
        CheckOutbox(tenant, alerts, deliveries);
        int mailRepeats = CheckMails(tenant, alerts, deliveries);
        int postRepeats = CheckPosts(tenant, deliveries);
        return $"{tenant.Tenant.Name}: {tenant.Acknowledged.Count} events, {alerts.Count} alerts "
            + $"({alerts.Count(alert => alert.Identity.Severity == "HIGH")} HIGH, {alerts.Count(alert => alert.IsRaised)} raised from LOW), "
            + $"{deliveries.Count} deliveries, each arrived; repeated with the same id: {mailRepeats} mails, {postRepeats} posts";
    }

    // One delivery to each recipient when it is opened, and one when it is raised.
    private static void CheckOutbox(DrillTenant tenant, List<Alert> alerts, List<Delivery> deliveries)
    {
        Dictionary<Guid, int> recipients = tenant.Rules.ToDictionary(
            rule => rule.AlertId,
            rule => rule.Recipients.Count
        );
        ILookup<(Guid, string), Delivery> of = deliveries.ToLookup(one => (one.AlertEventId, one.Cause));
        foreach (Alert alert in alerts)
        {
            int each = recipients[alert.Identity.AlertId];
            Assert.Equal(
                (each, alert.IsRaised ? each : 0),
                (of[(alert.AlertEventId, "OPENED")].Count(), of[(alert.AlertEventId, "RAISED")].Count())
            );
        }

        HashSet<Guid> known = [.. alerts.Select(alert => alert.AlertEventId)];
        Assert.All(deliveries, one => Assert.True(one.IsDelivered && known.Contains(one.AlertEventId)));
    }

    /// <returns>How many came more than once, as they may when the sender dies.</returns>
    private int CheckMails(DrillTenant tenant, List<Alert> alerts, List<Delivery> deliveries)
    {
        HashSet<string> recipients = [.. tenant.Rules.Where(IsMailed).SelectMany(rule => rule.Recipients)];
        ILookup<string, ArrivedMail> arrived = mails
            .Mails.Where(mail => recipients.Contains(mail.To))
            .ToLookup(mail => mail.Id);
        List<Delivery> expected = deliveries.FindAll(one => one.Channel == "EMAIL");
        SameIds(expected, arrived.Select(of => of.Key));
        Dictionary<Guid, Alert> alertOf = alerts.ToDictionary(alert => alert.AlertEventId);
        foreach (Delivery delivery in expected)
        {
            ArrivedMail mail = Assert.Single(arrived[delivery.Id].Distinct()); // a repeat is the same to the letter
            Assert.InRange(arrived[delivery.Id].Count(), 1, delivery.Attempts);
            Alert alert = alertOf[delivery.AlertEventId];
            bool isLow = alert.Identity.Severity == "LOW" || (alert.IsRaised && delivery.Cause == "OPENED");
            Assert.StartsWith(isLow ? "[LOW] " : "[HIGH] ", mail.Subject, StringComparison.Ordinal);
        }

        return arrived.Sum(of => of.Count() - 1);

        static bool IsMailed(Contracts.AlertRuleResponse rule) => rule.Notification == "EMAIL";
    }

    private int CheckPosts(DrillTenant tenant, List<Delivery> deliveries)
    {
        ILookup<string, PostedMessage> arrived = hooks
            .Messages.Where(message => message.Path == "/" + tenant.Tenant.Name)
            .ToLookup(message => message.Id.Replace("-", "", StringComparison.Ordinal));
        List<Delivery> expected = deliveries.FindAll(one => one.Channel == "WEBHOOK");
        SameIds(expected, arrived.Select(of => of.Key));
        foreach (Delivery delivery in expected)
        {
            Assert.Single(arrived[delivery.Id].Select(message => message.Body).Distinct());
            Assert.InRange(arrived[delivery.Id].Count(), 1, delivery.Attempts);
            Assert.All(arrived[delivery.Id], message => Assert.True(message.IsSignedBy(tenant.HookSecret)));
        }

        return arrived.Sum(of => of.Count() - 1);
    }

    private static void SameIds(List<Delivery> expected, IEnumerable<string> arrived)
    {
        string[] ids = [.. arrived];
        Assert.Empty(expected.Select(one => one.Id).Except(ids)); // lost
        Assert.Empty(ids.Except(expected.Select(one => one.Id))); // doubled, or of nothing
    }

    private async Task<List<Alert>> AlertsAsync(DrillTenant tenant)
    {
        await using NpgsqlCommand command = owner.CreateCommand(
            """
            SELECT alert_event_id, alert_id, limit_id, subject_id, window_start, severity, raised_at IS NOT NULL
              FROM alert_events WHERE enterprise_id = $1
            """
        );
        command.Parameters.Add(new NpgsqlParameter { Value = tenant.Tenant.EnterpriseId });
        var alerts = new List<Alert>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            var identity = new AlertIdentity(
                reader.GetGuid(1),
                reader.GetGuid(2),
                reader.GetGuid(3),
                reader.GetDateTime(4),
                reader.GetString(5)
            );
            alerts.Add(new Alert(reader.GetGuid(0), identity, reader.GetBoolean(6)));
        }

        return alerts;
    }

    private async Task<List<Delivery>> DeliveriesAsync(DrillTenant tenant)
    {
        await using NpgsqlCommand command = owner.CreateCommand(
            """
            SELECT alert_event_id, delivery_id, channel, cause, attempts, delivered_at IS NOT NULL
              FROM alert_deliveries WHERE enterprise_id = $1
            """
        );
        command.Parameters.Add(new NpgsqlParameter { Value = tenant.Tenant.EnterpriseId });
        var deliveries = new List<Delivery>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            deliveries.Add(
                new Delivery(
                    reader.GetGuid(0),
                    reader.GetGuid(1).ToString("N"),
                    reader.GetString(2),
                    reader.GetString(3),
                    reader.GetInt32(4),
                    reader.GetBoolean(5)
                )
            );
        }

        return deliveries;
    }
}
