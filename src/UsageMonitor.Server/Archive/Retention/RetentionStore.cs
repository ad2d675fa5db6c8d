using System.Text;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary>An enterprise's retention as it is kept.</summary>
internal static class RetentionStore
{
    private const string Read = """
        SELECT archive, events_days, user_aggregates_days, aggregates_days, audit_days, decisions_days, legal_hold, legal_hold_reason,
               legal_hold_by, legal_hold_at
          FROM retention_settings WHERE enterprise_id = $1
        """;

    private const string ReadArchived = """
        SELECT coalesce(sum(event_count), 0)::bigint, coalesce(sum(file_bytes), 0)::bigint, min(archived_day), max(archived_day)
          FROM archive_files WHERE enterprise_id = $1
        """;

    private const string ReadClasses = """
        SELECT data_class, gone.deleted_before, coalesce(sum(runs.deleted_rows), 0)::bigint, max(runs.ran_at)
          FROM retention_progress AS gone LEFT JOIN retention_runs AS runs USING (enterprise_id, data_class)
         WHERE enterprise_id = $1 GROUP BY data_class, gone.deleted_before
        """;

    public static async Task<RetentionResponse> ReadAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        int archiveAfterDays,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        var settings = new RetentionRequest(true, null, null, null, null, null, false, null);
        (Guid? heldBy, DateTimeOffset? heldAt) = (null, null);
        await using (NpgsqlCommand command = own.Command(Read, enterprise.EnterpriseId))
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            if (await reader.ReadAsync(cancellationToken))
            {
                int?[] days =
                [
                    .. Enumerable
                        .Range(1, 5)
                        .Select(column => reader.IsDBNull(column) ? (int?)null : reader.GetInt32(column)),
                ];
                settings = new RetentionRequest(
                    reader.GetBoolean(0),
                    days[0],
                    days[1],
                    days[2],
                    days[3],
                    days[4],
                    reader.GetBoolean(6),
                    reader.IsDBNull(7) ? null : OpenReason(enterprise, reader.GetFieldValue<byte[]>(7))
                );
                heldBy = reader.IsDBNull(8) ? null : reader.GetGuid(8);
                heldAt = reader.IsDBNull(9) ? null : local.Show(reader.GetDateTime(9));
            }
        }

        var classes = new Dictionary<string, (DateTimeOffset Before, long Rows, DateTimeOffset? LastRunAt)>();
        await using (NpgsqlCommand command = own.Command(ReadClasses, enterprise.EnterpriseId))
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                classes[reader.GetString(0)] = (
                    local.Show(reader.GetDateTime(1)),
                    reader.GetInt64(2),
                    reader.IsDBNull(3) ? null : local.Show(reader.GetDateTime(3))
                );
            }
        }

        await using NpgsqlCommand archived = own.Command(ReadArchived, enterprise.EnterpriseId);
        await using NpgsqlDataReader found = await archived.ExecuteReaderAsync(cancellationToken);
        await found.ReadAsync(cancellationToken);
        return new RetentionResponse(
            settings.Archive == true,
            archiveAfterDays,
            settings.LegalHold == true,
            settings.LegalHoldReason,
            heldBy,
            heldAt,
            [
                .. RetentionClasses.Own.Select(name =>
                    classes.TryGetValue(name, out (DateTimeOffset Before, long Rows, DateTimeOffset? LastRunAt) gone)
                        ? new RetentionClass(name, DaysOf(settings, name), gone.Before, gone.Rows, gone.LastRunAt)
                        : new RetentionClass(name, DaysOf(settings, name), null, 0, null)
                ),
            ],
            found.GetInt64(0),
            found.GetInt64(1),
            found.IsDBNull(2) ? null : found.GetFieldValue<DateOnly>(2),
            found.IsDBNull(3) ? null : found.GetFieldValue<DateOnly>(3)
        );
    }

    // Who set the hold, and when, stays when other settings change while it holds.
    private const string Write = """
        INSERT INTO retention_settings AS kept (enterprise_id, archive, events_days, user_aggregates_days, aggregates_days, audit_days,
            decisions_days, legal_hold, legal_hold_reason, legal_hold_by, legal_hold_at, updated_by, updated_at)
        VALUES ($1, $2, $3::int, $4::int, $5::int, $6::int, $7::int, $8, $9::bytea,
            CASE WHEN $8 THEN $10::uuid END, CASE WHEN $8 THEN $11::timestamptz END, $10, $11)
        ON CONFLICT (enterprise_id) DO UPDATE
           SET archive = excluded.archive, events_days = excluded.events_days, user_aggregates_days = excluded.user_aggregates_days,
               aggregates_days = excluded.aggregates_days, audit_days = excluded.audit_days, decisions_days = excluded.decisions_days,
               legal_hold = excluded.legal_hold, legal_hold_reason = excluded.legal_hold_reason,
               legal_hold_by = CASE WHEN excluded.legal_hold AND kept.legal_hold THEN kept.legal_hold_by ELSE excluded.legal_hold_by END,
               legal_hold_at = CASE WHEN excluded.legal_hold AND kept.legal_hold THEN kept.legal_hold_at ELSE excluded.legal_hold_at END,
               updated_by = excluded.updated_by, updated_at = excluded.updated_at
        """;

    public static Task<int> WriteAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        RetentionRequest asked,
        Guid by,
        DateTime now,
        CancellationToken cancellationToken
    ) =>
        own.ExecuteAsync(
            Write,
            [
                enterprise.EnterpriseId,
                asked.Archive!.Value,
                asked.EventsDays,
                asked.UserAggregatesDays,
                asked.AggregatesDays,
                asked.AuditDays,
                asked.DecisionsDays,
                asked.LegalHold!.Value,
                asked is { LegalHold: true, LegalHoldReason: { } reason }
                    ? Sealing.Seal(enterprise.DataKey, Encoding.UTF8.GetBytes(reason), Context(enterprise))
                    : null,
                by,
                now,
            ],
            cancellationToken
        );

    private const string ListRuns = """
        SELECT run_id, data_class, table_name, deleted_before, deleted_rows, deleted_bytes, whole_partition, ran_at FROM retention_runs
         WHERE enterprise_id = $1 AND ($2::uuid IS NULL OR run_id < $2) ORDER BY run_id DESC LIMIT $3
        """;

    public static async Task<List<RetentionRunSummary>> ListRunsAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid? before,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        var runs = new List<RetentionRunSummary>();
        await using NpgsqlCommand command = own.Command(ListRuns, enterprise.EnterpriseId, before, limit);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            runs.Add(
                new RetentionRunSummary(
                    reader.GetGuid(0),
                    reader.GetString(1),
                    reader.GetString(2),
                    local.Show(reader.GetDateTime(3)),
                    reader.GetInt64(4),
                    reader.GetInt64(5),
                    reader.GetBoolean(6),
                    local.Show(reader.GetDateTime(7))
                )
            );
        }

        return runs;
    }

    private static int? DaysOf(RetentionRequest settings, string dataClass) =>
        dataClass switch
        {
            RetentionClasses.Events => settings.EventsDays,
            RetentionClasses.UserAggregates => settings.UserAggregatesDays,
            RetentionClasses.Aggregates => settings.AggregatesDays,
            RetentionClasses.Audit => settings.AuditDays,
            _ => settings.DecisionsDays,
        };

    private static string OpenReason(EnterpriseInfo enterprise, byte[] sealedReason) =>
        Encoding.UTF8.GetString(Sealing.Open(enterprise.DataKey, sealedReason, Context(enterprise)));

    private static byte[] Context(EnterpriseInfo enterprise) =>
        [.. enterprise.EnterpriseId.ToByteArray(), .. "legal-hold-reason"u8];
}
