using System.Security.Cryptography;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>Reads the delivery log.</summary>
internal sealed class DeliveryReader(Database database, EnterpriseDirectory enterprises)
{
    public const string Pending = "PENDING";
    public const string Delivered = "DELIVERED";
    public const string GivenUp = "GIVEN_UP";
    public const string FailedFilter = "FAILED";
    private const int AttemptsShownMax = 20;

    /// <summary>Deliveries shown with an alert.</summary>
    private const int DeliveriesOfAlertsMax = 2_000;
    private const string Unreadable = "?";

    private const string Columns = """
        d.delivery_id, d.alert_event_id, d.channel, d.recipient, d.cause, d.created_at, d.next_attempt_at, d.attempts, d.delivered_at,
        d.given_up_at, d.last_error, (SELECT w.name FROM webhooks AS w WHERE w.enterprise_id = d.enterprise_id AND w.webhook_id = d.endpoint_id)
        """;

    // FAILED: given up, or failed at least once and not delivered yet.
    private const string ReadLog = $"""
        SELECT {Columns} FROM alert_deliveries AS d
        WHERE d.enterprise_id = $1 AND d.delivery_id < $2
          AND ($3::text IS NULL
            OR $3 = 'FAILED' AND d.delivered_at IS NULL AND d.last_error IS NOT NULL
            OR $3 = 'PENDING' AND d.next_attempt_at IS NOT NULL
            OR $3 = 'DELIVERED' AND d.delivered_at IS NOT NULL
            OR $3 = 'GIVEN_UP' AND d.given_up_at IS NOT NULL)
        ORDER BY d.delivery_id DESC LIMIT $4
        """;

    /// <param name="caller">Who asks.</param>
    /// <param name="state">One of the states, <see cref="FailedFilter"/>, or null: all.</param>
    /// <param name="before">The last id of the page before.</param>
    /// <param name="limit">Rows.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<DeliveryListResponse> ListAsync(
        Caller caller,
        string? state,
        Guid? before,
        int limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise =
            await enterprises.FindAsync(caller.EnterpriseId, cancellationToken)
            ?? throw new InvalidOperationException("The caller's enterprise does not exist.");
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(
            ReadLog,
            caller.EnterpriseId,
            before ?? Guid.AllBitsSet,
            state,
            limit + 1
        );
        List<DeliveryResponse> found = await ReadAsync(command, enterprise, cancellationToken);
        bool hasMore = found.Count > limit;
        IReadOnlyList<DeliveryResponse> page = hasMore ? found[..limit] : found;
        page = await WithAttemptsAsync(own, caller.EnterpriseId, page, cancellationToken);
        return new DeliveryListResponse(page, hasMore ? page[^1].DeliveryId : null);
    }

    private const string ReadOfAlerts = $"""
        SELECT {Columns} FROM alert_deliveries AS d
        WHERE d.enterprise_id = $1 AND d.alert_event_id = ANY ($2) ORDER BY d.delivery_id LIMIT $3
        """;

    /// <summary>The deliveries of alerts, the oldest first.</summary>
    public static async Task<IReadOnlyList<DeliveryResponse>> OfAlertsAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid[] alertEventIds,
        bool withAttempts,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(
            ReadOfAlerts,
            enterprise.EnterpriseId,
            alertEventIds,
            DeliveriesOfAlertsMax
        );
        List<DeliveryResponse> found = await ReadAsync(command, enterprise, cancellationToken);
        return withAttempts ? await WithAttemptsAsync(own, enterprise.EnterpriseId, found, cancellationToken) : found;
    }

    private static async Task<List<DeliveryResponse>> ReadAsync(
        NpgsqlCommand command,
        EnterpriseInfo enterprise,
        CancellationToken cancellationToken
    )
    {
        var found = new List<DeliveryResponse>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            DateTime? deliveredAt = reader.GetFieldValue<DateTime?>(8);
            DateTime? givenUpAt = reader.GetFieldValue<DateTime?>(9);
            found.Add(
                new DeliveryResponse(
                    reader.GetGuid(0),
                    reader.GetGuid(1),
                    reader.GetString(2),
                    reader.IsDBNull(11)
                        ? Recipient(enterprise, reader.GetGuid(0), reader.GetFieldValue<byte[]>(3))
                        : reader.GetString(11),
                    reader.GetString(4),
                    deliveredAt is not null ? Delivered
                        : givenUpAt is not null ? GivenUp
                        : Pending,
                    reader.GetFieldValue<DateTime>(5),
                    reader.GetFieldValue<DateTime?>(6),
                    reader.GetInt32(7),
                    deliveredAt,
                    givenUpAt,
                    reader.IsDBNull(10) ? null : reader.GetString(10),
                    []
                )
            );
        }

        return found;
    }

    // The log is there for when something is wrong: it must not fail with what it shows.
    private static string Recipient(EnterpriseInfo enterprise, Guid deliveryId, byte[] recipient)
    {
        try
        {
            return AlertOutbox.OpenRecipient(enterprise, deliveryId, recipient);
        }
        catch (CryptographicException)
        {
            return Unreadable;
        }
    }

    private const string ReadAttempts = """
        SELECT tried.* FROM unnest($2) AS wanted (delivery_id) CROSS JOIN LATERAL (
            SELECT a.delivery_id, a.attempt, a.started_at, a.ended_at, a.outcome, a.status_code, a.error FROM alert_delivery_attempts AS a
            WHERE a.enterprise_id = $1 AND a.delivery_id = wanted.delivery_id ORDER BY a.attempt DESC LIMIT $3) AS tried
        """;

    private static async Task<IReadOnlyList<DeliveryResponse>> WithAttemptsAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        IReadOnlyList<DeliveryResponse> deliveries,
        CancellationToken cancellationToken
    )
    {
        var attempts = new List<(Guid DeliveryId, DeliveryAttemptResponse Attempt)>();
        await using NpgsqlCommand command = own.Command(
            ReadAttempts,
            enterpriseId,
            deliveries.Select(delivery => delivery.DeliveryId).ToArray(),
            AttemptsShownMax
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            attempts.Add(
                (
                    reader.GetGuid(0),
                    new DeliveryAttemptResponse(
                        reader.GetInt32(1),
                        reader.GetFieldValue<DateTime>(2),
                        reader.GetFieldValue<DateTime?>(3),
                        reader.GetString(4),
                        reader.GetFieldValue<int?>(5),
                        reader.IsDBNull(6) ? null : reader.GetString(6)
                    )
                )
            );
        }

        ILookup<Guid, DeliveryAttemptResponse> ofDelivery = attempts.ToLookup(
            row => row.DeliveryId,
            row => row.Attempt
        );
        return [.. deliveries.Select(delivery => delivery with { AttemptLog = [.. ofDelivery[delivery.DeliveryId]] })];
    }
}
