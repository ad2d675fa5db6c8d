using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary>
/// Empties whole partitions. It waits for its lock for <see cref="LockMilliseconds"/> at most and holds it for
/// <see cref="HoldMilliseconds"/> at most; when either is not enough, nothing is done and the next run tries again.
/// </summary>
internal sealed class MonthEmptying(Database database)
{
    public const int LockMilliseconds = 40;
    public const int HoldMilliseconds = 50;

    private const string FindMonths = """
        SELECT (regexp_match(leaf.relname, '_(\d{4})_(\d{2})$'))[1]::int * 12 + (regexp_match(leaf.relname, '_(\d{4})_(\d{2})$'))[2]::int - 1
          FROM pg_inherits JOIN pg_class AS leaf ON leaf.oid = inhrelid
         WHERE inhparent = $1::text::regclass AND pg_relation_size(leaf.oid) > 0
         ORDER BY 1
        """;

    /// <summary>The months of a table that have anything, as <see cref="MonthPartitions"/> numbers them.</summary>
    public async Task<List<int>> FindMonthsAsync(string table, CancellationToken cancellationToken)
    {
        var months = new List<int>();
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(FindMonths);
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = table });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            months.Add(reader.GetInt32(0));
        }

        return months;
    }

    /// <summary>Empties a month in one transaction with what is written of it.</summary>
    /// <param name="table">The table.</param>
    /// <param name="month">The month.</param>
    /// <param name="mayAsync">Asked while the partition is locked: whether it may go, after what is to be written was written.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>Whether it was emptied.</returns>
    public async Task<bool> TryAsync(
        string table,
        int month,
        Func<NpgsqlConnection, Task<bool>> mayAsync,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        try
        {
            await using (
                var limits = new NpgsqlCommand(
                    $"SET LOCAL lock_timeout = {LockMilliseconds}; SET LOCAL statement_timeout = {LockMilliseconds + HoldMilliseconds}; "
                        + "SET LOCAL enable_seqscan = on; SET LOCAL plan_cache_mode = force_custom_plan",
                    connection,
                    transaction
                )
            )
            {
                await limits.ExecuteNonQueryAsync(cancellationToken);
            }

            if (
                await CallAsync(connection, "SELECT lock_month_partition($1, $2)", table, month, cancellationToken)
                is null
                    or DBNull
            )
            {
                return false;
            }

            if (
                !await mayAsync(connection)
                || await CallAsync(connection, "SELECT empty_month_partition($1, $2)", table, month, cancellationToken)
                    is not true
            )
            {
                return false;
            }

            await transaction.CommitAsync(cancellationToken);
            return true;
        }
        catch (PostgresException exception)
            when (exception.SqlState is PostgresErrorCodes.LockNotAvailable or PostgresErrorCodes.QueryCanceled
                && !cancellationToken.IsCancellationRequested
            )
        {
            return false;
        }
    }

    /// <summary>Empties a month that has no row any more, so that the room of deleted ones is given back.</summary>
    public Task<bool> TryIfNothingIsLeftAsync(
        string table,
        string timeColumn,
        int month,
        CancellationToken cancellationToken
    ) =>
        TryAsync(
            table,
            month,
            async connection =>
            {
                await using var command = new NpgsqlCommand(
                    $"SELECT EXISTS (SELECT FROM {table} WHERE {timeColumn} >= $1 AND {timeColumn} < $2)",
                    connection
                );
                command.Parameters.Add(Columns.Value(MonthPartitions.StartOf(month).UtcDateTime));
                command.Parameters.Add(Columns.Value(MonthPartitions.StartOf(month + 1).UtcDateTime));
                return await command.ExecuteScalarAsync(cancellationToken) is false;
            },
            cancellationToken
        );

    private static async Task<object?> CallAsync(
        NpgsqlConnection connection,
        string sql,
        string table,
        int month,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(sql, connection);
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = table });
        command.Parameters.Add(
            new NpgsqlParameter<DateOnly>
            {
                TypedValue = DateOnly.FromDateTime(MonthPartitions.StartOf(month).UtcDateTime),
            }
        );
        return await command.ExecuteScalarAsync(cancellationToken);
    }
}
