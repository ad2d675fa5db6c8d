using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>A delivery that this process alone may try until its lease ends.</summary>
/// <param name="Attempt">Which it is: 1, 2, …; the token by which a failure is told.</param>
/// <param name="Webhook">What is needed to post; null: it is a mail, or the webhook is gone.</param>
internal sealed record ClaimedDelivery(
    Guid EnterpriseId,
    Guid DeliveryId,
    Guid EndpointId,
    string Channel,
    byte[] Recipient,
    byte[] Payload,
    int Attempt,
    DateTime CreatedAt,
    DateTime StartedAt,
    ClaimedWebhook? Webhook
);

/// <summary>A webhook as it stood when the delivery was claimed; sealed.</summary>
internal sealed record ClaimedWebhook(
    byte[] Url,
    byte[] Secret,
    byte[]? FormerSecret,
    DateTime? FormerSecretUntil,
    string Status
);

/// <summary>How many more may be under way.</summary>
/// <param name="Mails">To the mail server.</param>
/// <param name="Posts">To all webhooks.</param>
/// <param name="PostsPerEndpoint">To an endpoint, and</param>
/// <param name="PostsPerEnterprise">for an enterprise, that is not named in:</param>
/// <param name="Endpoints">What endpoints have left.</param>
/// <param name="Enterprises">What enterprises have left.</param>
internal sealed record DeliveryRoom(
    int Mails,
    int Posts,
    int PostsPerEndpoint,
    int PostsPerEnterprise,
    IReadOnlyDictionary<Guid, int> Endpoints,
    IReadOnlyDictionary<Guid, int> Enterprises
);

/// <summary>What came of an attempt.</summary>
/// <param name="IsDelivered">The receiver has taken responsibility.</param>
/// <param name="IsFinal">Not delivered, and the same again would fail again.</param>
/// <param name="StatusCode">Of HTTP or SMTP.</param>
/// <param name="Error">Names nobody: it is kept in clear.</param>
/// <param name="RetryAfter">How long the receiver asks to be left alone.</param>
internal sealed record DeliveryOutcome(
    bool IsDelivered,
    bool IsFinal,
    int? StatusCode,
    string? Error,
    TimeSpan? RetryAfter = null
);

/// <summary>
/// Deliveries leave at least once. A delivery is claimed in a transaction of its own, before anything is sent: its next attempt moves
/// ahead by <see cref="Lease"/>, longer than any attempt may take, so no other process tries it meanwhile, and
/// <c>sending_since</c> says that one has begun. The outcome closes or reschedules it. Hence, at every moment:
/// <list type="bullet">
/// <item>a delivery that is neither delivered nor given up has a next attempt, so none is lost, whoever dies when;</item>
/// <item>it is repeated only when the receiver took it and the process (or the database) died before the outcome was committed, or when a
/// receiver took it and its answer was lost. Whoever claims a delivery whose <c>sending_since</c> is set finds such an attempt and notes it
/// as UNKNOWN. The repeat has the same <c>Message-ID</c> or <c>webhook-id</c> and the same content, so the receiver can drop it.</item>
/// </list>
/// The clocks of instances may differ by <see cref="Lease"/> less the longest attempt, about 20 seconds.
/// </summary>
internal sealed class DeliveryClaims(Database database, TimeProvider time)
{
    /// <summary>How long a claimed delivery is its claimer's.</summary>
    public static readonly TimeSpan Lease = TimeSpan.FromSeconds(40);

