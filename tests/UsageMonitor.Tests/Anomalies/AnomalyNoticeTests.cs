using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using MimeKit;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Alerts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Anomalies;

/// <summary>Who is told of what stood out, through a real mail server and a real receiver of webhooks.</summary>
public sealed class AnomalyNoticeTests(Engines engines)
{
    // A Monday at 06:00 in New York.
    private static readonly DateTimeOffset s_monday = new(2026, 2, 2, 11, 0, 0, TimeSpan.Zero);

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public async Task RunAsync_WhenAFeatureSpikes_ShouldMailAndPostWhatWasExpectedAndWhatCame()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        await using Watched watched = await Watched.StartAsync(engines, s_monday.AddDays(35));
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        var webhookId = Guid.NewGuid();
        byte[] secret = WebhookSignature.NewSecret();
        await watched.ExecuteAsync(
            """
            INSERT INTO webhooks (enterprise_id, webhook_id, name, url, secret, status, created_by, created_at, updated_at)
            VALUES ($1, $2, 'hook', $3, $4, 'ACTIVE', $2, now(), now())
            """,
            enterprise.EnterpriseId,
            webhookId,
            Webhook.SealUrl(enterprise, webhookId, receiver.Url),
            Webhook.SealSecret(enterprise, webhookId, secret)
        );
        await watched.TellAsync(enterprise, "ops@acme.example", webhookId.ToString());
        await SpikeAsync(watched, enterprise);

        (string Channel, string, AlertNotice Notice)[] notices = [.. await watched.NoticesAsync(enterprise)];
        AlertNotice notice = notices
            .First(one => one.Channel == AlertRule.Email && one.Notice.FeatureName == Office.Export)
            .Notice;
        Assert.Equal(notices.Length / 2, notices.Count(one => one.Channel == AlertRule.Webhook));
        await SendAsync(watched, [.. smtp.Settings, DeliveryBench.AllowPrivate]);

        MimeMessage mail = await smtp.MailAsync("ops@acme.example", Office.Export);
        string[] said =
        [
            "Severity:     LOW",
            $"Enterprise:   {enterprise.Name}",
            $"Feature:      {Office.Export}",
            $"Who:          everybody at {enterprise.Name}",
            $"{notice.Used:N0} events of {Office.Export} in the hour from Mon 9 Mar 2026 11:00", // observed, by their clock
            "were expected, about",
            "Window:       hourly, from 2026-03-09 11:00 -04:00",
            "What happens now",
            "What to do",
            "https://usage.example/anomalies",
        ];
        Assert.All(said, words => Assert.Contains(words, mail.TextBody, StringComparison.Ordinal));

        WebhookReceiver.Posted posted = Assert.Single(
            receiver.Posts,
            post => post.Body.Contains(notice.AlertEventId.ToString(), StringComparison.Ordinal)
        );
        Assert.True(posted.IsSignedBy(WebhookSignature.Show(secret)));
        JsonElement body = JsonDocument.Parse(posted.Body).RootElement;
        JsonElement data = body.GetProperty("data");
        Assert.Equal("anomaly.detected", body.GetProperty("type").GetString());
        Assert.Equal(
            (Office.Export, notice.Used, notice.Threshold, notice.Detail),
            (
                data.GetProperty("featureName").GetString(),
                data.GetProperty("used").GetInt64(),
                data.GetProperty("threshold").GetInt64(),
                data.GetProperty("detail").GetString()
            )
        );
        Assert.True(notice.Used > notice.Threshold);
    }

    [Fact]
    public async Task RunAsync_WhenRecipientsCannotBeRead_ShouldTellNobodyAndGoOn()
    {
        await using Watched watched = await Watched.StartAsync(engines, s_monday.AddDays(35));
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        await watched.TellAsync(enterprise, "ops@acme.example");
        await watched.ExecuteAsync("UPDATE anomaly_settings SET recipients = sha256(recipients)");

        await SpikeAsync(watched, enterprise);

        Assert.Contains(await watched.FoundAsync(enterprise), one => one is { Kind: "SPIKE", Feature: Office.Export });
        Assert.Empty(await watched.NoticesAsync(enterprise));
    }

    // An office's five weeks, and then an hour with twelve times as many exports.
    private static async Task SpikeAsync(Watched watched, EnterpriseInfo enterprise)
    {
        var office = new Office(enterprise);
        DateTime monday = watched.Now;
        await watched.CountAsync(enterprise, office.Hours(s_monday.UtcDateTime, monday.AddHours(4)));
        await watched.PassAsync();
        await watched.CountAsync(
            enterprise,
            office
                .Hours(monday.AddHours(4), monday.AddHours(5))
                .Select(hour => hour with { Events = hour.Feature == Office.Export ? hour.Events * 12 : hour.Events })
        );
        await watched.AdvanceAsync(TimeSpan.FromHours(5.2), TimeSpan.FromHours(5.2));
    }

    private static async Task SendAsync(Watched watched, params (string, string)[] settings)
    {
        ServerSettings read = DeliveryBench.Settings(settings);
        using var signal = new DeliverySignal();
        using var connections = new WebhookConnections(read);
        using var sender = new DeliverySender(
            new DeliveryClaims(watched.Pipeline.Database, watched.Time),
            connections,
            watched.Pipeline.Enterprises,
            read,
            signal,
            watched.Time,
            NullLogger<DeliverySender>.Instance
        );
        await sender.SendDueAsync(Stop);
    }
}
