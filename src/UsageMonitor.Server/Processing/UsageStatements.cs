using Npgsql;
using UsageMonitor.EventLog;

namespace UsageMonitor.Server.Processing;

/// <summary>What a step's accepted events become: rows of their own, and what they add to the counts.</summary>
internal static class UsageStatements
{
    public static NpgsqlBatchCommand InsertEvents(StepEvents step, short partition, int count)
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

    public static NpgsqlBatchCommand AddToAggregates(IReadOnlyList<StepTotals> totals)
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
                Columns.Of(rows, row => row.EnterpriseId),
                Columns.Of(rows, row => row.Daily),
                Columns.Of(rows, row => row.FeatureName),
                Columns.Of(rows, row => row.TimeBucket),
                Columns.Of(rows, row => row.Value),
            },
        };
    }

    public static NpgsqlBatchCommand AddToUsers(IReadOnlyList<StepTotals> totals)
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
                Columns.Of(rows, row => row.Enterprise.Id),
                Columns.Of(rows, row => row.Usage.UserId),
                Columns.Of(rows, row => row.Enterprise.FeatureNames[row.Usage.Feature]),
                Columns.Of(rows, row => row.Usage.Day),
                Columns.Of(rows, row => row.Usage.Count),
                Columns.Of(rows, row => row.Usage.FirstAt),
                Columns.Of(rows, row => row.Usage.LastAt),
            },
        };
    }

    public static NpgsqlBatchCommand InsertActiveUsers(IReadOnlyList<StepTotals> totals, long offset)
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
                Columns.Of(rows, row => row.Totals.Enterprise.Id),
                Columns.Of(rows, row => row.Day.Start),
                Columns.Of(rows, row => ActiveUsers.EncodeDay(row.Totals, row.Day)),
                Columns.Of(rows, row => ActiveUsers.EncodeHours(row.Totals, row.Day)),
                new NpgsqlParameter<long> { TypedValue = offset },
            },
        };
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
}
