using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary>
/// The ledger: what processing has accounted for, plus what the log still holds after the position that was read with it.
/// The log only grows, so the two parts neither overlap nor miss anything, whatever happens between the reads.
/// </summary>
internal sealed class LedgerReader(Database database, IEventLog log, TimeProvider time)
{
    private static readonly LedgerCounts s_nothing = new(0, 0, 0, 0, 0, 0, 0);

    public async Task<LedgerResponse> ReadAsync(
        EnterpriseInfo enterprise,
        DateOnly from,
        DateOnly to,
        CancellationToken cancellationToken
    )
    {
        // One statement, so that position and rows are of one snapshot.
        const string Sql = """
            SELECT position.segment_offset, position.processed_through, time_bucket, received, accepted, rejected, blocked, stored, duplicate
              FROM log_positions AS position
              LEFT JOIN usage_ledger ON enterprise_id = $1 AND time_bucket >= $2 AND time_bucket < $3
             WHERE position.log_partition = $4
             ORDER BY time_bucket
            """;
        var local = new LocalTime(enterprise.TimeZone);
        (DateTime start, DateTime end) = (local.DayStart(from), local.DayStart(to));
        var hours = new SortedDictionary<DateTime, LedgerCounts>();
        long position = 0;
        DateTime asked = time.GetUtcNow().UtcDateTime;
        DateTime through = asked;
        await using (
            ScopedTransaction scope = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken)
        )
        {
            await using NpgsqlCommand command = scope.Command(
                Sql,
                enterprise.EnterpriseId,
                start,
                end,
                enterprise.LogPartition
            );
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                position = reader.GetInt64(0);
                through = reader.GetDateTime(1);
                if (!reader.IsDBNull(2))
                {
                    hours[reader.GetDateTime(2)] = new LedgerCounts(
                        reader.GetInt64(3),
                        reader.GetInt64(4),
                        reader.GetInt64(5),
                        reader.GetInt64(6),
                        reader.GetInt64(7),
                        reader.GetInt64(8),
                        Pending: 0
                    );
                }
            }
        }

        bool pending = false;
        foreach (
            AppendedTally appended in await log.ReadTalliesAsync(enterprise.LogPartition, position, cancellationToken)
        )
        {
            DateTime hour = local.HourStart(appended.AppendedAt.UtcDateTime);
            pending = true;
            if (appended.Tally.EnterpriseId == enterprise.EnterpriseId && hour >= start && hour < end)
            {
                (_, int accepted, int rejected, int blocked) = appended.Tally;
                hours[hour] = Add(
                    hours.GetValueOrDefault(hour, s_nothing),
                    new LedgerCounts(accepted + rejected + blocked, accepted, rejected, blocked, 0, 0, accepted)
                );
            }
        }

        return new LedgerResponse(
            [
                .. hours.Select(hour => new LedgerHour(
                    local.Show(hour.Key),
                    hour.Value.Received,
                    hour.Value.Accepted,
                    hour.Value.Rejected,
                    hour.Value.Blocked,
                    hour.Value.Stored,
                    hour.Value.Duplicate,
                    hour.Value.Pending
                )),
            ],
            hours.Values.Aggregate(s_nothing, Add),
            local.Show(pending ? through : asked)
        );
    }

    private static LedgerCounts Add(LedgerCounts one, LedgerCounts other) =>
        new(
            one.Received + other.Received,
            one.Accepted + other.Accepted,
            one.Rejected + other.Rejected,
            one.Blocked + other.Blocked,
            one.Stored + other.Stored,
            one.Duplicate + other.Duplicate,
            one.Pending + other.Pending
        );
}
