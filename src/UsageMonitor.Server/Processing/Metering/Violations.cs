using Npgsql;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>Writes <c>usage_violations</c>: a limit that was exceeded (ALERT) or that refused somebody (BLOCK) in a window.</summary>
/// <remarks>
/// One row per limit, subject and window. Whoever resolves it says that what happened until then is settled: it stays
/// resolved while only late events of before come, and is open again when something is used or refused after it was resolved.
/// </remarks>
internal static class Violations
{
    private sealed record Row(
        StepEnterprise Enterprise,
        LimitMeter Meter,
        Guid LimitId,
        int LimitVersion,
        long LimitValue,
        LimitAction Action,
        Guid SubjectId,
        DateTime WindowStart,
        DateTime WindowEnd,
        long Used,
        long Blocked,
        DateTime LastAt
    );

    private const string Write = """
        INSERT INTO usage_violations AS kept
            (enterprise_id, violation_id, limit_id, limit_version, subject_id, subject_external_id, feature_name, scope, role_name, window_type,
             action, window_start, window_end, limit_value, used, blocked, opened_at, last_at, status)
        SELECT enterprise_id, violation_id, limit_id, limit_version, subject_id, subject_external_id, feature_name, scope, role_name, window_type,
               action, window_start, window_end, limit_value, used, blocked, $18, last_at, 'OPEN'
          FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
               AS exceeded (enterprise_id, violation_id, limit_id, limit_version, subject_id, subject_external_id, feature_name, scope,
                            role_name, window_type, action, window_start, window_end, limit_value, used, blocked, last_at)
            ON CONFLICT (enterprise_id, limit_id, subject_id, window_start)
            DO UPDATE SET limit_version = excluded.limit_version,
                          limit_value = excluded.limit_value,
                          used = greatest(kept.used, excluded.used),
                          blocked = kept.blocked + excluded.blocked,
                          last_at = greatest(kept.last_at, excluded.last_at),
                          status = CASE WHEN excluded.last_at > kept.resolved_at THEN 'OPEN' ELSE kept.status END,
                          resolved_at = CASE WHEN excluded.last_at > kept.resolved_at THEN NULL ELSE kept.resolved_at END,
                          resolved_by = CASE WHEN excluded.last_at > kept.resolved_at THEN NULL ELSE kept.resolved_by END,
                          resolved_reason = CASE WHEN excluded.last_at > kept.resolved_at THEN NULL ELSE kept.resolved_reason END
        """;

    /// <returns>Null when nothing was exceeded.</returns>
    public static NpgsqlBatchCommand? Of(
        IEnumerable<CountedUsage> counted,
        IEnumerable<RefusedUsage> refused,
        SubjectNames names,
        DateTime now
    )
    {
        List<Row> rows = [.. counted.Select(Exceeded).OfType<Row>(), .. refused.Select(Refused)];
        rows.Sort(static (one, other) => Order(one).CompareTo(Order(other)));
        return rows.Count == 0
            ? null
            : new NpgsqlBatchCommand(Write)
            {
                Parameters =
                {
                    Columns.Of(rows, row => row.Enterprise.Id),
                    Columns.Of(rows, _ => Guid.CreateVersion7(now)),
                    Columns.Of(rows, row => row.LimitId),
                    Columns.Of(rows, row => row.LimitVersion),
                    Columns.Of(rows, row => row.SubjectId),
                    Columns.Of(rows, row => SealedName(row, names)),
                    Columns.Of(rows, row => row.Meter.FeatureName),
                    Columns.Of(rows, row => row.Meter.Scope.Word()),
                    Columns.Of(rows, row => row.Meter.RoleName),
                    Columns.Of(rows, row => row.Meter.Window.Word()),
                    Columns.Of(rows, row => row.Action.Word()),
                    Columns.Of(rows, row => row.WindowStart),
                    Columns.Of(rows, row => row.WindowEnd),
                    Columns.Of(rows, row => row.LimitValue),
                    Columns.Of(rows, row => row.Used),
                    Columns.Of(rows, row => row.Blocked),
                    Columns.Of(rows, row => row.LastAt),
                    Columns.Value(now),
                },
            };
    }

    // The limit that was in force when the usage happened, not when it is counted.
    private static Row? Exceeded(CountedUsage usage) =>
        usage.Meter.Limits.Find(LimitAction.Alert, usage.SubjectId, usage.Added.LastAt) is { } limit
        && usage.Used > limit.LimitValue
            ? new Row(
                usage.Enterprise,
                limit.Meter,
                limit.LimitId,
                limit.Version,
                limit.LimitValue,
                LimitAction.Alert,
                usage.SubjectId,
                usage.WindowStart,
                usage.Added.WindowEnd,
                usage.Used,
                0,
                usage.Added.LastAt
            )
            : null;

    private static Row Refused(RefusedUsage refused) =>
        new(
            refused.Enterprise,
            refused.Meter,
            refused.Last.LimitId,
            refused.Last.LimitVersion,
            refused.Last.LimitValue,
            LimitAction.Block,
            refused.SubjectId,
            refused.Last.Window.Start,
            refused.Last.Window.End,
            refused.Last.Used,
            refused.Count,
            refused.LastAt
        );

    // Rows are locked in one order by whoever locks several: who resolves some does the same.
    private static (Guid, Guid, Guid, DateTime) Order(Row row) =>
        (row.Enterprise.Id, row.LimitId, row.SubjectId, row.WindowStart);

    private static byte[]? SealedName(Row row, SubjectNames names) =>
        row.Meter.Scope == LimitScope.User && names.ExternalIdOf(row.Enterprise, row.SubjectId) is { } externalId
            ? ExternalIds.Seal(row.Enterprise.Enterprise, externalId)
            : null;
}
