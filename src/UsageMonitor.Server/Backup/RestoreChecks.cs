using Npgsql;
using UsageMonitor.Server.Audit;

namespace UsageMonitor.Server.Backup;

/// <summary>What must be true of a restored database; each check says what it found.</summary>
internal static class RestoreChecks
{
    private const string CountLedger = """
        SELECT count(*) FILTER (WHERE received <> accepted + rejected + blocked OR accepted <> stored + duplicate), coalesce(sum(stored), 0)::bigint
          FROM usage_ledger
        """;

    // What retention deleted is in no table any more, so such enterprises are left out of the sum.
    private const string CountStored = """
        WITH kept AS (SELECT enterprise_id FROM enterprises
                       WHERE NOT EXISTS (SELECT FROM retention_runs AS gone
                                          WHERE gone.enterprise_id = enterprises.enterprise_id AND gone.data_class IN ('EVENTS', 'AGGREGATES')))
        SELECT (SELECT coalesce(sum(stored), 0)::bigint FROM usage_ledger JOIN kept USING (enterprise_id)),
               (SELECT count(*) FROM usage_events JOIN kept USING (enterprise_id))
             + (SELECT coalesce(sum(event_count), 0)::bigint FROM archive_files JOIN kept USING (enterprise_id))
        """;

    private const string CountAhead = """
        SELECT count(*) FROM log_positions JOIN log_partitions USING (log_partition) WHERE segment_offset >= next_offset
        """;

    private const string ListArchive = "SELECT path, encode(file_sha256, 'hex') FROM archive_files ORDER BY path";
    private const string ListChains = """
        SELECT h.enterprise_id, h.sequence, coalesce(t.sequence, 0) FROM audit_heads AS h LEFT JOIN audit_trims AS t USING (enterprise_id)
        """;

    /// <param name="connectionString">The owner's.</param>
    /// <param name="archiveFolder">Where the archive was restored to.</param>
    /// <param name="tell">Takes a line for people.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>Whether all is as it must be.</returns>
    public static async Task<bool> RunAsync(
        string connectionString,
        string archiveFolder,
        Action<string> tell,
        CancellationToken cancellationToken
    )
    {
        await using var source = NpgsqlDataSource.Create(connectionString);
        bool isWhole = true;
        (long wrong, long stored) = await PairAsync(source, CountLedger, cancellationToken);
        Tell(wrong == 0, $"Ledger: {stored} events stored; {wrong} hours do not add up.");
        (long counted, long found) = await PairAsync(source, CountStored, cancellationToken);
        Tell(counted == found, $"Events: the ledger says {counted}, there are {found}.");
        await using (NpgsqlCommand command = source.CreateCommand(CountAhead))
        {
            long ahead = (long)(await command.ExecuteScalarAsync(cancellationToken))!;
            Tell(ahead == 0, $"Event log: {ahead} positions are beyond its end.");
        }

        (int files, List<string> damaged) = await ArchiveAsync(source, archiveFolder, cancellationToken);
        Tell(
            damaged.Count == 0,
            $"Archive: {files} files"
                + (damaged.Count == 0 ? ", all there." : $"; not as catalogued: {string.Join(", ", damaged.Take(5))}.")
        );
        (int chains, List<string> broken) = await ChainsAsync(source, cancellationToken);
        Tell(
            broken.Count == 0,
            $"Audit: {chains} chains"
                + (broken.Count == 0 ? ", all whole." : $"; broken: {string.Join("; ", broken.Take(5))}.")
        );
        return isWhole;

        void Tell(bool isRight, string line)
        {
            isWhole &= isRight;
            tell((isRight ? "ok      " : "WRONG   ") + line);
        }
    }

    private static async Task<(long, long)> PairAsync(
        NpgsqlDataSource source,
        string sql,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = source.CreateCommand(sql);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        return (reader.GetInt64(0), reader.GetInt64(1));
    }

    private static async Task<(int Files, List<string> Damaged)> ArchiveAsync(
        NpgsqlDataSource source,
        string archiveFolder,
        CancellationToken cancellationToken
    )
    {
        int files = 0;
        var damaged = new List<string>();
        await using NpgsqlCommand command = source.CreateCommand(ListArchive);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            files++;
            string file = Path.Combine(archiveFolder, reader.GetString(0));
            if (!File.Exists(file) || BackupFolder.HashOf(file) != reader.GetString(1))
            {
                damaged.Add(reader.GetString(0));
            }
        }

        return (files, damaged);
    }

    private static async Task<(int Chains, List<string> Broken)> ChainsAsync(
        NpgsqlDataSource source,
        CancellationToken cancellationToken
    )
    {
        var heads = new List<(Guid EnterpriseId, long Sequence, long Trimmed)>();
        await using (NpgsqlCommand command = source.CreateCommand(ListChains))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                heads.Add((reader.GetGuid(0), reader.GetInt64(1), reader.GetInt64(2)));
            }
        }

        var broken = new List<string>();
        foreach ((Guid enterpriseId, long sequence, long trimmed) in heads)
        {
            var verifier = new AuditVerifier([], trimmed + 1);
            await foreach (
                AuditRecord record in AuditReader.ReadAsync(
                    sql => source.CreateCommand(sql),
                    enterpriseId,
                    null,
                    trimmed + 1,
                    sequence,
                    cancellationToken
                )
            )
            {
                verifier.Add(record);
            }

            AuditVerdict verdict = verifier.End();
            if (verdict.Fault is { } fault || verdict.Last != sequence)
            {
                broken.Add($"{enterpriseId} at {verdict.Fault?.Sequence ?? verdict.Last + 1}");
            }
        }

        return (heads.Count, broken);
    }
}
