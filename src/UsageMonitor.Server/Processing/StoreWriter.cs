using System.Runtime.InteropServices;
using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>The statements of a step, on the step's connection and so in its transaction.</summary>
internal sealed class StoreWriter(NpgsqlConnection connection, short partition, MonthPartitions months)
{
    /// <summary>Marks the events that an earlier step has stored.</summary>
    public async Task FindStoredAsync(StepEvents step, CancellationToken cancellationToken)
    {
        // A month at a time: the constant bounds let PostgreSQL look into the few partitions of the window only.
        const string Sql = """
            SELECT probe.place
              FROM unnest($1, $2, $3, $4) AS probe (enterprise_id, event_id, event_timestamp, place)
             WHERE EXISTS (
                   SELECT FROM usage_events AS stored
                    WHERE stored.enterprise_id = probe.enterprise_id
                      AND stored.event_id = probe.event_id
                      AND stored.event_timestamp >= $5
                      AND stored.event_timestamp < $6
                      AND stored.event_timestamp - probe.event_timestamp BETWEEN -$7 AND $7)
            """;
        var byMonth = new SortedDictionary<int, List<int>>();
        for (int place = 0; place < step.Events.Count; place++)
        {
            if (step.Events[place].Duplicate)
            {
                continue;
            }

            int month = MonthPartitions.MonthOf(step.Events[place].Timestamp);
            if (!byMonth.TryGetValue(month, out List<int>? places))
            {
                byMonth[month] = places = [];
            }

            places.Add(place);
        }

        await using var batch = new NpgsqlBatch(connection);
        foreach ((int month, List<int> places) in byMonth)
        {
            List<StepEvent> probes = [.. places.Select(place => step.Events[place])];
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(Sql)
                {
                    Parameters =
                    {
                        Column(probes, probe => probe.Enterprise.EnterpriseId),
                        Column(probes, probe => probe.Header.EventId),
                        Column(probes, probe => probe.Timestamp),
                        new NpgsqlParameter<int[]> { TypedValue = [.. places] },
                        Value(MonthPartitions.StartOf(month).UtcDateTime - StepEvents.DeduplicationWindow),
                        Value(MonthPartitions.StartOf(month + 1).UtcDateTime + StepEvents.DeduplicationWindow),
                        new NpgsqlParameter<TimeSpan> { TypedValue = StepEvents.DeduplicationWindow },
                    },
                }
            );
        }

        if (batch.BatchCommands.Count == 0)
        {
            return;
        }

