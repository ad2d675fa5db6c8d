using System.Text;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Audit;

/// <summary>
/// Sends entries to their destinations in the order of the chain. A destination's cursor moves only behind what it has taken, so
/// everything comes at least once, and since each entry has its sequence and the hash before it, a receiver sees a gap.
/// </summary>
/// <remarks>Whoever sends takes the destination for a while (its next attempt is put off), so that two instances do not both send.</remarks>
internal sealed partial class AuditStreaming(
    Database database,
    EnterpriseDirectory enterprises,
    WebhookConnections webhooks,
    SyslogConnection syslog,
    TimeProvider time,
    ILogger<AuditStreaming> logger
) : BackgroundService
{
    public const int BatchEntriesMax = 500;
    private const int DestinationsPerPass = 50;
    private const int BatchesPerTurn = 20;
    private const int BackOffSecondsMax = 3_600;
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_lease = TimeSpan.FromMinutes(10);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(s_interval, time);
        try
        {
            while (await timer.WaitForNextTickAsync(stoppingToken))
            {
                try
                {
                    await RunAsync(stoppingToken);
                }
                catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
                {
                    Away(exception);
                }
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // It ends; what was not taken is sent again.
        }
    }

    private const string Take = $"""
        UPDATE audit_destinations SET next_attempt_at = $2
        WHERE (enterprise_id, destination_id) IN (
            SELECT d.enterprise_id, d.destination_id FROM audit_destinations d JOIN audit_heads h ON h.enterprise_id = d.enterprise_id
            WHERE d.status = 'ACTIVE' AND d.next_attempt_at <= $1 AND d.cursor_sequence < h.sequence
            ORDER BY d.next_attempt_at LIMIT $3 FOR UPDATE OF d SKIP LOCKED)
        RETURNING {AuditDestination.Columns}
        """;

    /// <summary>Sends what is due.</summary>
    /// <returns>How many entries were taken.</returns>
    public async Task<long> RunAsync(CancellationToken cancellationToken)
    {
        var due = new List<AuditDestination>();
        DateTimeOffset now = time.GetUtcNow();
        await using (NpgsqlCommand command = database.Pipeline.CreateCommand(Take))
        {
            command.Parameters.Add(new NpgsqlParameter { Value = now });
            command.Parameters.Add(new NpgsqlParameter { Value = now + s_lease });
            command.Parameters.Add(new NpgsqlParameter { Value = DestinationsPerPass });
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                byte[]? dataKey = (await enterprises.FindAsync(reader.GetGuid(0), cancellationToken))?.DataKey;
                due.Add(AuditDestination.Read(reader, dataKey));
            }
        }

        long[] sent = await Task.WhenAll(due.Select(destination => SendAsync(destination, cancellationToken)));
        return sent.Sum();
    }

    private async Task<long> SendAsync(AuditDestination destination, CancellationToken cancellationToken)
    {
        long sent = 0;
        try
        {
            for (int batches = 0; batches < BatchesPerTurn; batches++)
            {
                List<AuditRecord> records = await ReadAsync(destination, cancellationToken);
                if (records.Count == 0)
                {
                    break;
                }

                await SendAsync(destination, records, cancellationToken);
                if (!await AdvanceAsync(destination, records[^1].Sequence, cancellationToken))
                {
                    break; // somebody has set the cursor meanwhile
                }

                sent += records.Count;
                destination = destination with { Cursor = records[^1].Sequence };
                if (records.Count < BatchEntriesMax)
                {
                    break;
                }
            }

            await ReleaseAsync(destination, null, cancellationToken);
        }
        catch (Exception exception)
            when (exception is IOException or HttpRequestException or WebhookRefusedException
                || (exception is OperationCanceledException && !cancellationToken.IsCancellationRequested)
            )
        {
            Failed(destination.DestinationId, exception.Message);
            await ReleaseAsync(destination, exception.Message, CancellationToken.None);
        }

        return sent;
    }

    private async Task<List<AuditRecord>> ReadAsync(AuditDestination destination, CancellationToken cancellationToken)
    {
        EnterpriseInfo? enterprise = await enterprises.FindAsync(destination.EnterpriseId, cancellationToken);
        var records = new List<AuditRecord>();
        await foreach (
            AuditRecord record in AuditReader.ReadAsync(
                sql => database.Pipeline.CreateCommand(sql),
                destination.EnterpriseId,
                enterprise?.DataKey,
                destination.Cursor + 1,
                destination.Cursor + BatchEntriesMax,
                cancellationToken
            )
        )
        {
            records.Add(record);
        }

        return records;
    }

    private async Task SendAsync(
        AuditDestination destination,
        List<AuditRecord> records,
        CancellationToken cancellationToken
    )
    {
        if (destination.Settings is not { } settings)
        {
            throw new IOException("its settings cannot be opened");
        }

        if (destination.Kind == AuditDestination.Syslog)
        {
            await syslog.SendAsync(settings, records, cancellationToken);
            return;
        }

        (long first, long last) = (records[0].Sequence, records[^1].Sequence);
        string body =
            $$"""{"enterpriseId":"{{destination.EnterpriseId}}","firstSequence":{{first}},"lastSequence":{{last}},"entries":["""
            + string.Join(',', records.Select(AuditLines.Json))
            + "]}";
        (int status, _) = await webhooks.PostAsync(
            new SignedMessage(
                settings.Address,
                $"audit_{destination.DestinationId:N}_{destination.Replays}_{first}_{last}",
                time.GetUtcNow(),
                [Convert.FromBase64String(settings.Secret ?? "")],
                Encoding.UTF8.GetBytes(body)
            ),
            cancellationToken
        );
        if (status is < 200 or > 299)
        {
            throw new IOException($"HTTP {status}");
        }
    }

    private const string Advance = """
        UPDATE audit_destinations SET cursor_sequence = $3, failures = 0, last_error = NULL
        WHERE enterprise_id = $1 AND destination_id = $2 AND replays = $4 AND cursor_sequence < $3
        """;

    private async Task<bool> AdvanceAsync(AuditDestination destination, long to, CancellationToken cancellationToken) =>
        await ExecuteAsync(
            Advance,
            [destination.EnterpriseId, destination.DestinationId, to, destination.Replays],
            cancellationToken
        ) > 0;

    private const string Release = """
        UPDATE audit_destinations
        SET next_attempt_at = $3, failures = CASE WHEN $4::text IS NULL THEN failures ELSE failures + 1 END,
            last_error = coalesce($4, last_error)
        WHERE enterprise_id = $1 AND destination_id = $2 AND replays = $5
        """;

    // After a replay the next attempt is at once, as whoever asked has set it.
    private Task<int> ReleaseAsync(AuditDestination destination, string? error, CancellationToken cancellationToken)
    {
        double seconds = error is null
            ? 0
            : Math.Min(BackOffSecondsMax, Math.Pow(2, Math.Min(destination.Failures, 20)));
        return ExecuteAsync(
            Release,
            [
                destination.EnterpriseId,
                destination.DestinationId,
                time.GetUtcNow().AddSeconds(seconds),
                error?[..Math.Min(error.Length, 300)],
                destination.Replays,
            ],
            cancellationToken
        );
    }

    private async Task<int> ExecuteAsync(string sql, object?[] parameters, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(sql);
        foreach (object? parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter ?? DBNull.Value });
        }

        return await command.ExecuteNonQueryAsync(cancellationToken);
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Audit destination {DestinationId} took nothing ({Error}); it is tried again."
    )]
    private partial void Failed(Guid destinationId, string error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The audit log is away; its destinations wait.")]
    private partial void Away(Exception exception);
}
