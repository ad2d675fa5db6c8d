using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>What a step accounts for: the ledger of everything received, and each attempt that was refused.</summary>
internal static class AccountStatements
{
    public static NpgsqlBatchCommand AddToLedger(IReadOnlyList<StepTotals> totals)
    {
        List<(Guid EnterpriseId, DateTime Hour, StepTotals.LedgerRow Row)> rows =
        [
            .. totals.SelectMany(enterprise =>
                enterprise.Ledger.Select(hour => (enterprise.Enterprise.Id, hour.Key, hour.Value))
            ),
        ];
        return new NpgsqlBatchCommand(
            """
            INSERT INTO usage_ledger AS kept (enterprise_id, time_bucket, received, accepted, rejected, blocked, stored, duplicate)
            SELECT enterprise_id, time_bucket, accepted + rejected + blocked, accepted, rejected, blocked, stored, duplicate
              FROM unnest($1, $2, $3, $4, $5, $6, $7)
                   AS added (enterprise_id, time_bucket, accepted, rejected, blocked, stored, duplicate)
                ON CONFLICT (enterprise_id, time_bucket)
                DO UPDATE SET received = kept.received + excluded.received,
                              accepted = kept.accepted + excluded.accepted,
                              rejected = kept.rejected + excluded.rejected,
                              blocked = kept.blocked + excluded.blocked,
                              stored = kept.stored + excluded.stored,
                              duplicate = kept.duplicate + excluded.duplicate
            """
        )
        {
            Parameters =
            {
                Columns.Of(rows, row => row.EnterpriseId),
                Columns.Of(rows, row => row.Hour),
                Columns.Of(rows, row => row.Row.Accepted),
                Columns.Of(rows, row => row.Row.Rejected),
                Columns.Of(rows, row => row.Row.Blocked),
                Columns.Of(rows, row => row.Row.Stored),
                Columns.Of(rows, row => row.Row.Duplicate),
            },
        };
    }

    /// <summary>
    /// Keeps the refused attempts. A receipt is in the log once and its step commits once, so there is no conflict to
    /// expect; were there one, the key would fail the step.
    /// </summary>
    /// <returns>Null when nothing was refused.</returns>
    public static NpgsqlBatchCommand? InsertDecisions(StepEvents step, short partition)
    {
        List<(StepEnterprise Enterprise, StepAttempt Attempt)> rows =
        [
            .. step.Enterprises.SelectMany(enterprise => enterprise.Attempts.Select(attempt => (enterprise, attempt))),
        ];
        if (rows.Count == 0)
        {
            return null;
        }

        return new NpgsqlBatchCommand(
            """
            INSERT INTO decisions
                (enterprise_id, receipt_id, decided_at, source, code, user_id, external_id, api_key_id, feature_name, event_type, action,
                 policy_id, policy_version, event_id, event_timestamp, log_partition, segment_offset, segment_slot,
                 limit_id, limit_version, limit_value, used, window_start, window_end, counted_at)
            SELECT enterprise_id, receipt_id, decided_at, 'INGEST', code, user_id, external_id, api_key_id, feature_name, event_type, 'record',
                   policy_id, policy_version, event_id, event_timestamp, $16, segment_offset, segment_slot,
                   limit_id, limit_version, limit_value, used, window_start, window_end,
                   CASE WHEN limit_id IS NOT NULL THEN decided_at END
              FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $17, $18, $19, $20, $21, $22)
                   AS refused (enterprise_id, receipt_id, decided_at, code, user_id, external_id, api_key_id, feature_name, event_type,
                               policy_id, policy_version, event_id, event_timestamp, segment_offset, segment_slot,
                               limit_id, limit_version, limit_value, used, window_start, window_end)
            """
        )
        {
            Parameters =
            {
                Columns.Of(rows, row => row.Enterprise.Id),
                Columns.Of(rows, row => row.Attempt.Header.ReceiptId),
                Columns.Of(rows, row => row.Attempt.DecidedAt),
                Columns.Of(rows, row => row.Attempt.Header.Code),
                Columns.Of(rows, row => row.Attempt.Header.Event.UserId),
                Columns.Of(rows, SealedExternalId),
                Columns.Of(rows, row => row.Attempt.Header.ApiKeyId),
                Columns.Of(rows, row => row.Attempt.FeatureName),
                Columns.Of(rows, row => row.Attempt.EventType),
                Columns.Of(rows, row => row.Attempt.Header.PolicyId),
                Columns.Of(rows, row => row.Attempt.Header.PolicyVersion),
                Columns.Of(rows, row => row.Attempt.Header.Event.EventId),
                Columns.Of(rows, row => TimestampOf(row.Attempt)),
                Columns.Of(rows, row => step.Segments[row.Attempt.Segment].Offset),
                Columns.Of(rows, row => row.Attempt.Slot),
                new NpgsqlParameter<short> { TypedValue = partition },
                Columns.Of(rows, row => row.Attempt.Header.Limit?.LimitId),
                Columns.Of(rows, row => row.Attempt.Header.Limit?.LimitVersion),
                Columns.Of(rows, row => row.Attempt.Header.Limit?.LimitValue),
                Columns.Of(rows, row => row.Attempt.Header.Limit?.Used),
                Columns.Of(rows, row => row.Attempt.Header.Limit?.Window.Start),
                Columns.Of(rows, row => row.Attempt.Header.Limit?.Window.End),
            },
        };
    }

    // With the decision, not with the user: who was only ever refused has used nothing and is nobody's row.
    private static byte[]? SealedExternalId((StepEnterprise Enterprise, StepAttempt Attempt) row) =>
        row.Attempt.Header.Event.ExternalId is { } externalId
            ? ExternalIds.Seal(row.Enterprise.Enterprise, externalId)
            : null;

    private static DateTime TimestampOf(StepAttempt attempt) =>
        DateTime.UnixEpoch.AddTicks(attempt.Header.Event.TimestampMicroseconds * TimeSpan.TicksPerMicrosecond);
}
