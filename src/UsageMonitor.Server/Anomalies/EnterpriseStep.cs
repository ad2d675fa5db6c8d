using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>One step of one enterprise: what has become of its usage since the last, in one transaction.</summary>
/// <remarks>
/// <para>Invariant: every finished hour is fed to every detector exactly once, and every user's finished day is learned once.</para>
/// <para>
/// The enterprise's position is locked first. What the detectors have learned, how far, what was found and whom it is mailed to are
/// written in the transaction that holds the lock. So at every line below a crash leaves either all of the step or none of it; two
/// instances never feed the same enterprise, because the second passes over what is locked, and finds it moved when it is not.
/// </para>
/// <para>
/// An hour is finished by the watermark and not by the clock: while processing is behind, time stands still here, and what waits
/// in the log is not taken for silence.
/// </para>
/// </remarks>
internal sealed class EnterpriseStep(
    Database database,
    IEventLog log,
    EnterpriseDirectory enterprises,
    MonthPartitions months,
    DeliverySignal deliveries,
    AnomalyNotices notices,
    TimeProvider time
)
{
    private readonly Dictionary<Guid, LocalTime> _localTimes = [];

    /// <returns>Whether a step was taken.</returns>
    public async Task<bool> RunAsync(Guid enterpriseId, CancellationToken cancellationToken)
    {
        if (await enterprises.FindAsync(enterpriseId, cancellationToken) is not { } enterprise)
        {
            return false;
        }

        DateTime now = time.GetUtcNow().UtcDateTime;
        long head = (await log.ReadHeadsAsync(cancellationToken))
            .First(partition => partition.Partition == enterprise.LogPartition)
            .Offset;
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        if (await EnterprisePosition.LockAsync(connection, enterpriseId, now, cancellationToken) is not { } position)
        {
            return false;
        }

        // After the head, before the counts: if processing had come to that head, everything received before is in them.
        DateTime through = await ReadWatermarkAsync(connection, enterprise, now, head, cancellationToken);
        LocalTime local = LocalTimeOf(enterprise);
        await using var batch = new NpgsqlBatch(connection);
        SeriesStep series = new(connection, enterprise, local, position, months, now);
        bool isBehind = await series.RunAsync(batch, through, cancellationToken);
        List<Finding> found = [.. series.Opened];
        if (!isBehind)
        {
            // The hours first: what is known of users is not in a hurry.
            var users = new UserStep(database, connection, enterprise, local, position, now);
            isBehind = await users.RunAsync(batch, through, cancellationToken);
            found.AddRange(users.Found);
        }

        bool isTold = await notices.AddAsync(connection, batch, enterprise, position, found, now, cancellationToken);
        position.NextLookAt = isBehind ? now : now + AnomalyLimits.LookInterval;
        batch.BatchCommands.Add(position.Save());
        await batch.ExecuteNonQueryAsync(cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        if (isTold)
        {
            deliveries.Wake();
        }

        return true;
    }

    private const string ReadWatermark =
        "SELECT segment_offset, processed_through FROM log_positions WHERE log_partition = $1";

    private static async Task<DateTime> ReadWatermarkAsync(
        NpgsqlConnection connection,
        EnterpriseInfo enterprise,
        DateTime asked,
        long head,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(ReadWatermark, connection)
        {
            Parameters = { new() { Value = enterprise.LogPartition } },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        DateTime through = reader.GetInt64(0) >= head ? asked : reader.GetDateTime(1);
        return through < asked ? through : asked;
    }

    private LocalTime LocalTimeOf(EnterpriseInfo enterprise)
    {
        if (!_localTimes.TryGetValue(enterprise.EnterpriseId, out LocalTime? local))
        {
            _localTimes[enterprise.EnterpriseId] = local = new LocalTime(enterprise.TimeZone);
        }

        return local;
    }
}
