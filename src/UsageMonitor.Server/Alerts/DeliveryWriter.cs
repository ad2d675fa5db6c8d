using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>Deliveries that people ask for: a test of a webhook, and one that is sent again.</summary>
internal sealed class DeliveryWriter(
    Database database,
    EnterpriseDirectory enterprises,
    DeliverySignal signal,
    TimeProvider time
)
{
    /// <summary>So that this server is not the means to send somebody mail or requests without end.</summary>
    public const int AskedPerMinuteMax = 30;

    public async Task<IResult> TestAsync(Caller caller, Guid webhookId, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await WebhookWriter.FindAsync(own, enterprise, webhookId, cancellationToken) is not { } webhook)
        {
            return WebhookWriter.NotFound();
        }

        if (webhook.Status != LimitTerms.Active)
        {
            return Problems.Problem(409, "webhook_inactive", "The webhook is inactive: nothing is sent to it.");
        }

        DateTime now = Now();
        var notice = new AlertNotice(
            Guid.CreateVersion7(now),
            AlertNotice.Test,
            AlertNotice.Low,
            "a test",
            LimitScope.Enterprise.Word(),
            null,
            LimitWindow.Hourly.Word(),
            now,
            now.AddHours(1),
            1,
            null,
            null,
            false,
            0,
            null,
            now,
            "Somebody asked for a test of this webhook."
        );
        return await WriteAsync(
            own,
            new NewDelivery(enterprise, AlertRule.Webhook, webhookId.ToString(), notice, NewDelivery.Tested),
            cancellationToken
        );
    }

    private const string ReadDelivery = """
        SELECT channel, recipient, payload, next_attempt_at IS NOT NULL FROM alert_deliveries
        WHERE enterprise_id = $1 AND delivery_id = $2
        """;

    /// <summary>Makes a new delivery of the same to the same recipient, once the old one is delivered or given up.</summary>
    public async Task<IResult> ResendAsync(Caller caller, Guid deliveryId, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        NewDelivery again;
        await using (NpgsqlCommand command = own.Command(ReadDelivery, caller.EnterpriseId, deliveryId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return Problems.Problem(404, "not_found", "Your enterprise has no such delivery.");
            }

            if (reader.GetBoolean(3))
            {
                return Problems.Problem(409, "delivery_pending", "This delivery is still being tried.");
            }

            again = new NewDelivery(
                enterprise,
                reader.GetString(0),
                AlertOutbox.OpenRecipient(enterprise, deliveryId, reader.GetFieldValue<byte[]>(1)),
                AlertNotice.Open(enterprise, deliveryId, reader.GetFieldValue<byte[]>(2)),
                NewDelivery.Resent,
                Now()
            );
        }

        return await WriteAsync(own, again, cancellationToken);
    }

    // Taken with the lock, so that who asks many times at once is counted too.
    private const string CountAsked = """
        SELECT count(*) FROM alert_deliveries
        WHERE enterprise_id = $1 AND delivery_id > $2 AND cause IN ('RESENT', 'TEST')
        """;

    private async Task<IResult> WriteAsync(
        ScopedTransaction own,
        NewDelivery delivery,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = delivery.Enterprise.EnterpriseId;
        await own.ExecuteAsync(AlertRuleWriter.LockEnterprise, [enterpriseId], cancellationToken);
        Guid aMinuteAgo = FirstId(time.GetUtcNow().AddMinutes(-1));
        await using (NpgsqlCommand count = own.Command(CountAsked, enterpriseId, aMinuteAgo))
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= AskedPerMinuteMax)
            {
                return Problems.Problem(
                    429,
                    "too_many_deliveries",
                    $"An enterprise may test and resend {AskedPerMinuteMax} times a minute. Wait a little."
                );
            }
        }

        await using (var batch = new NpgsqlBatch(own.Connection))
        {
            batch.BatchCommands.Add(AlertOutbox.Insert([delivery])); // in the connection's transaction
            await batch.ExecuteNonQueryAsync(cancellationToken);
        }

        own.Audit("delivery.asked", "delivery", delivery.DeliveryId);
        await own.CommitAsync(cancellationToken);
        signal.Wake();
        return Results.Accepted(value: new DeliveryAcceptedResponse(delivery.DeliveryId));
    }

    // The least UUIDv7 of an instant: ids are in the order of time.
    private static Guid FirstId(DateTimeOffset instant)
    {
        Span<byte> bytes = stackalloc byte[16];
        Guid.CreateVersion7(instant).TryWriteBytes(bytes, bigEndian: true, out _);
        bytes[6..].Clear();
        return new Guid(bytes, bigEndian: true);
    }

    private async Task<EnterpriseInfo> EnterpriseAsync(Caller caller, CancellationToken cancellationToken) =>
        await enterprises.FindAsync(caller.EnterpriseId, cancellationToken)
        ?? throw new InvalidOperationException("The caller's enterprise does not exist.");

    private DateTime Now()
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond));
    }
}
