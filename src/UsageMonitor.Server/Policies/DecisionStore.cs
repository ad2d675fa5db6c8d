using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>A refusal of a check, about to be recorded.</summary>
internal sealed record RefusedCheck(
    Guid ReceiptId,
    Guid UserId,
    string? ExternalId,
    string FeatureName,
    string EventType,
    PolicyDecision Decision
)
{
    /// <summary>Why; a policy's code unless a limit refused.</summary>
    public string Code { get; init; } = Decision.Code;

    /// <summary>The limit that refused, or null.</summary>
    public RefusingLimit? Limit { get; init; }
}

/// <summary>The limit that refused something, as a decision keeps it.</summary>
/// <param name="LimitId">The limit.</param>
/// <param name="Version">Its version that was applied.</param>
/// <param name="Value">How much is within it.</param>
/// <param name="Used">How much was used.</param>
/// <param name="WindowStart">UTC.</param>
/// <param name="WindowEnd">UTC.</param>
internal sealed record RefusingLimit(
    Guid LimitId,
    int Version,
    long Value,
    long Used,
    DateTime WindowStart,
    DateTime WindowEnd
);

/// <summary>The refusals: written here when they were asked in advance, by processing when an event was sent.</summary>
internal static class DecisionStore
{
    private const string Columns = """
        d.receipt_id, d.decided_at, d.source, d.code, d.user_id, d.external_id, d.feature_name, d.event_type, d.action,
        d.api_key_id, d.policy_id, d.policy_version, d.event_id, d.event_timestamp, d.limit_id, d.limit_version, d.limit_value,
        d.used, d.window_start, d.window_end, d.counted_at, d.reclassified_at, d.reclassified_by, d.reclassified_reason
        """;

    private const string InsertChecks = """
        INSERT INTO decisions
            (enterprise_id, receipt_id, decided_at, source, code, user_id, external_id, api_key_id, feature_name, event_type, action,
             policy_id, policy_version, limit_id, limit_version, limit_value, used, window_start, window_end, counted_at)
        SELECT $1, receipt_id, $2, 'CHECK', code, user_id, external_id, $3, feature_name, event_type, 'check', policy_id, policy_version,
               limit_id, limit_version, limit_value, used, window_start, window_end, CASE WHEN limit_id IS NOT NULL THEN $2 END
          FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
               AS refused (receipt_id, code, user_id, external_id, feature_name, event_type, policy_id, policy_version,
                           limit_id, limit_version, limit_value, used, window_start, window_end)
        """;

    /// <summary>Records refusals of checks, all in one statement.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterprise">Whose they are.</param>
    /// <param name="decidedAt">The receipts' instant.</param>
    /// <param name="apiKeyId">The key that asked, or null for a person.</param>
    /// <param name="refused">At least one.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task InsertAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        DateTimeOffset decidedAt,
        Guid? apiKeyId,
        IReadOnlyList<RefusedCheck> refused,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(InsertChecks, enterprise.EnterpriseId, decidedAt);
        command.Parameters.Add(
            new NpgsqlParameter { Value = (object?)apiKeyId ?? DBNull.Value, NpgsqlDbType = NpgsqlDbType.Uuid }
        );
        Add(check => check.ReceiptId);
        Add(check => check.Code);
        Add(check => check.UserId);
        Add(check => check.ExternalId is { } externalId ? ExternalIds.Seal(enterprise, externalId) : null);
        Add(check => check.FeatureName);
        Add(check => check.EventType);
        Add(check => check.Limit is null ? check.Decision.PolicyId : null);
        Add(check => check.Limit is null ? check.Decision.PolicyVersion : null);
        Add(check => check.Limit?.LimitId);
        Add(check => check.Limit?.Version);
        Add(check => check.Limit?.Value);
        Add(check => check.Limit?.Used);
        Add(check => check.Limit?.WindowStart);
        Add(check => check.Limit?.WindowEnd);
        await command.ExecuteNonQueryAsync(cancellationToken);

