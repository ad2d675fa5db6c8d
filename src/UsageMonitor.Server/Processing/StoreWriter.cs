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
        var probes = new List<(StepEnterprise Enterprise, int Index)>(step.Count);
        var byMonth = new SortedDictionary<int, List<int>>();
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            for (int index = 0; index < enterprise.Events.Count; index++)
            {
                if (!enterprise.EventSpan[index].IsDuplicate)
                {
                    int month = MonthPartitions.MonthOf(enterprise.EventSpan[index].Timestamp);
                    if (!byMonth.TryGetValue(month, out List<int>? places))
                    {
                        byMonth[month] = places = [];
                    }

                    places.Add(probes.Count);
                    probes.Add((enterprise, index));
                }
            }
        }

        if (probes.Count == 0)
        {
            return;
        }

        await using var batch = new NpgsqlBatch(connection);
        foreach ((int month, List<int> places) in byMonth)
        {
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(Sql)
                {
                    Parameters =
                    {
                        Column(places, place => probes[place].Enterprise.Id),
                        Column(places, place => probes[place].Enterprise.EventSpan[probes[place].Index].EventId),
                        Column(places, place => probes[place].Enterprise.EventSpan[probes[place].Index].Timestamp),
                        new NpgsqlParameter<int[]> { TypedValue = [.. places] },
                        Value(MonthPartitions.StartOf(month).UtcDateTime - StepEvents.DeduplicationWindow),
                        Value(MonthPartitions.StartOf(month + 1).UtcDateTime + StepEvents.DeduplicationWindow),
                        new NpgsqlParameter<TimeSpan> { TypedValue = StepEvents.DeduplicationWindow },
                    },
                }
            );
        }

        await using NpgsqlDataReader reader = await batch.ExecuteReaderAsync(cancellationToken);
        do
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                (StepEnterprise enterprise, int index) = probes[reader.GetInt32(0)];
                enterprise.EventSpan[index].IsDuplicate = true;
            }
        } while (await reader.NextResultAsync(cancellationToken));
    }

    /// <summary>Stores the events and everything they add to, and advances the position.</summary>
    public async Task WriteAsync(StepEvents step, IReadOnlyList<StepTotals> totals, CancellationToken cancellationToken)
    {
        Segment last = step.Segments[^1];
        await EnsureMonthsAsync(step, totals, cancellationToken);
        await using var batch = new NpgsqlBatch(connection);
        int stored = step.StoredCount;
        if (stored > 0)
        {
            batch.BatchCommands.Add(InsertEvents(step, stored));
            batch.BatchCommands.Add(AddToAggregates(totals));
            batch.BatchCommands.Add(AddToUsers(totals));
            batch.BatchCommands.Add(InsertActiveUsers(totals, last.Offset));
        }

        batch.BatchCommands.Add(AddToLedger(totals));
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
                    new NpgsqlParameter<long> { TypedValue = step.Count },
                    Value(last.AppendedAt.UtcDateTime),
                },
            }
        );
        await batch.ExecuteNonQueryAsync(cancellationToken);
    }

    private NpgsqlBatchCommand InsertEvents(StepEvents step, int count)
    {
        var enterprises = new Guid[count];
        var eventIds = new Guid[count];
        var userIds = new Guid[count];
        var timestamps = new DateTime[count];
        var receivedAt = new DateTime[count];
        long[] offsets = new long[count];
        int[] slots = new int[count];
        string[] features = new string[count];
        string[] types = new string[count];
        int row = 0;
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            Span<StepEvent> events = enterprise.EventSpan;
            foreach (int index in OrderByEventId(events))
            {
                ref StepEvent current = ref events[index];
                Segment segment = step.Segments[current.Segment];
                enterprises[row] = enterprise.Id;
                eventIds[row] = current.EventId;
                userIds[row] = current.UserId;
                timestamps[row] = current.Timestamp;
                receivedAt[row] = segment.AppendedAt.UtcDateTime;
                offsets[row] = segment.Offset;
                slots[row] = current.Slot;
                features[row] = enterprise.FeatureNames[current.Feature];
                types[row] = current.EventType;
                row++;
            }
        }

        return new NpgsqlBatchCommand(
            """
            INSERT INTO usage_events
                (enterprise_id, event_id, user_id, event_timestamp, received_at, segment_offset, segment_slot, log_partition,
                 feature_name, event_type)
            SELECT enterprise_id, event_id, user_id, event_timestamp, received_at, segment_offset, segment_slot, $10, feature_name, event_type
              FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
                   AS event (enterprise_id, event_id, user_id, event_timestamp, received_at, segment_offset, segment_slot, feature_name, event_type)
            """
        )
        {
            Parameters =
            {
                new NpgsqlParameter<Guid[]> { TypedValue = enterprises },
                new NpgsqlParameter<Guid[]> { TypedValue = eventIds },
                new NpgsqlParameter<Guid[]> { TypedValue = userIds },
                new NpgsqlParameter<DateTime[]> { TypedValue = timestamps },
                new NpgsqlParameter<DateTime[]> { TypedValue = receivedAt },
                new NpgsqlParameter<long[]> { TypedValue = offsets },
                new NpgsqlParameter<int[]> { TypedValue = slots },
                new NpgsqlParameter<string[]> { TypedValue = features },
                new NpgsqlParameter<string[]> { TypedValue = types },
                new NpgsqlParameter<short> { TypedValue = partition },
            },
        };
    }

    private static NpgsqlBatchCommand AddToAggregates(IReadOnlyList<StepTotals> totals)
    {
        var rows = new List<(Guid EnterpriseId, bool Daily, string FeatureName, DateTime TimeBucket, long Value)>();
        foreach (StepTotals enterprise in totals)
        {
            foreach (
                (bool daily, Dictionary<DateTime, StepTotals.Bucket> buckets) in new[]
                {
                    (false, enterprise.Hours),
                    (true, enterprise.Days),
                }
            )
            {
                foreach (StepTotals.Bucket bucket in buckets.Values)
                {
                    rows.Add((enterprise.Enterprise.Id, daily, "", bucket.Start, bucket.Counts.Sum()));
                    for (int feature = 0; feature < bucket.Counts.Length; feature++)
                    {
                        if (bucket.Counts[feature] > 0)
                        {
                            string name = enterprise.Enterprise.FeatureNames[feature];
                            rows.Add((enterprise.Enterprise.Id, daily, name, bucket.Start, bucket.Counts[feature]));
                        }
                    }
                }
            }
        }

        return new NpgsqlBatchCommand(
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
                Column(rows, row => row.EnterpriseId),
                Column(rows, row => row.Daily),
                Column(rows, row => row.FeatureName),
                Column(rows, row => row.TimeBucket),
                Column(rows, row => row.Value),
            },
        };
    }

    private static NpgsqlBatchCommand AddToUsers(IReadOnlyList<StepTotals> totals)
    {
        var rows = new List<(StepEnterprise Enterprise, StepTotals.UserUsage Usage)>();
        foreach (StepTotals enterprise in totals)
        {
            int first = rows.Count;
            rows.AddRange(enterprise.Users.Select(usage => (enterprise.Enterprise, usage)));
            rows.Sort(first, rows.Count - first, s_byUser);
        }

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
                Column(rows, row => row.Enterprise.Id),
                Column(rows, row => row.Usage.UserId),
                Column(rows, row => row.Enterprise.FeatureNames[row.Usage.Feature]),
                Column(rows, row => row.Usage.Day),
                Column(rows, row => row.Usage.Count),
                Column(rows, row => row.Usage.FirstAt),
                Column(rows, row => row.Usage.LastAt),
            },
        };
    }

    private static NpgsqlBatchCommand InsertActiveUsers(IReadOnlyList<StepTotals> totals, long offset)
    {
        List<(StepTotals Totals, StepTotals.Bucket Day)> rows =
        [
            .. totals.SelectMany(enterprise => enterprise.Days.Values.Select(day => (enterprise, day))),
        ];
        return new NpgsqlBatchCommand(
            """
            INSERT INTO active_user_sets (enterprise_id, time_bucket, level, segment_offset, members, hourly_members)
            SELECT enterprise_id, time_bucket, 0, $5, members, hourly_members
              FROM unnest($1, $2, $3, $4) AS seen (enterprise_id, time_bucket, members, hourly_members)
            """
        )
        {
            Parameters =
            {
                Column(rows, row => row.Totals.Enterprise.Id),
                Column(rows, row => row.Day.Start),
                Column(rows, row => ActiveUsers.EncodeDay(row.Totals, row.Day)),
                Column(rows, row => ActiveUsers.EncodeHours(row.Totals, row.Day)),
                new NpgsqlParameter<long> { TypedValue = offset },
            },
        };
    }

    private static NpgsqlBatchCommand AddToLedger(IReadOnlyList<StepTotals> totals)
    {
        List<(Guid EnterpriseId, DateTime Hour, StepTotals.LedgerRow Row)> rows =
        [
            .. totals.SelectMany(enterprise =>
                enterprise.Ledger.Select(hour => (enterprise.Enterprise.Id, hour.Key, hour.Value))
            ),
        ];
        return new NpgsqlBatchCommand(
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
                Column(rows, row => row.EnterpriseId),
                Column(rows, row => row.Hour),
                Column(rows, row => row.Row.Accepted),
                Column(rows, row => row.Row.Rejected),
                Column(rows, row => row.Row.Stored),
                Column(rows, row => row.Row.Duplicate),
            },
        };
    }

    private async Task EnsureMonthsAsync(
        StepEvents step,
        IReadOnlyList<StepTotals> totals,
        CancellationToken cancellationToken
    )
    {
        var eventMonths = new HashSet<int>();
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            foreach (ref StepEvent current in enterprise.EventSpan)
            {
                eventMonths.Add(MonthPartitions.MonthOf(current.Timestamp));
            }
        }

        // A local hour or day can begin in the month before its events.
        HashSet<int> hourMonths =
        [
            .. totals.SelectMany(enterprise => enterprise.Hours.Keys.Select(MonthPartitions.MonthOf)),
        ];
        HashSet<int> dayMonths =
        [
            .. totals.SelectMany(enterprise => enterprise.Days.Keys.Select(MonthPartitions.MonthOf)),
        ];
        HashSet<int> ledgerMonths =
        [
            .. totals.SelectMany(enterprise => enterprise.Ledger.Keys.Select(MonthPartitions.MonthOf)),
        ];
        await months.EnsureAsync("usage_events", eventMonths, cancellationToken);
        await months.EnsureAsync("usage_aggregates", [.. hourMonths, .. dayMonths], cancellationToken);
        await months.EnsureAsync("user_usage_aggregates", dayMonths, cancellationToken);
        await months.EnsureAsync("active_user_sets", dayMonths, cancellationToken);
        await months.EnsureAsync("usage_ledger", ledgerMonths, cancellationToken);
    }

    // In the order of the index, so that a step touches each of its pages once.
    private static List<int> OrderByEventId(Span<StepEvent> events)
    {
        var keys = new List<(Guid EventId, int Index)>(events.Length);
        for (int index = 0; index < events.Length; index++)
        {
            if (!events[index].IsDuplicate)
            {
                keys.Add((events[index].EventId, index));
            }
        }

        keys.Sort(static (one, other) => one.EventId.CompareTo(other.EventId));
        return keys.ConvertAll(key => key.Index);
    }

    private static readonly IComparer<(StepEnterprise Enterprise, StepTotals.UserUsage Usage)> s_byUser = Comparer<(
        StepEnterprise Enterprise,
        StepTotals.UserUsage Usage
    )>.Create(static (one, other) => one.Usage.UserId.CompareTo(other.Usage.UserId));

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
