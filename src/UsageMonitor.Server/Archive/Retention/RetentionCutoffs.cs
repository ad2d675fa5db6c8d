using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary>From when on each enterprise keeps what it has of each class.</summary>
internal sealed class RetentionCutoffs
{
    private readonly Dictionary<(Guid EnterpriseId, string Class), DateTime> _cutoffs = [];

    /// <summary>All enterprises, those without settings too.</summary>
    public required IReadOnlyList<Guid> Enterprises { get; init; }

    /// <summary>Enterprises under legal hold: nothing of theirs is deleted.</summary>
    public required IReadOnlySet<Guid> Held { get; init; }

    public required DateTime Now { get; init; }

    /// <summary>What is before may go; <see cref="DateTime.MinValue"/>: nothing.</summary>
    public DateTime Of(Guid enterpriseId, string dataClass) =>
        _cutoffs.GetValueOrDefault((enterpriseId, dataClass), DateTime.MinValue);

    /// <summary>As <see cref="Of(Guid, string)"/>, of a table.</summary>
    public DateTime Of(Guid enterpriseId, string dataClass, AgingTable table) =>
        table.FixedDays is not { } days ? Of(enterpriseId, dataClass)
        : Held.Contains(enterpriseId) ? DateTime.MinValue
        : Now.AddDays(-days);

    // The first day that has events which are not archived, when the archive is wanted: up to there nothing may go.
    private const string Read = """
        SELECT e.enterprise_id, s.events_days, s.user_aggregates_days, s.aggregates_days, s.audit_days, s.decisions_days,
               coalesce(s.legal_hold, false), gone.deleted_before,
               CASE WHEN coalesce(s.archive, true) AND s.events_days IS NOT NULL THEN (
                   SELECT min(counted.time_bucket)
                     FROM usage_aggregates AS counted
                     LEFT JOIN archive_files AS kept
                       ON kept.enterprise_id = counted.enterprise_id AND kept.day_start = counted.time_bucket
                    WHERE counted.enterprise_id = e.enterprise_id AND counted.metric_type = 'usage_count'
                      AND counted.granularity = 'day' AND counted.feature_name = ''
                      AND kept.counted IS DISTINCT FROM counted.value
                      AND (gone.deleted_before IS NULL OR counted.time_bucket >= gone.deleted_before)) END
          FROM enterprises AS e
          LEFT JOIN retention_settings AS s ON s.enterprise_id = e.enterprise_id
          LEFT JOIN retention_progress AS gone ON gone.enterprise_id = e.enterprise_id AND gone.data_class = 'EVENTS'
        """;

    public static async Task<RetentionCutoffs> ReadAsync(
        Database database,
        EnterpriseDirectory enterprises,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        var rows = new List<(Guid Id, int?[] Days, bool IsHeld, DateTime? Before, DateTime? Unarchived)>();
        await using (NpgsqlCommand command = database.Pipeline.CreateCommand(Read))
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                int?[] days =
                [
                    .. Enumerable
                        .Range(1, 5)
                        .Select(column => reader.IsDBNull(column) ? (int?)null : reader.GetInt32(column)),
                ];
                rows.Add(
                    (
                        reader.GetGuid(0),
                        days,
                        reader.GetBoolean(6),
                        reader.IsDBNull(7) ? null : reader.GetDateTime(7),
                        reader.IsDBNull(8) ? null : reader.GetDateTime(8)
                    )
                );
            }
        }

        var cutoffs = new RetentionCutoffs
        {
            Enterprises = [.. rows.Select(row => row.Id)],
            Held = rows.Where(row => row.IsHeld).Select(row => row.Id).ToHashSet(),
            Now = now.UtcDateTime,
        };
        foreach ((Guid id, int?[] days, bool isHeld, DateTime? before, DateTime? unarchived) in rows)
        {
            if (isHeld || await enterprises.FindAsync(id, cancellationToken) is not { } enterprise)
            {
                continue;
            }

            var local = new LocalTime(enterprise.TimeZone);
            DateOnly today = local.DateOf(now.UtcDateTime);
            for (int i = 0; i < RetentionClasses.Own.Length; i++)
            {
                if (days[i] is not { } kept)
                {
                    continue;
                }

                DateTime cutoff = local.DayStart(today.AddDays(-kept));
                if (RetentionClasses.Own[i] == RetentionClasses.Events)
                {
                    cutoff = unarchived is { } first && first < cutoff ? first : cutoff;
                    cutoff = before is { } gone && gone > cutoff ? gone : cutoff;
                }

                cutoffs._cutoffs[(id, RetentionClasses.Own[i])] = cutoff;
            }
        }

        return cutoffs;
    }
}
