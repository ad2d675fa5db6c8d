using Npgsql;

namespace UsageMonitor.Server.Processing;

/// <summary>Keeps what a day's figure was before events changed it that were received after it had been reported.</summary>
/// <remarks>
/// Invariant: for a day and feature, in the order of their rows, what one became is what the next one was, and what the last became is
/// what <c>usage_aggregates</c> says. It holds because the rows are written in the transaction that adds to the aggregates, after it
/// did, and because an enterprise's steps follow each other. Lateness is told by the time of receipt, never by the clock: a
/// step that is repeated after a crash says the same.
/// </remarks>
internal static class Restatements
{
    public const string Late = "LATE";
    public const string Backfill = "BACKFILL";

    /// <summary>After its end a day's figure waits so long for what is on its way; then it counts as reported.</summary>
    public static readonly TimeSpan ReportedAfter = TimeSpan.FromHours(1);

    // What an enterprise brings along from before it was here restates nothing: nobody had reported it.
    private const string Restate = """
        INSERT INTO usage_restatements AS kept
            (enterprise_id, restatement_id, day_start, feature_name, restated_on, value_before, value_after, cause, first_at, last_at)
        SELECT late.enterprise_id, late.restatement_id, late.day_start, late.feature_name, late.restated_on,
               present.value - late.added, present.value, late.cause, late.first_at, late.last_at
          FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
               AS late (enterprise_id, restatement_id, day_start, day_end, feature_name, restated_on, added, cause, first_at, last_at)
          JOIN enterprises ON enterprises.enterprise_id = late.enterprise_id AND enterprises.created_at < late.day_end
          JOIN usage_aggregates AS present
            ON present.enterprise_id = late.enterprise_id AND present.metric_type = 'usage_count' AND present.granularity = 'day'
           AND present.feature_name = late.feature_name AND present.time_bucket = late.day_start
            ON CONFLICT (enterprise_id, day_start, feature_name, restated_on)
            DO UPDATE SET value_after = excluded.value_after,
                          last_at = excluded.last_at,
                          cause = CASE WHEN excluded.cause = 'BACKFILL' THEN excluded.cause ELSE kept.cause END
        """;

    /// <summary>A day's figure of a feature that a step changes late.</summary>
    private sealed record Row(StepEnterprise Enterprise, string Feature, StepTotals.LateUsage Late);

    /// <returns>Null: nothing of the step was late.</returns>
    public static NpgsqlBatchCommand? Of(IReadOnlyList<StepTotals> totals)
    {
        List<Row> rows =
        [
            .. totals.SelectMany(enterprise =>
                enterprise.Late.Select(late => new Row(
                    enterprise.Enterprise,
                    late.Feature is { } feature ? enterprise.Enterprise.FeatureNames[feature] : "",
                    late
                ))
            ),
        ];
        return rows.Count == 0
            ? null
            : new NpgsqlBatchCommand(Restate)
            {
                Parameters =
                {
                    Columns.Of(rows, row => row.Enterprise.Id),
                    Columns.Of(rows, row => Guid.CreateVersion7(new DateTimeOffset(row.Late.FirstAt))),
                    Columns.Of(rows, row => row.Late.Day),
                    Columns.Of(rows, row => row.Late.DayEnd),
                    Columns.Of(rows, row => row.Feature),
                    Columns.Of(rows, row => row.Late.RestatedOn),
                    Columns.Of(rows, row => row.Late.Count),
                    Columns.Of(rows, row => row.Late.IsBackfill ? Backfill : Late),
                    Columns.Of(rows, row => row.Late.FirstAt),
                    Columns.Of(rows, row => row.Late.LastAt),
                },
            };
    }
}
