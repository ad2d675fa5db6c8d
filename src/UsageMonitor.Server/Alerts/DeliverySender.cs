using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text.Json;
using MailKit.Net.Smtp;
using Npgsql;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Alerts;

/// <summary>Sends what is due, from any number of instances; <see cref="DeliveryClaims"/> says what holds whoever dies when.</summary>
internal sealed partial class DeliverySender(
    DeliveryClaims claims,
    WebhookConnections webhooks,
    EnterpriseDirectory enterprises,
    ServerSettings settings,
    DeliverySignal signal,
    TimeProvider time,
    ILogger<DeliverySender> logger
) : BackgroundService
{
    public static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    /// <summary>Why a delivery by mail was never sent on a platform that sends none.</summary>
    public const string MailNotSetUp = "mail is not set up";
    public const string WebhookGone = "the webhook is gone";
    public const string WebhookInactive = "the webhook is inactive";
    private const string EndedBy410 = "it answered 410 Gone";
    private const int Gone = 410;

    /// <summary>How often and with which pause an outcome is told to a database that is away: what is not told is repeated.</summary>
    private const int CloseTriesMax = 100;
    private static readonly TimeSpan ClosePause = TimeSpan.FromMilliseconds(250);

    private readonly DeliveryLanes _lanes = new(time);
    private readonly ConcurrentDictionary<Guid, Task> _underWay = new();
    private readonly MailConnections? _mails = settings.Smtp is { } smtp ? new MailConnections(smtp, time) : null;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        try
        {
            while (!stoppingToken.IsCancellationRequested)
            {
                try
                {
                    await StartDueAsync(stoppingToken);
                    if (_underWay.IsEmpty && _mails is not null)
                    {
                        await _mails.CloseIdleAsync(stoppingToken);
                    }
                }
                catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
                {
                    OutboxAway(exception);
                }

                await signal.WaitAsync(Interval, stoppingToken);
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // A stop.
        }

        // What is under way is not cut off, or it would be repeated; each has its time limit.
        await Task.WhenAll(_underWay.Values);
    }

    /// <summary>Tries everything that is due once, and returns when all is told.</summary>
    public async Task SendDueAsync(CancellationToken cancellationToken)
    {
        while (await StartDueAsync(cancellationToken) > 0)
        {
            await Task.WhenAll(_underWay.Values);
        }
    }

    public override void Dispose()
    {
        _mails?.Dispose();
        base.Dispose();
    }

    private async Task<int> StartDueAsync(CancellationToken cancellationToken)
    {
        DeliveryRoom room = _lanes.Room();
        if (room.Mails == 0 && room.Posts == 0)
        {
            return 0;
        }

        List<ClaimedDelivery> claimed = await claims.ClaimAsync(room, cancellationToken);
        foreach (ClaimedDelivery delivery in claimed)
        {
            _lanes.Begin(delivery);
            var key = Guid.NewGuid();
            var start = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _underWay[key] = RunAsync(start.Task, key, delivery); // known before it can end
            start.SetResult();
        }

        return claimed.Count;
    }

    private async Task RunAsync(Task start, Guid key, ClaimedDelivery delivery)
    {
        await start;
        bool isSlow = true;
        try
        {
            isSlow = await DeliverAsync(delivery);
        }
        catch (Exception exception)
        {
            // Nothing that is known of; its lease ends, and it is tried again.
            Broken(delivery.DeliveryId, exception);
        }
        finally
        {
            _lanes.End(delivery, isSlow);
            _underWay.TryRemove(key, out _);
            signal.Wake(); // there is room again
        }
    }

    /// <returns>Whether the endpoint failed or was slow.</returns>
    private async Task<bool> DeliverAsync(ClaimedDelivery delivery)
    {
        long started = time.GetTimestamp();
        (DeliveryOutcome outcome, bool isEndpointsFault) = await AttemptAsync(delivery);
        bool isSlow = isEndpointsFault || time.GetElapsedTime(started) > DeliveryLanes.SlowFrom;
        if (outcome.IsDelivered)
        {
            await TellAsync(() => claims.CloseDeliveredAsync(delivery, outcome, CancellationToken.None));
            return isSlow;
        }

        if (outcome.StatusCode == Gone && delivery.Channel == AlertRule.Webhook)
        {
            await TellAsync(() => claims.DeactivateAsync(delivery, EndedBy410, CancellationToken.None));
        }

        DateTime? next = outcome.IsFinal
            ? null
            : DeliveryRetry.Next(
                delivery.CreatedAt,
                time.GetUtcNow().UtcDateTime,
                delivery.Attempt,
                outcome.RetryAfter,
                Random.Shared.NextDouble()
            );
        await TellAsync(() => claims.CloseFailedAsync(delivery, outcome, next, CancellationToken.None));
        if (next is null)
        {
            GaveUp(delivery.DeliveryId, delivery.Channel, outcome.Error);
        }
        else
        {
            Failed(delivery.DeliveryId, delivery.Channel, outcome.Error);
        }

        return isSlow;
    }

    private async Task<(DeliveryOutcome Outcome, bool IsEndpointsFault)> AttemptAsync(ClaimedDelivery delivery)
    {
        try
        {
            return await enterprises.FindAsync(delivery.EnterpriseId, CancellationToken.None) is not { } enterprise
                    ? (Final("the enterprise is gone"), false)
                : delivery.Channel == AlertRule.Email ? await MailAsync(delivery, enterprise)
                : await PostAsync(delivery, enterprise);
        }
        catch (Exception exception) when (exception is CryptographicException or JsonException)
        {
            return (Final("what is to be sent cannot be read"), false);
        }
    }

    private async Task<(DeliveryOutcome, bool)> MailAsync(ClaimedDelivery delivery, EnterpriseInfo enterprise)
    {
        if (_mails is null)
        {
            return (Final(MailNotSetUp), false);
        }

        var notice = AlertNotice.Open(enterprise, delivery.DeliveryId, delivery.Payload);
        string recipient = AlertOutbox.OpenRecipient(enterprise, delivery.DeliveryId, delivery.Recipient);
        MailMessage mail = AlertMail.Compose(enterprise, notice, recipient, settings.PublicUrl);
        try
        {
            await _mails.SendAsync(mail, delivery.DeliveryId, CancellationToken.None);
            return (new DeliveryOutcome(true, false, (int)SmtpStatusCode.Ok, null), false);
        }
        catch (Exception exception) when (MailSender.IsDeliveryFailure(exception))
        {
            int? status = exception is SmtpCommandException command ? (int)command.StatusCode : null;
            return (
                new DeliveryOutcome(false, MailSender.IsFinal(exception), status, MailSender.Word(exception)),
                // 421: the server is closing down. Another status is about this mail only.
                status is null or (int)SmtpStatusCode.ServiceNotAvailable
            );
        }
    }

    private async Task<(DeliveryOutcome, bool)> PostAsync(ClaimedDelivery delivery, EnterpriseInfo enterprise)
    {
        if (delivery.Webhook is not { } webhook || webhook.Status != LimitTerms.Active)
        {
            return (Final(delivery.Webhook is null ? WebhookGone : WebhookInactive), false);
        }

        DateTimeOffset now = time.GetUtcNow();
        var secrets = new List<byte[]> { Webhook.OpenSecret(enterprise, delivery.EndpointId, webhook.Secret) };
        if (webhook.FormerSecret is { } former && webhook.FormerSecretUntil > now.UtcDateTime)
        {
            secrets.Add(Webhook.OpenSecret(enterprise, delivery.EndpointId, former));
        }

        var notice = AlertNotice.Open(enterprise, delivery.DeliveryId, delivery.Payload);
        var message = new SignedMessage(
            Webhook.OpenUrl(enterprise, delivery.EndpointId, webhook.Url),
            delivery.DeliveryId.ToString(),
            now,
            secrets,
            WebhookMessage.Write(enterprise.EnterpriseId, notice)
        );
        try
        {
            (int status, System.Net.Http.Headers.RetryConditionHeaderValue? retryAfter) = await webhooks.PostAsync(
                message,
                CancellationToken.None
            );
            bool isDelivered = status is >= 200 and < 300;
            string? error =
                isDelivered ? null
                : status is >= 300 and < 400 ? $"HTTP {status}: redirects are not followed"
                : $"HTTP {status}";
            return (
                new DeliveryOutcome(
                    isDelivered,
                    status == Gone,
                    status,
                    error,
                    DeliveryRetry.RetryAfter(status, retryAfter, time.GetUtcNow())
                ),
                !isDelivered
            );
        }
        catch (WebhookRefusedException exception)
        {
            return (new DeliveryOutcome(false, false, null, exception.Message), true);
        }
        catch (Exception exception) when (Reason(exception) is { } reason)
        {
            return (new DeliveryOutcome(false, false, null, reason), true);
        }
    }

    private static string? Reason(Exception exception) =>
        exception switch
        {
            OperationCanceledException => $"no answer within {WebhookConnections.AttemptTimeMax.TotalSeconds:0} s",
            HttpRequestException { HttpRequestError: HttpRequestError.NameResolutionError } =>
                "the name cannot be resolved",
            HttpRequestException { InnerException: SocketException { SocketErrorCode: SocketError.HostNotFound } } =>
                "the name cannot be resolved",
            HttpRequestException { HttpRequestError: HttpRequestError.SecureConnectionError } =>
                "no TLS connection: its certificate may not be valid",
            HttpRequestException => "it cannot be reached",
            _ => null,
        };

    private static DeliveryOutcome Final(string error) => new(false, true, null, error);

    // What was sent and is not told is sent again, so it is worth some patience.
    private async Task TellAsync(Func<Task> close)
    {
        for (int tries = 1; ; tries++)
        {
            try
            {
                await close();
                return;
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException && tries < CloseTriesMax)
            {
                if (tries == 1)
                {
                    OutboxAway(exception);
                }

                await Task.Delay(ClosePause, CancellationToken.None);
            }
        }
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Alert delivery {DeliveryId} by {Channel} failed ({Error}); it is tried again."
    )]
    private partial void Failed(Guid deliveryId, string channel, string? error);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Alert delivery {DeliveryId} by {Channel} failed ({Error}) and is given up."
    )]
    private partial void GaveUp(Guid deliveryId, string channel, string? error);

    [LoggerMessage(Level = LogLevel.Error, Message = "Alert delivery {DeliveryId} ended in an unexpected way.")]
    private partial void Broken(Guid deliveryId, Exception exception);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The alerts' outbox is away; alerts wait.")]
    private partial void OutboxAway(Exception exception);
}
