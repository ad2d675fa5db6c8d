using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Identity;
using Xunit;

namespace UsageMonitor.Tests.Alerts;

/// <summary>What tests of deliveries have in common: an outbox of their own, senders, and a view of what is kept.</summary>
internal sealed class DeliveryBench(IdentityFixture fixture, TimeProvider time)
{
    public static readonly (string, string) AllowPrivate = ("Webhooks:AllowPrivateAddresses", "true");

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public Database Database => fixture.Database.Database;

    public TimeProvider Time => time;

    // The outbox is one for all: what an earlier test left would be due here.
    public async Task ClearAsync()
    {
        await using var owner = NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using NpgsqlCommand clear = owner.CreateCommand(
            "DELETE FROM alert_deliveries; DELETE FROM alert_delivery_attempts; DELETE FROM webhooks"
        );
        await clear.ExecuteNonQueryAsync(Stop);
    }

    public async Task<EnterpriseInfo> EnterpriseAsync()
    {
        LoginResponse admin = await fixture.Host.CreateEnterpriseAsync();
        return (
            await fixture
                .Host.Services.GetRequiredService<EnterpriseDirectory>()
                .FindAsync(admin.User.EnterpriseId!.Value, Stop)
        )!;
    }

    public static ServerSettings Settings(params (string Key, string Value)[] settings) =>
        ServerSettings.Load(
            new ConfigurationBuilder()
                .AddInMemoryCollection(settings.Select(s => new KeyValuePair<string, string?>(s.Key, s.Value)))
                .Build()
        );

    public DeliveryClaims Claims() => new(Database, time);

    public DeliverySender Sender(params (string Key, string Value)[] settings)
    {
        ServerSettings read = Settings(settings);
        return new DeliverySender(
            Claims(),
            new WebhookConnections(read),
            fixture.Host.Services.GetRequiredService<EnterpriseDirectory>(),
            read,
            new DeliverySignal(),
            time,
            NullLogger<DeliverySender>.Instance
        );
    }

    /// <summary>Room for everything.</summary>
    public static DeliveryRoom Room { get; } =
        new(8, 64, 4, 16, new Dictionary<Guid, int>(), new Dictionary<Guid, int>());

    public AlertNotice Notice() => AlertMailTests.Notice(time.GetUtcNow().UtcDateTime);

    public async Task<Guid> WriteAsync(EnterpriseInfo enterprise, string channel, string recipient) =>
        (await WriteAsync(enterprise, channel, [recipient]))[0];

    public async Task<IReadOnlyList<Guid>> WriteAsync(EnterpriseInfo enterprise, string channel, string[] recipients)
    {
        AlertNotice notice = Notice();
        NewDelivery[] deliveries =
        [
            .. recipients.Select(to => new NewDelivery(enterprise, channel, to, notice, NewDelivery.Opened)),
        ];
        await using ScopedTransaction own = await Database.OpenEnterpriseAsync(enterprise.EnterpriseId, Stop);
        await using (var batch = new NpgsqlBatch(own.Connection))
        {
            batch.BatchCommands.Add(AlertOutbox.Insert(deliveries));
            await batch.ExecuteNonQueryAsync(Stop);
        }

        await own.CommitAsync(Stop);
        return [.. deliveries.Select(delivery => delivery.DeliveryId)];
    }

    public async Task<Guid> WebhookAsync(EnterpriseInfo enterprise, string url, byte[]? secret = null)
    {
        var webhookId = Guid.NewGuid();
        await using ScopedTransaction own = await Database.OpenEnterpriseAsync(enterprise.EnterpriseId, Stop);
        await own.ExecuteAsync(
            """
            INSERT INTO webhooks (enterprise_id, webhook_id, name, url, secret, status, created_by, created_at, updated_at)
            VALUES ($1, $2, $2::text, $3, $4, 'ACTIVE', $2, $5, $5)
            """,
            [
                enterprise.EnterpriseId,
                webhookId,
                Webhook.SealUrl(enterprise, webhookId, url),
                Webhook.SealSecret(enterprise, webhookId, secret ?? WebhookSignature.NewSecret()),
                time.GetUtcNow(),
            ],
            Stop
        );
        await own.CommitAsync(Stop);
        return webhookId;
    }

    internal sealed record Row(
        bool IsDelivered,
        bool IsGivenUp,
        DateTime? NextAttemptAt,
        int Attempts,
        string? LastError,
        bool IsSending
    );

    public async Task<Row> RowAsync(Guid deliveryId)
    {
        await using NpgsqlCommand command = Database.Pipeline.CreateCommand(
            """
            SELECT delivered_at IS NOT NULL, given_up_at IS NOT NULL, next_attempt_at, attempts, last_error, sending_since IS NOT NULL
            FROM alert_deliveries WHERE delivery_id = $1
            """
        );
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = deliveryId });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(Stop);
        Assert.True(await reader.ReadAsync(Stop));
        return new Row(
            reader.GetBoolean(0),
            reader.GetBoolean(1),
            reader.GetFieldValue<DateTime?>(2),
            reader.GetInt32(3),
            reader.IsDBNull(4) ? null : reader.GetString(4),
            reader.GetBoolean(5)
        );
    }

    /// <summary>The attempts' outcomes with their status, in order.</summary>
    public async Task<IReadOnlyList<string>> AttemptsAsync(Guid deliveryId)
    {
        var attempts = new List<string>();
        await using NpgsqlCommand command = Database.Pipeline.CreateCommand(
            "SELECT concat_ws(' ', outcome, status_code) FROM alert_delivery_attempts WHERE delivery_id = $1 ORDER BY attempt"
        );
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = deliveryId });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(Stop);
        while (await reader.ReadAsync(Stop))
        {
            attempts.Add(reader.GetString(0));
        }

        return attempts;
    }

    public async Task<string> WebhookStatusAsync(Guid webhookId)
    {
        await using NpgsqlCommand command = Database.Pipeline.CreateCommand(
            "SELECT status FROM webhooks WHERE webhook_id = $1"
        );
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = webhookId });
        return (string)(await command.ExecuteScalarAsync(Stop))!;
    }
}
