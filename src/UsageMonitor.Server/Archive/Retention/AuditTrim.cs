using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary>Deletes from the beginning of an enterprise's audit log what it keeps no longer.</summary>
/// <remarks>
/// Invariant: what is left can be followed from a signed checkpoint, whose hash is what the first entry that is left says of the one
/// before it; and an entry of the same chain, written by the transaction that deletes, tells how far. So an end, a beginning or a
/// middle that somebody else took away is still found (<c>AuditVerifier</c>). <c>trim_audit</c> holds to that whoever calls it.
/// What an active destination has not taken yet is not deleted.
/// </remarks>
internal sealed class AuditTrim(Database database)
{
    public const string Action = "audit.trimmed";

    /// <summary>Entries of one transaction, unless the next checkpoint is further away.</summary>
    public const int BatchEntries = 10_000;

    /// <summary>No audit log is kept for less; also in <c>trim_audit</c>.</summary>
    public const int DaysMin = 30;

    private const string FindThrough = """
        WITH gone AS (SELECT coalesce(max(sequence), 0) AS sequence FROM audit_trims WHERE enterprise_id = $1),
             kept AS (SELECT min(sequence) AS sequence FROM audit_log WHERE enterprise_id = $1 AND occurred_at >= $2),
             sent AS (SELECT min(cursor_sequence) AS sequence FROM audit_destinations WHERE enterprise_id = $1 AND status = 'ACTIVE')
        SELECT signed.sequence
          FROM audit_checkpoints AS signed, gone, kept, sent
         WHERE signed.enterprise_id = $1 AND signed.sequence > gone.sequence
           AND (kept.sequence IS NULL OR signed.sequence < kept.sequence)
           AND (sent.sequence IS NULL OR signed.sequence <= sent.sequence)
         ORDER BY signed.sequence <= gone.sequence + $3 DESC,
                  CASE WHEN signed.sequence <= gone.sequence + $3 THEN -signed.sequence ELSE signed.sequence END
         LIMIT 1
        """;

    private const string Trim = "SELECT trim_audit($1, $2)";

    /// <returns>Entries deleted.</returns>
    public async Task<long> RunAsync(RetentionCutoffs cutoffs, CancellationToken cancellationToken)
    {
        long all = 0;
        foreach (Guid enterpriseId in cutoffs.Enterprises)
        {
            DateTime cutoff = cutoffs.Of(enterpriseId, RetentionClasses.Audit);
            if (cutoff == DateTime.MinValue)
            {
                continue;
            }

            DateTime youngest = cutoffs.Now.AddDays(-DaysMin);
            cutoff = cutoff < youngest ? cutoff : youngest;
            while (await FindAsync(enterpriseId, cutoff, cancellationToken) is { } through)
            {
                all += await TrimAsync(enterpriseId, cutoff, through, cutoffs.Now, cancellationToken);
            }
        }

        return all;
    }

    private async Task<long?> FindAsync(Guid enterpriseId, DateTime cutoff, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(FindThrough);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
        command.Parameters.Add(Columns.Value(cutoff));
        command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = BatchEntries });
        return await command.ExecuteScalarAsync(cancellationToken) as long?;
    }

    // The deletion, the entry that tells of it and the proof commit together.
    private async Task<long> TrimAsync(
        Guid enterpriseId,
        DateTime cutoff,
        long through,
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using var own = new ScopedTransaction(connection, transaction, database);
        await own.SetAsync(Database.EnterpriseSetting, enterpriseId.ToString(), cancellationToken);
        own.Audit(
            new AuditEntry(Action, "audit_log", through.ToString(System.Globalization.CultureInfo.InvariantCulture))
            {
                Actor = AuditActor.System,
                After = new { deletedBefore = cutoff },
            }
        );
        await own.WriteAuditAsync(cancellationToken);
        await using NpgsqlCommand command = own.Command(Trim, enterpriseId, through);
        long rows = (long)(await command.ExecuteScalarAsync(cancellationToken))!;
        await new RetentionRuns(RetentionClasses.Audit, AuditTrail.Table, isWholePartition: false, now).AddAsync(
            connection,
            [(enterpriseId, cutoff, rows)],
            0,
            cancellationToken
        );
        await RetentionRuns.RaiseAsync(connection, RetentionClasses.Audit, [(enterpriseId, cutoff)], cancellationToken);
        await own.CommitAsync(cancellationToken);
        return rows;
    }
}
