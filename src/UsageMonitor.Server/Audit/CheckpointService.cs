using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Audit;

/// <summary>
/// Signs a checkpoint of every chain that has grown, once an hour, on one instance. A chain that is broken since its last checkpoint
/// is not signed: the signature would say that what was done to it is how it was.
/// </summary>
internal sealed partial class CheckpointService(
    Database database,
    AuditCheckpoints checkpoints,
    TimeProvider time,
    ILogger<CheckpointService> logger
) : BackgroundService
{
    public static readonly TimeSpan Interval = TimeSpan.FromHours(1);
    private const long PassLock = 0x756d6175646974; // "umaudit"

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
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
                    NotSigned(exception);
                }
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // It ends.
        }
    }

    private const string TakeLock = "SELECT pg_try_advisory_xact_lock($1)";

    private const string FindGrown = """
        SELECT h.enterprise_id, coalesce((SELECT max(c.sequence) FROM audit_checkpoints c WHERE c.enterprise_id = h.enterprise_id), 0)
        FROM audit_heads h
        WHERE NOT EXISTS (SELECT FROM audit_checkpoints c
                          WHERE c.enterprise_id = h.enterprise_id AND c.sequence = h.sequence AND c.hash = h.hash)
        ORDER BY h.enterprise_id
        """;

    /// <summary>One pass; nothing when another instance is at it.</summary>
    /// <returns>How many were signed.</returns>
    public async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction turn = await connection.BeginTransactionAsync(cancellationToken);
        await using (var take = new NpgsqlCommand(TakeLock, connection, turn))
        {
            take.Parameters.Add(new NpgsqlParameter<long> { TypedValue = PassLock });
            if (await take.ExecuteScalarAsync(cancellationToken) is not true)
            {
                return 0;
            }
        }

        var grown = new List<(Guid EnterpriseId, long Signed)>();
        await using (var find = new NpgsqlCommand(FindGrown, connection, turn))
        {
            await using NpgsqlDataReader reader = await find.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                grown.Add((reader.GetGuid(0), reader.GetInt64(1)));
            }
        }

        int signed = 0;
        foreach ((Guid enterpriseId, long last) in grown)
        {
            (AuditVerdict verdict, _) = await checkpoints.VerifyAsync(
                enterpriseId,
                Math.Max(1, last),
                null,
                cancellationToken
            );
            if (verdict.Fault is { } fault)
            {
                Broken(enterpriseId, fault.Kind, fault.Sequence);
                continue;
            }

            signed += await checkpoints.SignAsync(enterpriseId, cancellationToken) is null ? 0 : 1;
        }

        return signed;
    }

    [LoggerMessage(
        Level = LogLevel.Critical,
        Message = "The audit log of enterprise {EnterpriseId} was tampered with: {Kind} at entry {Sequence}. No checkpoint is signed."
    )]
    private partial void Broken(Guid enterpriseId, string kind, long sequence);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Checkpoints of the audit log could not be signed; it is tried again."
    )]
    private partial void NotSigned(Exception exception);
}