    // Queues (an enterprise's deliveries to an endpoint) are found by jumping over the index, so that one of a hundred thousand costs
    // no more than one of ten; enterprises take turns.
    private const string Claim = """
        WITH RECURSIVE queues AS (
            (SELECT enterprise_id, endpoint_id FROM alert_deliveries WHERE next_attempt_at IS NOT NULL
              ORDER BY enterprise_id, endpoint_id LIMIT 1)
            UNION ALL
            SELECT following.enterprise_id, following.endpoint_id
              FROM queues CROSS JOIN LATERAL (
                SELECT d.enterprise_id, d.endpoint_id FROM alert_deliveries AS d
                 WHERE d.next_attempt_at IS NOT NULL AND (d.enterprise_id, d.endpoint_id) > (queues.enterprise_id, queues.endpoint_id)
                 ORDER BY d.enterprise_id, d.endpoint_id LIMIT 1) AS following
        ), due AS MATERIALIZED (
            SELECT d.*, queues.endpoint_id, queues.endpoint_id = $10 AS is_mail,
                   row_number() OVER (PARTITION BY d.enterprise_id, queues.endpoint_id = $10 ORDER BY d.next_attempt_at, d.delivery_id) AS turn
              FROM queues
              LEFT JOIN unnest($6, $7) AS known (endpoint_id, room) ON known.endpoint_id = queues.endpoint_id
             CROSS JOIN LATERAL (
                SELECT d.enterprise_id, d.delivery_id, d.next_attempt_at, d.attempts, d.sending_since FROM alert_deliveries AS d
                 WHERE d.enterprise_id = queues.enterprise_id AND d.endpoint_id = queues.endpoint_id AND d.next_attempt_at <= $1
                 ORDER BY d.next_attempt_at
                 LIMIT CASE WHEN queues.endpoint_id = $10 THEN $3 ELSE coalesce(known.room, $5) END
                 FOR UPDATE SKIP LOCKED) AS d
        ), chosen AS MATERIALIZED (
            (SELECT * FROM due WHERE is_mail ORDER BY turn, next_attempt_at LIMIT $3)
            UNION ALL
            (SELECT due.* FROM due LEFT JOIN unnest($8, $9) AS known (enterprise_id, room) ON known.enterprise_id = due.enterprise_id
              WHERE NOT is_mail AND turn <= coalesce(known.room, $12)
              ORDER BY turn, next_attempt_at LIMIT $4)
        ), lost AS (
            INSERT INTO alert_delivery_attempts (enterprise_id, delivery_id, attempt, started_at, outcome, error)
            SELECT enterprise_id, delivery_id, attempts, sending_since, 'UNKNOWN', $11 FROM chosen WHERE sending_since IS NOT NULL
            ON CONFLICT DO NOTHING
        ), claimed AS (
            UPDATE alert_deliveries AS d SET attempts = d.attempts + 1, sending_since = $1, next_attempt_at = $1 + $2
              FROM chosen WHERE d.enterprise_id = chosen.enterprise_id AND d.delivery_id = chosen.delivery_id
            RETURNING d.enterprise_id, d.delivery_id, d.endpoint_id, d.channel, d.recipient, d.payload, d.attempts, d.created_at
        )
        SELECT claimed.*, w.url, w.secret, w.former_secret, w.former_secret_until, w.status
          FROM claimed LEFT JOIN webhooks AS w ON w.enterprise_id = claimed.enterprise_id AND w.webhook_id = claimed.endpoint_id
        """;

    private const string LostError = "the server ended before it knew the outcome";

