using System.Diagnostics;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary>Deletes what nobody keeps any more.</summary>
/// <remarks>
/// <para>
/// Invariants: nothing of an enterprise under legal hold is deleted. Of an enterprise that wants its events archived, no event is
/// deleted before its day is: the cutoff stops at the first day with events that are not. What was deleted stands in
/// <c>retention_runs</c> by the same transaction.
/// </para>
/// <para>
/// A month whose end is before everybody's cutoff is emptied as a whole. From others rows are deleted in small transactions of
/// their own, with rests between them; they lock rows that nobody writes any more, and no table against anybody.
/// A crash leaves the batches that were committed, with their proof, and the next run goes on.
/// </para>
/// </remarks>
internal sealed class RetentionRun(
    Database database,
    EnterpriseDirectory enterprises,
    ArchiveFolder archive,
    MonthEmptying emptying,
    AuditTrim audit,
    TimeProvider time
)
{
    /// <summary>Rows of one transaction.</summary>
    public const int BatchRows = 5_000;

    private const int RestsMaxMilliseconds = 2_000;

    /// <summary>Rests for every time worked.</summary>
    private const int RestShare = 4;

    /// <summary>False: goes on without rests, for tests.</summary>
    public bool RestsBetween { get; init; } = true;

    /// <returns>Rows deleted, files' rows not among them.</returns>
    public async Task<long> RunAsync(CancellationToken cancellationToken)
    {
        RetentionCutoffs cutoffs = await RetentionCutoffs.ReadAsync(
            database,
            enterprises,
            time.GetUtcNow(),
            cancellationToken
        );
        foreach (Guid enterpriseId in cutoffs.Enterprises)
        {
            await DeleteFilesAsync(enterpriseId, cutoffs, cancellationToken);
        }

        long rows = 0;
        foreach ((string dataClass, AgingTable table) in RetentionClasses.Tables)
        {
            rows += await DeleteRowsAsync(dataClass, table, cutoffs, cancellationToken);
        }

        return rows + await audit.RunAsync(cutoffs, cancellationToken);
    }

    private const string DeleteFiles = """
        DELETE FROM archive_files WHERE enterprise_id = $1 AND day_end <= $2 RETURNING path, event_count, file_bytes
        """;

    // With the files: an event of then that is sent again is deleted by the next run, because it is older than what is kept.
    private const string DeleteKeys = """
        DELETE FROM archived_event_keys AS kept
         WHERE enterprise_id = $1
           AND NOT EXISTS (SELECT FROM archive_files AS file
                            WHERE file.enterprise_id = $1 AND file.archived_day = kept.archived_day)
        """;

    private async Task DeleteFilesAsync(
        Guid enterpriseId,
        RetentionCutoffs cutoffs,
        CancellationToken cancellationToken
    )
    {
        DateTime cutoff = cutoffs.Of(enterpriseId, RetentionClasses.Events);
        if (cutoff == DateTime.MinValue)
        {
            return;
        }

        var paths = new List<string>();
        (long events, long bytes) = (0, 0);
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using (var command = new NpgsqlCommand(DeleteFiles, connection, transaction))
        {
            command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
            command.Parameters.Add(Columns.Value(cutoff));
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                paths.Add(reader.GetString(0));
                events += reader.GetInt64(1);
                bytes += reader.GetInt64(2);
            }
        }

        // From here on no day before the cutoff is archived any more.
        await RetentionRuns.RaiseAsync(
            connection,
            RetentionClasses.Events,
            [(enterpriseId, cutoff)],
            cancellationToken
        );
        if (paths.Count > 0)
        {
            await using (var command = new NpgsqlCommand(DeleteKeys, connection, transaction))
            {
                command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
                await command.ExecuteNonQueryAsync(cancellationToken);
            }

            var runs = new RetentionRuns(RetentionClasses.Events, "archive_files", false, cutoffs.Now);
            await runs.AddAsync(connection, [(enterpriseId, cutoff, events)], bytes, cancellationToken);
        }

        await transaction.CommitAsync(cancellationToken);

        // What a crash leaves here is named by no row, and swept away.
        paths.ForEach(archive.Delete);
    }

    private async Task<long> DeleteRowsAsync(
        string dataClass,
        AgingTable table,
        RetentionCutoffs cutoffs,
        CancellationToken cancellationToken
    )
    {
        List<(Guid EnterpriseId, DateTime Before)> due =
        [
            .. cutoffs
                .Enterprises.Select(id => (id, cutoffs.Of(id, dataClass, table)))
                .Where(pair => pair.Item2 > DateTime.MinValue),
        ];
        if (due.Count == 0)
        {
            return 0;
        }

        DateTime newest = due.Max(pair => pair.Before);
        DateTime everybodys = due.Count == cutoffs.Enterprises.Count ? due.Min(pair => pair.Before) : DateTime.MinValue;
        long rows = 0;
        if (!table.IsMonthly)
        {
            rows = await DeleteBatchesAsync(
                dataClass,
                table,
                due,
                DateTime.UnixEpoch,
                newest,
                cutoffs.Now,
                cancellationToken
            );
        }
        else
        {
            foreach (int month in await emptying.FindMonthsAsync(table.Name, cancellationToken))
            {
                DateTime start = MonthPartitions.StartOf(month).UtcDateTime;
                DateTime end = MonthPartitions.StartOf(month + 1).UtcDateTime;
                if (start >= newest)
                {
                    continue;
                }

                long? whole =
                    end <= everybodys
                        ? await EmptyAsync(dataClass, table, due, month, cutoffs.Now, cancellationToken)
                        : null;
                rows +=
                    whole
                    ?? await DeleteBatchesAsync(
                        dataClass,
                        table,
                        due,
                        start,
                        end < newest ? end : newest,
                        cutoffs.Now,
                        cancellationToken
                    );
            }
        }

        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await RetentionRuns.RaiseAsync(connection, dataClass, due, cancellationToken);
        return rows;
    }

    // Counted before the lock: what comes in meanwhile, years late, is not in the proof's number.
    private async Task<long?> EmptyAsync(
        string dataClass,
        AgingTable table,
        List<(Guid EnterpriseId, DateTime Before)> due,
        int month,
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        var before = due.ToDictionary(pair => pair.EnterpriseId, pair => pair.Before);
        var counted = new List<(Guid EnterpriseId, DateTime Before, long Rows)>();
        await using (NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken))
        await using (NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken))
        await using (
            NpgsqlCommand command = await PlannedAsync(
                connection,
                transaction,
                $"""
                SELECT enterprise_id, count(*) FROM {table.Name}
                 WHERE {table.TimeColumn} >= $1 AND {table.TimeColumn} < $2 GROUP BY enterprise_id
                """,
                cancellationToken
            )
        )
        {
            command.Parameters.Add(Columns.Value(MonthPartitions.StartOf(month).UtcDateTime));
            command.Parameters.Add(Columns.Value(MonthPartitions.StartOf(month + 1).UtcDateTime));
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                if (!before.TryGetValue(reader.GetGuid(0), out DateTime cutoff))
                {
                    return null;
                }

                counted.Add((reader.GetGuid(0), cutoff, reader.GetInt64(1)));
            }
        }

        bool isEmptied = await emptying.TryAsync(
            table.Name,
            month,
            async connection =>
            {
                if (counted.Count > 0)
                {
                    var runs = new RetentionRuns(dataClass, table.Name, isWholePartition: true, now);
                    await runs.AddAsync(connection, counted, 0, cancellationToken);
                }

                return true;
            },
            cancellationToken
        );
        return isEmptied ? counted.Sum(one => one.Rows) : null;
    }

    private async Task<long> DeleteBatchesAsync(
        string dataClass,
        AgingTable table,
        List<(Guid EnterpriseId, DateTime Before)> due,
        DateTime from,
        DateTime to,
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        // The bounds of the table itself choose its partition, where a row's place is its own.
        string bounds = $"kept.{table.TimeColumn} >= $3 AND kept.{table.TimeColumn} < $4";
        string sql = $"""
            WITH gone AS (
                DELETE FROM {table.Name} AS kept
                 WHERE {bounds}
                   AND kept.ctid = ANY (ARRAY(
                       SELECT kept.ctid FROM {table.Name} AS kept
                         JOIN unnest($1, $2) AS cutoff (enterprise_id, before) ON cutoff.enterprise_id = kept.enterprise_id
                        WHERE {bounds} AND kept.{table.TimeColumn} < cutoff.before AND {table.Condition}
                        LIMIT $5))
                RETURNING kept.enterprise_id)
            SELECT enterprise_id, count(*) FROM gone GROUP BY enterprise_id
            """;
        var before = due.ToDictionary(pair => pair.EnterpriseId, pair => pair.Before);
        var runs = new RetentionRuns(dataClass, table.Name, isWholePartition: false, now);
        long all = 0;
        while (true)
        {
            long started = Stopwatch.GetTimestamp();
            var deleted = new List<(Guid EnterpriseId, DateTime Before, long Rows)>();
            await using (NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken))
            await using (NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken))
            {
                await using (
                    NpgsqlCommand command = await PlannedAsync(connection, transaction, sql, cancellationToken)
                )
                {
                    command.Parameters.Add(Columns.Of(due, pair => pair.EnterpriseId));
                    command.Parameters.Add(Columns.Of(due, pair => pair.Before));
                    command.Parameters.Add(Columns.Value(from));
                    command.Parameters.Add(Columns.Value(to));
                    command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = BatchRows });
                    await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
                    while (await reader.ReadAsync(cancellationToken))
                    {
                        deleted.Add((reader.GetGuid(0), before[reader.GetGuid(0)], reader.GetInt64(1)));
                    }
                }

                if (deleted.Count > 0)
                {
                    await runs.AddAsync(connection, deleted, 0, cancellationToken);
                }

                await transaction.CommitAsync(cancellationToken);
            }

            long rows = deleted.Sum(one => one.Rows);
            all += rows;
            if (rows < BatchRows)
            {
                return all;
            }

            if (RestsBetween)
            {
                double rest = Stopwatch.GetElapsedTime(started).TotalMilliseconds * RestShare;
                await Task.Delay(
                    TimeSpan.FromMilliseconds(Math.Min(rest, RestsMaxMilliseconds)),
                    time,
                    cancellationToken
                );
            }
        }
    }

    // The login's plans are for single keys; these look at a month.
    private static async Task<NpgsqlCommand> PlannedAsync(
        NpgsqlConnection connection,
        NpgsqlTransaction transaction,
        string sql,
        CancellationToken cancellationToken
    )
    {
        await using var plans = new NpgsqlCommand(
            "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL plan_cache_mode = force_custom_plan",
            connection,
            transaction
        );
        await plans.ExecuteNonQueryAsync(cancellationToken);
        return new NpgsqlCommand(sql, connection, transaction) { CommandTimeout = 600 };
    }
}
