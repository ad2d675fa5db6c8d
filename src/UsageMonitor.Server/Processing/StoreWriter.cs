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
                        Columns.Of(places, place => probes[place].Enterprise.Id),
                        Columns.Of(places, place => probes[place].Enterprise.EventSpan[probes[place].Index].EventId),
                        Columns.Of(places, place => probes[place].Enterprise.EventSpan[probes[place].Index].Timestamp),
                        new NpgsqlParameter<int[]> { TypedValue = [.. places] },
                        Columns.Value(MonthPartitions.StartOf(month).UtcDateTime - StepEvents.DeduplicationWindow),
                        Columns.Value(MonthPartitions.StartOf(month + 1).UtcDateTime + StepEvents.DeduplicationWindow),
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

    /// <summary>Stores the events and everything they add to, keeps what was refused, and advances the position.</summary>
    public async Task WriteAsync(StepEvents step, IReadOnlyList<StepTotals> totals, CancellationToken cancellationToken)
    {
        Segment last = step.Segments[^1];
        await EnsureMonthsAsync(step, totals, cancellationToken);
        await using var batch = new NpgsqlBatch(connection);
        int stored = step.StoredCount;
        if (stored > 0)
        {
            batch.BatchCommands.Add(UsageStatements.InsertEvents(step, partition, stored));
            batch.BatchCommands.Add(UsageStatements.AddToAggregates(totals));
            batch.BatchCommands.Add(UsageStatements.AddToUsers(totals));
            if (Restatements.Of(totals) is { } restatements)
            {
                batch.BatchCommands.Add(restatements);
            }

            batch.BatchCommands.Add(UsageStatements.InsertActiveUsers(totals, last.Offset));
        }

        if (AccountStatements.InsertDecisions(step, partition) is { } decisions)
        {
            batch.BatchCommands.Add(decisions);
        }

        batch.BatchCommands.Add(AccountStatements.AddToLedger(totals));
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
                    Columns.Value(last.AppendedAt.UtcDateTime),
                },
            }
        );
        await batch.ExecuteNonQueryAsync(cancellationToken);
    }

    private async Task EnsureMonthsAsync(
        StepEvents step,
        IReadOnlyList<StepTotals> totals,
        CancellationToken cancellationToken
    )
    {
        var eventMonths = new HashSet<int>();
        var decisionMonths = new HashSet<int>();
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            foreach (ref StepEvent current in enterprise.EventSpan)
            {
                eventMonths.Add(MonthPartitions.MonthOf(current.Timestamp));
            }

            decisionMonths.UnionWith(enterprise.Attempts.Select(attempt => MonthPartitions.MonthOf(attempt.DecidedAt)));
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
        await months.EnsureAsync("decisions", decisionMonths, cancellationToken);
    }
}
