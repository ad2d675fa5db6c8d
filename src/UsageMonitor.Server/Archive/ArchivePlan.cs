using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>An enterprise's finished day that has events the archive has not.</summary>
/// <param name="Enterprise">Whose.</param>
/// <param name="Day">The local day.</param>
/// <param name="Events">How many there are of the day, archived ones too.</param>
internal sealed record DueDay(EnterpriseInfo Enterprise, DateOnly Day, long Events);

/// <summary>Days that are archived together: of one log partition and of the same stretch of time, so that one reading serves them all.</summary>
internal sealed record ArchivePass(short LogPartition, DateTime Start, DateTime End, IReadOnlyList<DueDay> Days);

/// <summary>
/// Finds the days to archive, without looking at an event: the aggregates say how many events a day has, and each file says what
/// they said when it was written. A day is due when the two differ, so late and backfilled events make it due again.
/// </summary>
internal sealed class ArchivePlan(Database database, EnterpriseDirectory enterprises, ArchiveSettings settings)
{
    /// <summary>Days looked up at once; the rest follow when these are archived.</summary>
    public const int DaysMax = 5_000;

    public const int EnterprisesOfPassMax = 256;

    /// <summary>Events of one pass, unless a single day has more.</summary>
    public const long EventsOfPassMax = 2_000_000;

    // A day that has been deleted is not archived any more; what comes in late is deleted by the next run of retention.
    private const string FindDue = """
        SELECT counted.enterprise_id, counted.time_bucket, counted.value
          FROM usage_aggregates AS counted
          LEFT JOIN archive_files AS kept
            ON kept.enterprise_id = counted.enterprise_id AND kept.day_start = counted.time_bucket
          LEFT JOIN retention_settings AS settings ON settings.enterprise_id = counted.enterprise_id
          LEFT JOIN retention_progress AS gone ON gone.enterprise_id = counted.enterprise_id AND gone.data_class = 'EVENTS'
         WHERE counted.metric_type = 'usage_count' AND counted.granularity = 'day' AND counted.feature_name = ''
           AND counted.time_bucket < $1
           AND kept.counted IS DISTINCT FROM counted.value
           AND coalesce(settings.archive, true)
           AND (gone.deleted_before IS NULL OR counted.time_bucket >= gone.deleted_before)
         ORDER BY counted.time_bucket, counted.enterprise_id
         LIMIT $2
        """;

    public async Task<IReadOnlyList<ArchivePass>> FindAsync(DateTimeOffset now, CancellationToken cancellationToken)
    {
        DateTime horizon = now.UtcDateTime.AddDays(-settings.AfterDays);
        var found = new List<(Guid EnterpriseId, DateTime Start, long Events)>();
        await using (NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken))
        await using (NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken))
        {
            // The login's plans are for single keys; this one looks at a day of everybody, a year back.
            await using var plans = new NpgsqlCommand(
                "SET LOCAL enable_hashjoin = on; SET LOCAL enable_seqscan = on; SET LOCAL plan_cache_mode = force_custom_plan",
                connection,
                transaction
            );
            await plans.ExecuteNonQueryAsync(cancellationToken);
            await using var command = new NpgsqlCommand(FindDue, connection, transaction);
            command.Parameters.Add(new NpgsqlParameter<DateTime> { TypedValue = horizon });
            command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = DaysMax });
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                found.Add((reader.GetGuid(0), reader.GetDateTime(1), reader.GetInt64(2)));
            }
        }

        var days = new SortedDictionary<(DateTime Start, DateTime End, short Partition), List<DueDay>>();
        foreach ((Guid enterpriseId, DateTime start, long events) in found)
        {
            if (await enterprises.FindAsync(enterpriseId, cancellationToken) is not { } enterprise)
            {
                continue;
            }

            var local = new LocalTime(enterprise.TimeZone);
            DateOnly day = local.DateOf(start);
            DateTime end = local.DayStart(day.AddDays(1));
            if (end > horizon)
            {
                continue;
            }

            (DateTime, DateTime, short) key = (start, end, enterprise.LogPartition);
            if (!days.TryGetValue(key, out List<DueDay>? together))
            {
                days[key] = together = [];
            }

            together.Add(new DueDay(enterprise, day, events));
        }

        return
        [
            .. days.SelectMany(pair =>
                Split(pair.Value)
                    .Select(some => new ArchivePass(pair.Key.Partition, pair.Key.Start, pair.Key.End, some))
            ),
        ];
    }

    private static IEnumerable<List<DueDay>> Split(List<DueDay> days)
    {
        var some = new List<DueDay>();
        long events = 0;
        foreach (DueDay day in days)
        {
            if (some.Count == EnterprisesOfPassMax || (some.Count > 0 && events + day.Events > EventsOfPassMax))
            {
                yield return some;
                (some, events) = ([], 0);
            }

            some.Add(day);
            events += day.Events;
        }

        if (some.Count > 0)
        {
            yield return some;
        }
    }
}
