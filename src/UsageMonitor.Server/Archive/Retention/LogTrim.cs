using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary>Removes segments of the log that nothing needs any more.</summary>
/// <remarks>
/// <para>Invariant: a segment is removed only when all of this is true of it, and of every one before it in its partition:</para>
/// <list type="number">
/// <item>Processing has passed it, so no worker reads it again: a position only rises.</item>
/// <item>No row of <c>usage_events</c> points into it: its events are archived with their properties, or deleted.</item>
/// <item>No row of <c>decisions</c> points into it: the properties of an attempt that was refused are nowhere else, and it may still be
/// made to count. So what was refused keeps its segments as long as the enterprise keeps its decisions.</item>
/// <item>It is older than a day becomes before it is archived, so nothing of it is on its way.</item>
/// </list>
/// <para>
/// No new pointer comes about afterwards: rows are written by the step that passes the segment. A segment's time of appending is the
/// time of receipt of its events, and is not before the time at which its attempts were refused; so what points to segments of
/// before a moment is found by the time of its rows. Readers of a snapshot from before the removal still see the rows
/// of segments that are deleted one by one; a whole month is emptied only when nothing has pointed there.
/// </para>
/// </remarks>
internal sealed class LogTrim(
    Database database,
    IEventLog log,
    MonthEmptying emptying,
    ArchiveSettings settings,
    TimeProvider time
)
{
    /// <summary>Segments removed in one transaction.</summary>
    public const int SegmentsOfBatch = 100;

    private const string FindOldest = """
        SELECT appended_at FROM log_segments WHERE log_partition = $1 ORDER BY segment_offset LIMIT 1
        """;

    private const string IsNeeded = """
        SELECT EXISTS (SELECT FROM usage_events WHERE log_partition = $1 AND received_at < $2)
            OR EXISTS (SELECT FROM decisions WHERE log_partition = $1 AND decided_at < $2)
            OR EXISTS (SELECT FROM log_segments, log_positions
                        WHERE log_segments.log_partition = $1 AND log_segments.appended_at < $2
                          AND log_positions.log_partition = $1 AND log_segments.segment_offset > log_positions.segment_offset)
        """;

    private const string FindNext = """
        SELECT max(segment_offset) FROM (
            SELECT segment_offset FROM log_segments WHERE log_partition = $1 AND appended_at < $2
             ORDER BY segment_offset LIMIT $3) AS next
        """;

    /// <returns>Batches removed, and months emptied.</returns>
    public async Task<(int Batches, int Months)> RunAsync(CancellationToken cancellationToken)
    {
        DateTime youngest = time.GetUtcNow().UtcDateTime.AddDays(-settings.AfterDays).Date;
        var through = new Dictionary<short, DateTime>();
        for (short partition = 0; partition < log.PartitionCount; partition++)
        {
            through[partition] = await FindAsync(partition, youngest, cancellationToken);
        }

        int months = await EmptyMonthsAsync(through.Values.Min(), cancellationToken);
        int batches = 0;
        foreach ((short partition, DateTime before) in through)
        {
            while (await AskAsync<long>(FindNext, partition, before, SegmentsOfBatch, cancellationToken) is { } offset)
            {
                await log.TrimAsync(partition, offset, cancellationToken);
                batches++;
            }
        }

        return (batches, months);
    }

    // A day after another, until one is needed: mostly there is one day to look at.
    private async Task<DateTime> FindAsync(short partition, DateTime youngest, CancellationToken cancellationToken)
    {
        if (await AskAsync<DateTime>(FindOldest, partition, null, null, cancellationToken) is not { } oldest)
        {
            return youngest;
        }

        DateTime before = DateTime.MinValue;
        DateTime next = DateTime.SpecifyKind(oldest.Date.AddDays(1), DateTimeKind.Utc);
        while (next <= youngest && await AskAsync<bool>(IsNeeded, partition, next, null, cancellationToken) is false)
        {
            (before, next) = (next, next.AddDays(1));
        }

        return before;
    }

    private async Task<int> EmptyMonthsAsync(DateTime before, CancellationToken cancellationToken)
    {
        int emptied = 0;
        foreach (int month in await emptying.FindMonthsAsync("log_segments", cancellationToken))
        {
            if (
                MonthPartitions.StartOf(month + 1).UtcDateTime <= before
                && await emptying.TryAsync("log_segments", month, _ => Task.FromResult(true), cancellationToken)
            )
            {
                emptied++;
            }
        }

        return emptied;
    }

    private async Task<T?> AskAsync<T>(
        string sql,
        short partition,
        DateTime? before,
        int? limit,
        CancellationToken cancellationToken
    )
        where T : struct
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using (
            var plans = new NpgsqlCommand(
                "SET LOCAL enable_seqscan = on; SET LOCAL plan_cache_mode = force_custom_plan",
                connection,
                transaction
            )
        )
        {
            await plans.ExecuteNonQueryAsync(cancellationToken);
        }

        await using var command = new NpgsqlCommand(sql, connection, transaction);
        command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = partition });
        if (before is { } instant)
        {
            command.Parameters.Add(Columns.Value(instant));
        }

        if (limit is { } rows)
        {
            command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = rows });
        }

        return await command.ExecuteScalarAsync(cancellationToken) is T found ? found : null;
    }
}