    /// <summary>Takes what is due, as far as there is room.</summary>
    public async Task<List<ClaimedDelivery>> ClaimAsync(DeliveryRoom room, CancellationToken cancellationToken)
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        now = now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond));
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(Claim);
        object[] parameters =
        [
            now,
            Lease,
            room.Mails,
            room.Posts,
            room.PostsPerEndpoint,
            room.Endpoints.Keys.ToArray(),
            room.Endpoints.Values.ToArray(),
            room.Enterprises.Keys.ToArray(),
            room.Enterprises.Values.ToArray(),
            AlertOutbox.MailServer,
            LostError,
            room.PostsPerEnterprise,
        ];
        foreach (object parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        var claimed = new List<ClaimedDelivery>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            claimed.Add(
                new ClaimedDelivery(
                    reader.GetGuid(0),
                    reader.GetGuid(1),
                    reader.GetGuid(2),
                    reader.GetString(3),
                    reader.GetFieldValue<byte[]>(4),
                    reader.GetFieldValue<byte[]>(5),
                    reader.GetInt32(6),
                    reader.GetFieldValue<DateTime>(7),
                    now,
                    reader.IsDBNull(8)
                        ? null
                        : new ClaimedWebhook(
                            reader.GetFieldValue<byte[]>(8),
                            reader.GetFieldValue<byte[]>(9),
                            reader.IsDBNull(10) ? null : reader.GetFieldValue<byte[]>(10),
                            reader.GetFieldValue<DateTime?>(11),
                            reader.GetString(12)
                        )
                )
            );
        }

        return claimed;
    }

    // This commit does not wait for the disk, for that is the time in which a death makes a repeat. Should the machine itself die within
    // the second that follows, the delivery is repeated; it cannot be lost.
    private const string WithoutWaiting = "SELECT set_config('synchronous_commit', 'off', true)";

    private const string NoteAttempt = """
        INSERT INTO alert_delivery_attempts (enterprise_id, delivery_id, attempt, started_at, ended_at, outcome, status_code, error)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (enterprise_id, delivery_id, attempt) DO UPDATE
            SET ended_at = EXCLUDED.ended_at, outcome = EXCLUDED.outcome, status_code = EXCLUDED.status_code, error = EXCLUDED.error
        """;

    // Whoever else may have it by now: it has arrived.
    private const string CloseDelivered = """
        UPDATE alert_deliveries
           SET delivered_at = $3, given_up_at = NULL, next_attempt_at = NULL, sending_since = NULL, last_error = NULL
         WHERE enterprise_id = $1 AND delivery_id = $2 AND delivered_at IS NULL
        """;

    public Task CloseDeliveredAsync(
        ClaimedDelivery delivery,
        DeliveryOutcome outcome,
        CancellationToken cancellationToken
    )
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        return RunAsync(
            [
                (WithoutWaiting, []),
                (CloseDelivered, [delivery.EnterpriseId, delivery.DeliveryId, now]),
                (NoteAttempt, Attempt(delivery, outcome, now)),
            ],
            cancellationToken
        );
    }

    // Only by the last who claimed it.
    private const string CloseFailed = """
        UPDATE alert_deliveries
           SET next_attempt_at = $4, given_up_at = CASE WHEN $4::timestamptz IS NULL THEN $5::timestamptz END, sending_since = NULL, last_error = $6
         WHERE enterprise_id = $1 AND delivery_id = $2 AND attempts = $3 AND delivered_at IS NULL
        """;

    /// <param name="delivery">What was tried.</param>
    /// <param name="outcome">Not delivered.</param>
    /// <param name="nextAttemptAt">When it is tried again; null: never.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public Task CloseFailedAsync(
        ClaimedDelivery delivery,
        DeliveryOutcome outcome,
        DateTime? nextAttemptAt,
        CancellationToken cancellationToken
    )
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        return RunAsync(
            [
                (
                    CloseFailed,
                    [delivery.EnterpriseId, delivery.DeliveryId, delivery.Attempt, nextAttemptAt, now, outcome.Error]
                ),
                (NoteAttempt, Attempt(delivery, outcome, now)),
            ],
            cancellationToken
        );
    }

    private const string Deactivate = """
        UPDATE webhooks SET status = 'INACTIVE', inactive_because = $3, version = version + 1, updated_at = $4
        WHERE enterprise_id = $1 AND webhook_id = $2 AND status = 'ACTIVE' AND url = $5
        """;

    /// <summary>Ends a webhook that is gone, unless it has been given another address meanwhile.</summary>
    public Task DeactivateAsync(ClaimedDelivery delivery, string because, CancellationToken cancellationToken) =>
        RunAsync(
            [
                (
                    Deactivate,
                    [
                        delivery.EnterpriseId,
                        delivery.EndpointId,
                        because,
                        time.GetUtcNow().UtcDateTime,
                        delivery.Webhook!.Url,
                    ]
                ),
            ],
            cancellationToken
        );

    private static object?[] Attempt(ClaimedDelivery delivery, DeliveryOutcome outcome, DateTime now) =>
        [
            delivery.EnterpriseId,
            delivery.DeliveryId,
            delivery.Attempt,
            delivery.StartedAt,
            now,
            outcome.IsDelivered ? "DELIVERED" : "FAILED",
            outcome.StatusCode,
            outcome.Error,
        ];

    // One round trip, one transaction.
    private async Task RunAsync((string Sql, object?[] Parameters)[] statements, CancellationToken cancellationToken)
    {
        await using NpgsqlBatch batch = database.Pipeline.CreateBatch();
        foreach ((string sql, object?[] parameters) in statements)
        {
            var command = new NpgsqlBatchCommand(sql);
            foreach (object? parameter in parameters)
            {
                command.Parameters.Add(new NpgsqlParameter { Value = parameter ?? DBNull.Value });
            }

            batch.BatchCommands.Add(command);
        }

        await batch.ExecuteNonQueryAsync(cancellationToken);
    }
}