        await using NpgsqlDataReader reader = await batch.ExecuteReaderAsync(cancellationToken);
        do
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                CollectionsMarshal.AsSpan(step.Events)[reader.GetInt32(0)].Duplicate = true;
            }
        } while (await reader.NextResultAsync(cancellationToken));
    }

    /// <summary>Stores the events and everything they add to, and advances the position.</summary>
    public async Task WriteAsync(StepEvents step, StepTotals totals, Segment last, CancellationToken cancellationToken)
    {
        List<StepEvent> stored = [.. step.Events.Where(current => !current.Duplicate)];
        stored.Sort(CompareByKey);
        await EnsureMonthsAsync(stored, totals, cancellationToken);
        await using var batch = new NpgsqlBatch(connection);
        if (stored.Count > 0)
        {
            batch.BatchCommands.Add(InsertEvents(stored));
            batch.BatchCommands.Add(AddToAggregates([.. totals.Aggregates]));
            batch.BatchCommands.Add(AddToUsers(totals));
            batch.BatchCommands.Add(InsertActiveUsers([.. totals.ActiveUsers], last.Offset));
        }

        batch.BatchCommands.Add(AddToLedger([.. totals.Ledger]));
        batch.BatchCommands.Add(
            new NpgsqlBatchCommand(
                """
                UPDATE log_positions
                   SET segment_offset = $2, processed_events = processed_events + $3, processed_through = $4
                 WHERE log_partition = $1
                """
            )
            {
                Parameters =
                {
                    new NpgsqlParameter<short> { TypedValue = partition },
                    new NpgsqlParameter<long> { TypedValue = last.Offset },
                    new NpgsqlParameter<long> { TypedValue = step.Events.Count },
                    Value(last.AppendedAt.UtcDateTime),
                },
            }
        );
        await batch.ExecuteNonQueryAsync(cancellationToken);
    }

    private NpgsqlBatchCommand InsertEvents(List<StepEvent> stored) =>
        new(
            """
            INSERT INTO usage_events
                (enterprise_id, event_id, user_id, event_timestamp, received_at, segment_offset, segment_slot, log_partition,
                 feature_name, event_type)
            SELECT enterprise_id, event_id, user_id, event_timestamp, received_at, segment_offset, segment_slot, $9, feature_name, event_type
              FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $10)
                   AS event (enterprise_id, event_id, user_id, event_timestamp, received_at, segment_offset, segment_slot, feature_name, event_type)
            """
        )
        {
            Parameters =
            {
                Column(stored, e => e.Enterprise.EnterpriseId),
                Column(stored, e => e.Header.EventId),
                Column(stored, e => e.Header.UserId),
                Column(stored, e => e.Timestamp),
                Column(stored, e => e.ReceivedAt),
                Column(stored, e => e.SegmentOffset),
                Column(stored, e => e.SegmentSlot),
                Column(stored, e => e.Header.FeatureName),
                new NpgsqlParameter<short> { TypedValue = partition },
                Column(stored, e => e.Header.EventType),
            },
        };

    private static NpgsqlBatchCommand AddToAggregates(List<KeyValuePair<StepTotals.AggregateKey, long>> rows) =>
        new(
            """
            INSERT INTO usage_aggregates AS kept (enterprise_id, metric_type, granularity, feature_name, time_bucket, value)
            SELECT enterprise_id, 'usage_count', CASE WHEN daily THEN 'day' ELSE 'hour' END, feature_name, time_bucket, value
              FROM unnest($1, $2, $3, $4, $5) AS added (enterprise_id, daily, feature_name, time_bucket, value)
                ON CONFLICT (enterprise_id, metric_type, granularity, feature_name, time_bucket)
                DO UPDATE SET value = kept.value + excluded.value
            """
        )
        {
            Parameters =
            {
                Column(rows, row => row.Key.EnterpriseId),
                Column(rows, row => row.Key.Daily),
                Column(rows, row => row.Key.FeatureName),
                Column(rows, row => row.Key.TimeBucket),
                Column(rows, row => row.Value),
            },
        };

    private static NpgsqlBatchCommand AddToUsers(StepTotals totals)
    {
        List<KeyValuePair<StepTotals.UserKey, StepTotals.UserUsage>> rows = [.. totals.Users];
        rows.Sort(
            static (one, other) =>
            {
                int order = CompareAsPostgres(one.Key.EnterpriseId, other.Key.EnterpriseId);
                return order != 0 ? order : CompareAsPostgres(one.Key.UserId, other.Key.UserId);
            }
        );
        return new NpgsqlBatchCommand(
            """
            INSERT INTO user_usage_aggregates AS kept
                (enterprise_id, user_id, feature_name, time_bucket, usage_count, first_at, last_at)
            SELECT enterprise_id, user_id, feature_name, time_bucket, usage_count, first_at, last_at
              FROM unnest($1, $2, $3, $4, $5, $6, $7)
                   AS added (enterprise_id, user_id, feature_name, time_bucket, usage_count, first_at, last_at)
                ON CONFLICT (enterprise_id, user_id, feature_name, time_bucket)
                DO UPDATE SET usage_count = kept.usage_count + excluded.usage_count,
                              first_at = least(kept.first_at, excluded.first_at),
                              last_at = greatest(kept.last_at, excluded.last_at)
            """
        )
        {
            Parameters =
            {
                Column(rows, row => row.Key.EnterpriseId),
                Column(rows, row => row.Key.UserId),
                Column(rows, row => row.Key.FeatureName),
                Column(rows, row => row.Key.Day),
                Column(rows, row => row.Value.Count),
                Column(rows, row => row.Value.FirstAt),
                Column(rows, row => row.Value.LastAt),
            },
        };
    }

    private static NpgsqlBatchCommand InsertActiveUsers(List<KeyValuePair<StepTotals.DayKey, ActiveUsers>> rows, long offset) =>
        new(
            """
            INSERT INTO active_user_sets (enterprise_id, time_bucket, level, segment_offset, members, hourly_members)
            SELECT enterprise_id, time_bucket, 0, $5, members, hourly_members
              FROM unnest($1, $2, $3, $4) AS seen (enterprise_id, time_bucket, members, hourly_members)
            """
        )
        {
            Parameters =
            {
                Column(rows, row => row.Key.EnterpriseId),
                Column(rows, row => row.Key.Day),
                Column(rows, row => row.Value.EncodeDay()),
                Column(rows, row => row.Value.EncodeHours()),
                new NpgsqlParameter<long> { TypedValue = offset },
            },
        };

    private static NpgsqlBatchCommand AddToLedger(
        List<KeyValuePair<(Guid EnterpriseId, DateTime Hour), StepTotals.LedgerRow>> rows
    ) =>
        new(
            """
            INSERT INTO usage_ledger AS kept (enterprise_id, time_bucket, received, accepted, rejected, stored, duplicate)
            SELECT enterprise_id, time_bucket, accepted + rejected, accepted, rejected, stored, duplicate
              FROM unnest($1, $2, $3, $4, $5, $6) AS added (enterprise_id, time_bucket, accepted, rejected, stored, duplicate)
                ON CONFLICT (enterprise_id, time_bucket)
                DO UPDATE SET received = kept.received + excluded.received,
                              accepted = kept.accepted + excluded.accepted,
                              rejected = kept.rejected + excluded.rejected,
                              stored = kept.stored + excluded.stored,
                              duplicate = kept.duplicate + excluded.duplicate
            """
        )
        {
            Parameters =
            {
                Column(rows, row => row.Key.EnterpriseId),
                Column(rows, row => row.Key.Hour),
                Column(rows, row => row.Value.Accepted),
                Column(rows, row => row.Value.Rejected),
                Column(rows, row => row.Value.Stored),
                Column(rows, row => row.Value.Duplicate),
            },
        };

    private async Task EnsureMonthsAsync(List<StepEvent> stored, StepTotals totals, CancellationToken cancellationToken)
    {
        foreach (StepEvent current in stored)
        {
            await months.EnsureAsync("usage_events", MonthPartitions.MonthOf(current.Timestamp), cancellationToken);
        }

        // A local hour or day can begin in the month before its events.
        foreach (StepTotals.AggregateKey key in totals.Aggregates.Keys)
        {
            int month = MonthPartitions.MonthOf(key.TimeBucket);
            await months.EnsureAsync("usage_aggregates", month, cancellationToken);
            if (key.Daily)
            {
                await months.EnsureAsync("user_usage_aggregates", month, cancellationToken);
                await months.EnsureAsync("active_user_sets", month, cancellationToken);
            }
        }

        foreach ((_, DateTime hour) in totals.Ledger.Keys)
        {
            await months.EnsureAsync("usage_ledger", MonthPartitions.MonthOf(hour), cancellationToken);
        }
    }

    // In the order of the index, so that a step touches each of its pages once.
    private static int CompareByKey(StepEvent one, StepEvent other)
    {
        int order = CompareAsPostgres(one.Enterprise.EnterpriseId, other.Enterprise.EnterpriseId);
        return order != 0 ? order : CompareAsPostgres(one.Header.EventId, other.Header.EventId);
    }

    // Guid compares field by field from the first, which is the byte order of its text and so PostgreSQL's.
    private static int CompareAsPostgres(Guid one, Guid other) => one.CompareTo(other);

    private static NpgsqlParameter<TColumn[]> Column<TRow, TColumn>(List<TRow> rows, Func<TRow, TColumn> read)
    {
        var column = new TColumn[rows.Count];
        for (int i = 0; i < column.Length; i++)
        {
            column[i] = read(rows[i]);
        }

        return new NpgsqlParameter<TColumn[]> { TypedValue = column };
    }

    private static NpgsqlParameter<DateTime> Value(DateTime utc) => new() { TypedValue = utc };
}
