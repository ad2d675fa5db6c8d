using Npgsql;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>A meter's usage in a window after a step has added to it.</summary>
/// <param name="Enterprise">Whose.</param>
/// <param name="Meter">Which meter, and who looks at it.</param>
/// <param name="SubjectId">The user, or the nil UUID.</param>
/// <param name="WindowStart">UTC, inclusive.</param>
/// <param name="Added">What the step added: <see cref="Used"/> without it is what was used before.</param>
/// <param name="Used">Events in the window.</param>
/// <param name="FirstAt">The window's first event.</param>
internal sealed record CountedUsage(
    StepEnterprise Enterprise,
    PlannedMeter Meter,
    Guid SubjectId,
    DateTime WindowStart,
    UsageTally Added,
    long Used,
    DateTime FirstAt
);

/// <summary>Adds what a step has tallied to <c>limit_usage</c>.</summary>
internal static class UsageCounts
{
    private const string AddUsage = """
        INSERT INTO limit_usage AS kept (enterprise_id, meter_id, subject_id, window_start, window_end, used, first_at, last_at)
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (enterprise_id, meter_id, subject_id, window_start)
            DO UPDATE SET used = kept.used + excluded.used,
                          first_at = least(kept.first_at, excluded.first_at),
                          last_at = greatest(kept.last_at, excluded.last_at)
        RETURNING enterprise_id, meter_id, subject_id, window_start, used, first_at
        """;

    /// <param name="connection">The step's.</param>
    /// <param name="plans">The enterprises that have meters.</param>
    /// <param name="tallies">At least one.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<List<CountedUsage>> AddAsync(
        NpgsqlConnection connection,
        IReadOnlyDictionary<Guid, (StepEnterprise Enterprise, MeterPlan Plan)> plans,
        Dictionary<UsageKey, UsageTally> tallies,
        CancellationToken cancellationToken
    )
    {
        // In the order of the key, so that a step touches each page of it once.
        List<KeyValuePair<UsageKey, UsageTally>> rows = [.. tallies];
        rows.Sort(static (one, other) => Order(one.Key, other.Key));
        await using var command = new NpgsqlCommand(AddUsage, connection)
        {
            Parameters =
            {
                Columns.Of(rows, row => row.Key.EnterpriseId),
                Columns.Of(rows, row => row.Key.MeterId),
                Columns.Of(rows, row => row.Key.SubjectId),
                Columns.Of(rows, row => row.Key.WindowStart),
                Columns.Of(rows, row => row.Value.WindowEnd),
                Columns.Of(rows, row => row.Value.Count),
                Columns.Of(rows, row => row.Value.FirstAt),
                Columns.Of(rows, row => row.Value.LastAt),
            },
        };
        var counted = new List<CountedUsage>(rows.Count);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            var key = new UsageKey(reader.GetGuid(0), reader.GetGuid(1), reader.GetGuid(2), reader.GetDateTime(3));
            (StepEnterprise enterprise, MeterPlan plan) = plans[key.EnterpriseId];
            counted.Add(
                new CountedUsage(
                    enterprise,
                    plan.MetersById[key.MeterId],
                    key.SubjectId,
                    key.WindowStart,
                    tallies[key],
                    reader.GetInt64(4),
                    reader.GetDateTime(5)
                )
            );
        }

        return counted;
    }

    private static int Order(UsageKey one, UsageKey other)
    {
        int order = one.EnterpriseId.CompareTo(other.EnterpriseId);
        order = order != 0 ? order : one.MeterId.CompareTo(other.MeterId);
        order = order != 0 ? order : one.SubjectId.CompareTo(other.SubjectId);
        return order != 0 ? order : one.WindowStart.CompareTo(other.WindowStart);
    }
}