        void Add<T>(Func<RefusedCheck, T> read) =>
            command.Parameters.Add(new NpgsqlParameter<T[]> { TypedValue = [.. refused.Select(read)] });
    }

    private const string FindReceipt = $"""
        SELECT {Columns}, l.feature_name, l.scope, l.window_type, v.name, v.effect, v.document::text, v.status, v.changed_by, v.changed_at
          FROM decisions AS d
          LEFT JOIN usage_limit_versions AS l
            ON l.enterprise_id = d.enterprise_id AND l.limit_id = d.limit_id AND l.version = d.limit_version
          LEFT JOIN policy_versions AS v
            ON v.enterprise_id = d.enterprise_id AND v.policy_id = d.policy_id AND v.version = d.policy_version
         WHERE d.enterprise_id = $1 AND d.decided_at = $2 AND d.receipt_id = $3
        """;

    /// <summary>A refusal with the policy as it was, or null when the enterprise has none of this receipt.</summary>
    public static async Task<(DecisionSummary Decision, StoredPolicy? Policy)?> FindAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid receiptId,
        DateTimeOffset decidedAt,
        CancellationToken cancellationToken
    )
    {
        const int LimitColumn = 24;
        const int PolicyColumn = LimitColumn + 3;
        await using NpgsqlCommand command = transaction.Command(
            FindReceipt,
            enterprise.EnterpriseId,
            decidedAt,
            receiptId
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        if (!await reader.ReadAsync(cancellationToken))
        {
            return null;
        }

        DecisionSummary decision = Read(reader, enterprise);
        if (decision.Limit is { } limit && !reader.IsDBNull(LimitColumn))
        {
            decision = decision with
            {
                Limit = limit with
                {
                    FeatureName = reader.GetString(LimitColumn),
                    Scope = reader.GetString(LimitColumn + 1),
                    WindowType = reader.GetString(LimitColumn + 2),
                },
            };
        }

        if (reader.IsDBNull(PolicyColumn))
        {
            return (decision, null);
        }

        DateTimeOffset changedAt = reader.GetFieldValue<DateTimeOffset>(PolicyColumn + 5);
        var policy = new StoredPolicy(
            decision.PolicyId!.Value,
            decision.PolicyVersion!.Value,
            reader.GetString(PolicyColumn),
            reader.GetString(PolicyColumn + 1),
            PolicyDocument.Parse(reader.GetString(PolicyColumn + 2)),
            reader.GetString(PolicyColumn + 3),
            reader.GetGuid(PolicyColumn + 4),
            changedAt,
            changedAt
        );
        return (decision, policy);
    }

    private const string ListDecisions = $"""
        SELECT {Columns} FROM decisions AS d
         WHERE d.enterprise_id = $1 AND d.decided_at >= $2 AND d.decided_at < $3
           AND ($4::uuid IS NULL OR d.user_id = $4)
           AND ($5::text IS NULL OR d.feature_name = $5)
           AND ($6::timestamptz IS NULL OR (d.decided_at, d.receipt_id) < ($6, $7))
         ORDER BY d.decided_at DESC, d.receipt_id DESC
         LIMIT $8
        """;

    /// <summary>Refusals, newest first.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterprise">Whose they are.</param>
    /// <param name="filter">Which ones.</param>
    /// <param name="limit">At most so many.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<List<DecisionSummary>> ListAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        DecisionFilter filter,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var listed = new List<DecisionSummary>();
        await using NpgsqlCommand command = transaction.Command(
            ListDecisions,
            enterprise.EnterpriseId,
            filter.From,
            filter.To
        );
        command.Parameters.Add(Nullable(filter.UserId, NpgsqlDbType.Uuid));
        command.Parameters.Add(Nullable(filter.FeatureName, NpgsqlDbType.Text));
        command.Parameters.Add(
            Nullable(
                filter.Before is { } before ? ReceiptIds.InstantOf(before)?.UtcDateTime : null,
                NpgsqlDbType.TimestampTz
            )
        );
        command.Parameters.Add(Nullable(filter.Before, NpgsqlDbType.Uuid));
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = limit });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            listed.Add(Read(reader, enterprise));
        }

        return listed;

        static NpgsqlParameter Nullable(object? value, NpgsqlDbType type) =>
            new() { Value = value ?? DBNull.Value, NpgsqlDbType = type };
    }

    private static DecisionSummary Read(NpgsqlDataReader reader, EnterpriseInfo enterprise)
    {
        var local = new LocalTime(enterprise.TimeZone);
        return new DecisionSummary(
            reader.GetGuid(0),
            reader.GetFieldValue<DateTimeOffset>(1),
            reader.GetString(2),
            reader.GetString(3),
            reader.IsDBNull(5)
                ? reader.GetGuid(4).ToString()
                : ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(5)),
            reader.GetString(6),
            reader.GetString(7),
            reader.GetString(8),
            reader.GetFieldValue<Guid?>(9),
            reader.GetFieldValue<Guid?>(10),
            reader.GetFieldValue<int?>(11),
            reader.GetFieldValue<Guid?>(12),
            reader.GetFieldValue<DateTimeOffset?>(13)
        )
        {
            Limit = reader.IsDBNull(14)
                ? null
                : new DecisionLimit(
                    reader.GetGuid(14),
                    reader.GetInt32(15),
                    reader.GetInt64(16),
                    reader.GetInt64(17),
                    local.Show(reader.GetFieldValue<DateTime>(18)),
                    local.Show(reader.GetFieldValue<DateTime>(19)),
                    reader.GetFieldValue<DateTimeOffset>(20)
                ),
            ReclassifiedAt = reader.GetFieldValue<DateTimeOffset?>(21),
            ReclassifiedBy = reader.GetFieldValue<Guid?>(22),
            ReclassifiedReason = reader.IsDBNull(23) ? null : reader.GetString(23),
        };
    }
}

/// <summary>Which refusals are listed.</summary>
/// <param name="From">Inclusive.</param>
/// <param name="To">Exclusive.</param>
/// <param name="UserId">Of this user only.</param>
/// <param name="FeatureName">Of this feature only.</param>
/// <param name="Before">Older than this receipt only.</param>
internal sealed record DecisionFilter(DateTime From, DateTime To, Guid? UserId, string? FeatureName, Guid? Before);
