using Npgsql;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary>Writes the proof of what was deleted, in the transaction that deleted it.</summary>
internal sealed class RetentionRuns(string dataClass, string table, bool isWholePartition, DateTime now)
{
    private readonly Dictionary<Guid, Guid> _runs = [];

    // A run that goes on in further batches adds to its row.
    private const string Add = """
        INSERT INTO retention_runs AS kept (enterprise_id, run_id, data_class, table_name, deleted_before, deleted_rows, deleted_bytes,
            whole_partition, ran_at)
        SELECT enterprise_id, run_id, $5, $6, deleted_before, deleted_rows, $8, $7, $9
          FROM unnest($1, $2, $3, $4) AS run (enterprise_id, run_id, deleted_before, deleted_rows)
            ON CONFLICT (enterprise_id, run_id)
            DO UPDATE SET deleted_rows = kept.deleted_rows + excluded.deleted_rows, deleted_bytes = kept.deleted_bytes + excluded.deleted_bytes
        """;

    private const string Raise = """
        INSERT INTO retention_progress AS kept (enterprise_id, data_class, deleted_before)
        SELECT enterprise_id, $2, deleted_before FROM unnest($1, $3) AS gone (enterprise_id, deleted_before)
            ON CONFLICT (enterprise_id, data_class)
            DO UPDATE SET deleted_before = greatest(kept.deleted_before, excluded.deleted_before)
        """;

    /// <param name="connection">With the transaction.</param>
    /// <param name="deleted">Rows of each enterprise, and before when.</param>
    /// <param name="bytes">Of files, when it is one enterprise's.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task AddAsync(
        NpgsqlConnection connection,
        List<(Guid EnterpriseId, DateTime Before, long Rows)> deleted,
        long bytes,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(Add, connection);
        command.Parameters.Add(Columns.Of(deleted, one => one.EnterpriseId));
        command.Parameters.Add(Columns.Of(deleted, one => RunOf(one.EnterpriseId)));
        command.Parameters.Add(Columns.Of(deleted, one => one.Before));
        command.Parameters.Add(Columns.Of(deleted, one => one.Rows));
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = dataClass });
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = table });
        command.Parameters.Add(new NpgsqlParameter<bool> { TypedValue = isWholePartition });
        command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = bytes });
        command.Parameters.Add(Columns.Value(now));
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    /// <summary>Remembers that nothing older is left of a class, or will be kept if it comes.</summary>
    public static async Task RaiseAsync(
        NpgsqlConnection connection,
        string dataClass,
        List<(Guid EnterpriseId, DateTime Before)> gone,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(Raise, connection);
        command.Parameters.Add(Columns.Of(gone, one => one.EnterpriseId));
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = dataClass });
        command.Parameters.Add(Columns.Of(gone, one => one.Before));
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private Guid RunOf(Guid enterpriseId)
    {
        if (!_runs.TryGetValue(enterpriseId, out Guid run))
        {
            _runs[enterpriseId] = run = Guid.CreateVersion7(new DateTimeOffset(now, TimeSpan.Zero));
        }

        return run;
    }
}
