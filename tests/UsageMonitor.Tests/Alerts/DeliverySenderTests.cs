using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Identity;
using Xunit;

namespace UsageMonitor.Tests.Alerts;

/// <summary>The sender against a real mail server, a real HTTP server, and a clock that stands still.</summary>
public sealed class DeliverySenderTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>, IAsyncLifetime
{
    private readonly FakeTimeProvider _time = new(TimeProvider.System.GetUtcNow());
    private DeliveryBench _bench = null!;

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _bench = new DeliveryBench(fixture, _time);
        await _bench.ClearAsync();
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    [Fact]
    public async Task SendDueAsync_WhenAMailIsDue_ShouldSendItOnceAndKeepTheAttempt()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Email, "one@example.com");
        using DeliverySender sender = _bench.Sender(smtp.Settings);

        await sender.SendDueAsync(Stop);
        await sender.SendDueAsync(Stop);

        MimeKit.MimeMessage mail = Assert.Single(smtp.MailsTo("one@example.com"));
        Assert.Equal($"{id:N}@usage-monitor.example", mail.MessageId);
        Assert.Equal(new DeliveryBench.Row(true, false, null, 1, null, false), await _bench.RowAsync(id));
        Assert.Equal(["DELIVERED 250"], await _bench.AttemptsAsync(id));
    }

    [Fact]
    public async Task SendDueAsync_WhenAWebhookIsDue_ShouldPostWhatItsReceiverCanVerify()
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        byte[] secret = WebhookSignature.NewSecret();
        Guid webhookId = await _bench.WebhookAsync(enterprise, receiver.Url, secret);
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Webhook, webhookId.ToString());
        using DeliverySender sender = _bench.Sender(DeliveryBench.AllowPrivate);

        await sender.SendDueAsync(Stop);

        WebhookReceiver.Posted posted = Assert.Single(receiver.Posts);
        Assert.Equal(id.ToString(), posted.Id);
        Assert.True(posted.IsSignedBy(WebhookSignature.Show(secret)));
        Assert.False(posted.IsSignedBy(WebhookSignature.Show(WebhookSignature.NewSecret())));
        Assert.Equal(_time.GetUtcNow().ToUnixTimeSeconds(), posted.SentAt.ToUnixTimeSeconds());
        using var body = JsonDocument.Parse(posted.Body);
        Assert.Equal("limit.reached", body.RootElement.GetProperty("type").GetString());
        JsonElement data = body.RootElement.GetProperty("data");
        Assert.Equal("ana@acme.example", data.GetProperty("subject").GetString());
        Assert.Equal(enterprise.EnterpriseId, data.GetProperty("enterpriseId").GetGuid());
        Assert.Equal(["DELIVERED 204"], await _bench.AttemptsAsync(id));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheMailServerIsDown_ShouldTryAgainLaterAndSendItOnce()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Email, "patient@example.com");
        using DeliverySender sender = _bench.Sender(smtp.Settings);
        await smtp.StopAsync();

        await sender.SendDueAsync(Stop);
        DeliveryBench.Row failed = await _bench.RowAsync(id);
        await smtp.StartAgainAsync();
        await sender.SendDueAsync(Stop); // not due yet
        Assert.Empty(smtp.MailsTo("patient@example.com"));
        _time.Advance(DeliveryRetry.FirstDelay * (1 + DeliveryRetry.Jitter));
        await sender.SendDueAsync(Stop);

        Assert.Equal(
            (false, 1, "SocketException", false),
            (failed.IsDelivered, failed.Attempts, failed.LastError, failed.IsSending)
        );
        Assert.Single(smtp.MailsTo("patient@example.com"));
        Assert.Equal(["FAILED", "DELIVERED 250"], await _bench.AttemptsAsync(id));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheMailServerRefusesForGood_ShouldGiveUpWithoutNamingAnybody()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        smtp.Answer("550 unknown@example.com does not live here");
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Email, "unknown@example.com");
        using DeliverySender sender = _bench.Sender(smtp.Settings);

        await sender.SendDueAsync(Stop);

        Assert.Equal(
            new DeliveryBench.Row(false, true, null, 1, "SMTP 550 RecipientNotAccepted", false),
            await _bench.RowAsync(id)
        );
        Assert.Equal(["FAILED 550"], await _bench.AttemptsAsync(id));
    }

    [Fact]
    public async Task SendDueAsync_WhenMailIsNotSetUp_ShouldCloseMailsAndSayWhy()
    {
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Email, "nobody@example.com");
        using DeliverySender sender = _bench.Sender();

        await sender.SendDueAsync(Stop);

        Assert.Equal(
            new DeliveryBench.Row(false, true, null, 1, DeliverySender.MailNotSetUp, false),
            await _bench.RowAsync(id)
        );
    }

    [Fact]
    public async Task SendDueAsync_WhenTheSenderDiedBeforeSending_ShouldSendItOnceAfterTheLease()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Email, "survivor@example.com");
        Assert.Single(await _bench.Claims().ClaimAsync(DeliveryBench.Room, Stop)); // and nothing more
        using DeliverySender other = _bench.Sender(smtp.Settings);

        await other.SendDueAsync(Stop);
        Assert.Empty(smtp.MailsTo("survivor@example.com"));
        Assert.True((await _bench.RowAsync(id)).IsSending);
        _time.Advance(DeliveryClaims.Lease);
        await other.SendDueAsync(Stop);

        Assert.Single(smtp.MailsTo("survivor@example.com"));
        Assert.Equal(["UNKNOWN", "DELIVERED 250"], await _bench.AttemptsAsync(id));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheSenderDiedBetweenSendingAndClosing_ShouldRepeatWithTheSameMessageId()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Email, "twice@example.com");
        ClaimedDelivery claimed = Assert.Single(await _bench.Claims().ClaimAsync(DeliveryBench.Room, Stop));
        using (var connection = new SmtpConnection(DeliveryBench.Settings(smtp.Settings).Smtp!))
        {
            MailMessage mail = AlertMail.Compose(
                enterprise,
                AlertNotice.Open(enterprise, id, claimed.Payload),
                "twice@example.com",
                "https://usage.example"
            );
            await connection.SendAsync(mail, id, Stop); // and dies
        }

        _time.Advance(DeliveryClaims.Lease);
        using DeliverySender other = _bench.Sender(smtp.Settings);
        await other.SendDueAsync(Stop);

        IReadOnlyList<MimeKit.MimeMessage> mails = smtp.MailsTo("twice@example.com");
        Assert.Equal(2, mails.Count);
        Assert.Single(mails.Select(mail => (mail.MessageId, mail.Subject, mail.TextBody)).Distinct());
        Assert.Equal(["UNKNOWN", "DELIVERED 250"], await _bench.AttemptsAsync(id));
    }

    [Fact]
    public async Task CloseFailedAsync_WhenAnotherHasTakenOverAndDelivered_ShouldChangeNothing()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Email, "late@example.com");
        ClaimedDelivery late = Assert.Single(await _bench.Claims().ClaimAsync(DeliveryBench.Room, Stop));
        _time.Advance(DeliveryClaims.Lease);
        using DeliverySender other = _bench.Sender(smtp.Settings);
        await other.SendDueAsync(Stop);

        var outcome = new DeliveryOutcome(false, false, null, "TimeoutException");
        await _bench.Claims().CloseFailedAsync(late, outcome, _time.GetUtcNow().UtcDateTime, Stop);

        Assert.Equal(new DeliveryBench.Row(true, false, null, 2, null, false), await _bench.RowAsync(id));
    }

    [Fact]
    public async Task SendDueAsync_WhenSeveralInstancesSend_ShouldSendEachOnce()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        string webhookId = (await _bench.WebhookAsync(enterprise, receiver.Url)).ToString();
        string[] addresses = [.. Enumerable.Range(0, 40).Select(i => $"one-of-{i}@example.com")];
        await _bench.WriteAsync(enterprise, AlertRule.Email, addresses);
        await _bench.WriteAsync(enterprise, AlertRule.Webhook, [.. Enumerable.Repeat(webhookId, 40)]);
        DeliverySender[] senders =
        [
            .. Enumerable.Range(0, 3).Select(_ => _bench.Sender([.. smtp.Settings, DeliveryBench.AllowPrivate])),
        ];

        await Task.WhenAll(senders.Select(sender => sender.SendDueAsync(Stop)));

        Assert.All(addresses, address => Assert.Single(smtp.MailsTo(address)));
        Assert.Equal(40, receiver.Posts.Count);
        Assert.Equal(40, receiver.Posts.Select(post => post.Id).Distinct().Count());
        Array.ForEach(senders, sender => sender.Dispose());
    }

    [Fact]
    public async Task SendDueAsync_WhenAnEndpointIsSlow_ShouldDelayNobodyElse()
    {
        await using WebhookReceiver slow = await WebhookReceiver.StartAsync();
        await using WebhookReceiver quick = await WebhookReceiver.StartAsync();
        var released = new TaskCompletionSource();
        slow.Answer = _ => released.Task;
        EnterpriseInfo busy = await _bench.EnterpriseAsync();
        EnterpriseInfo other = await _bench.EnterpriseAsync();
        string slowId = (await _bench.WebhookAsync(busy, slow.Url)).ToString();
        string besideId = (await _bench.WebhookAsync(busy, quick.Url)).ToString();
        string quickId = (await _bench.WebhookAsync(other, quick.Url)).ToString();
        await _bench.WriteAsync(busy, AlertRule.Webhook, [.. Enumerable.Repeat(slowId, 300)]);
        await _bench.WriteAsync(busy, AlertRule.Webhook, [.. Enumerable.Repeat(besideId, 20)]);
        await _bench.WriteAsync(other, AlertRule.Webhook, [.. Enumerable.Repeat(quickId, 20)]);
        using DeliverySender sender = _bench.Sender(DeliveryBench.AllowPrivate);

        await sender.StartAsync(Stop);
        await Eventually.TrueAsync(() => quick.Posts.Count == 40, "the quick endpoint has all of its own");

        Assert.InRange(slow.Posts.Count, 1, DeliveryLanes.PostsPerEndpointMax);
        released.SetResult();
        await Eventually.TrueAsync(() => slow.Posts.Count == 300, "the slow endpoint has all of its own");
        await sender.StopAsync(Stop);
    }

    [Fact]
    public async Task SendDueAsync_WhenTheReceiverIsGone_ShouldEndTheWebhook()
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        receiver.Answer = context =>
        {
            context.Response.StatusCode = 410;
            return Task.CompletedTask;
        };
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid webhookId = await _bench.WebhookAsync(enterprise, receiver.Url);
        Guid first = await _bench.WriteAsync(enterprise, AlertRule.Webhook, webhookId.ToString());
        using DeliverySender sender = _bench.Sender(DeliveryBench.AllowPrivate);

        await sender.SendDueAsync(Stop);
        Guid second = await _bench.WriteAsync(enterprise, AlertRule.Webhook, webhookId.ToString());
        await sender.SendDueAsync(Stop);

        Assert.Single(receiver.Posts);
        Assert.Equal("INACTIVE", await _bench.WebhookStatusAsync(webhookId));
        Assert.Equal(new DeliveryBench.Row(false, true, null, 1, "HTTP 410", false), await _bench.RowAsync(first));
        Assert.Equal(DeliverySender.WebhookInactive, (await _bench.RowAsync(second)).LastError);
    }

    [Theory]
    [InlineData(429, 900)]
    [InlineData(503, 900)]
    [InlineData(500, 5)]
    public async Task SendDueAsync_WhenTheReceiverAsksForTime_ShouldWaitThatLong(int status, int seconds)
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        receiver.Answer = context =>
        {
            context.Response.StatusCode = status;
            context.Response.Headers.RetryAfter = "900";
            return Task.CompletedTask;
        };
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid webhookId = await _bench.WebhookAsync(enterprise, receiver.Url);
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Webhook, webhookId.ToString());
        using DeliverySender sender = _bench.Sender(DeliveryBench.AllowPrivate);

        await sender.SendDueAsync(Stop);

        DeliveryBench.Row row = await _bench.RowAsync(id);
        double waits = (row.NextAttemptAt!.Value - _time.GetUtcNow().UtcDateTime).TotalSeconds;
        Assert.InRange(waits, seconds * 0.79, seconds * 1.21);
        Assert.Equal([$"FAILED {status}"], await _bench.AttemptsAsync(id));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheReceiverRedirects_ShouldNotFollow()
    {
        await using WebhookReceiver inside = await WebhookReceiver.StartAsync();
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        receiver.Answer = context =>
        {
            context.Response.StatusCode = StatusCodes.Status307TemporaryRedirect;
            context.Response.Headers.Location = inside.Url;
            return Task.CompletedTask;
        };
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid webhookId = await _bench.WebhookAsync(enterprise, receiver.Url);
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Webhook, webhookId.ToString());
        using DeliverySender sender = _bench.Sender(DeliveryBench.AllowPrivate);

        await sender.SendDueAsync(Stop);

        Assert.Empty(inside.Posts);
        Assert.Equal("HTTP 307: redirects are not followed", (await _bench.RowAsync(id)).LastError);
    }

    [Theory]
    [InlineData("http://127.0.0.1:{0}/")]
    [InlineData("https://127.0.0.1:{0}/")]
    [InlineData("https://[::1]:{0}/")]
    [InlineData("https://[::ffff:127.0.0.1]:{0}/")]
    [InlineData("https://localhost:{0}/")]
    [InlineData("https://2130706433:{0}/")]
    [InlineData("https://169.254.169.254/latest/meta-data")]
    public async Task SendDueAsync_WhenTheAddressIsOfOnesOwnNetwork_ShouldNotGoThere(string address)
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        string url = string.Format(System.Globalization.CultureInfo.InvariantCulture, address, receiver.Port);
        EnterpriseInfo enterprise = await _bench.EnterpriseAsync();
        Guid webhookId = await _bench.WebhookAsync(enterprise, url); // as if it had been allowed once
        Guid id = await _bench.WriteAsync(enterprise, AlertRule.Webhook, webhookId.ToString());
        using DeliverySender sender = _bench.Sender();

        await sender.SendDueAsync(Stop);

        Assert.Empty(receiver.Posts);
        Assert.Matches(
            "^The address (is not on the internet|must begin with https://)$",
            (await _bench.RowAsync(id)).LastError
        );
    }
}
