using Microsoft.Extensions.Time.Testing;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;
using UsageMonitor.Tests.Fixtures;

namespace UsageMonitor.Tests.Processing.Metering;

/// <summary>The pipeline with limits and alert rules, at a time of the test's choosing.</summary>
internal sealed class MeteringFixture : IAsyncDisposable
{
    private MeteringFixture(PipelineFixture pipeline, DateTimeOffset now)
    {
        Pipeline = pipeline;
        Time = new FakeTimeProvider(now);
        Step = NewStep();
    }

    public PipelineFixture Pipeline { get; }

    public FakeTimeProvider Time { get; }

    /// <summary>A worker.</summary>
    public PartitionStep Step { get; }

    public DateTimeOffset Now => Time.GetUtcNow();

    public static async Task<MeteringFixture> CreateAsync(Engines engines, DateTimeOffset now) =>
        new(await PipelineFixture.CreateAsync(engines), now);

    public PartitionStep NewStep() => Pipeline.NewStep(Time);

    /// <summary>Makes a limit, of each user unless told otherwise.</summary>
    public async Task<Guid> AddLimitAsync(
        EnterpriseInfo enterprise,
        string feature,
        long value,
        LimitWindow window,
        LimitScope scope = LimitScope.User,
        LimitAction action = LimitAction.Alert,
        string? role = null,
        string? user = null,
        string status = LimitTerms.Active
    )
    {
        var limitId = Guid.CreateVersion7();
        Guid? subject = user is null ? null : UserIds.Resolve(enterprise.EnterpriseId, user, out _);
        foreach (
            string sql in new[]
            {
                """
                    INSERT INTO usage_limits (enterprise_id, limit_id, feature_name, scope, subject_user_id, subject_role, limit_value,
                                              window_type, action, status, version, created_by, created_at, updated_at)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $1, now(), now())
                    """,
                """
                    INSERT INTO usage_limit_versions (enterprise_id, limit_id, feature_name, scope, subject_user_id, subject_role, limit_value,
                                                      window_type, action, status, version, change, changed_by, changed_at)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, 'CREATED', $1, now())
                    """,
            }
        )
        {
            await ExecuteAsync(
                sql,
                enterprise.EnterpriseId,
                limitId,
                feature,
                scope.Word(),
                Uuid(subject),
                Text(role),
                value,
                window.Word(),
                action.Word(),
                status
            );
        }

        return limitId;
    }

    /// <summary>Makes a rule by e-mail: a percentage, or an absolute threshold.</summary>
    public async Task<Guid> AddRuleAsync(
        EnterpriseInfo enterprise,
        string feature,
        LimitWindow window,
        int? percent = null,
        long? value = null,
        LimitScope scope = LimitScope.User,
        params string[] recipients
    )
    {
        var alertId = Guid.CreateVersion7();
        await ExecuteAsync(
            """
            INSERT INTO usage_alerts (enterprise_id, alert_id, feature_name, scope, threshold_pct, threshold_value, window_type, notification,
                                      recipients, status, version, created_by, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, 'EMAIL', $8, 'ACTIVE', 1, $1, now(), now())
            """,
            enterprise.EnterpriseId,
            alertId,
            feature,
            scope.Word(),
            new NpgsqlParameter
            {
                Value = (object?)percent ?? DBNull.Value,
                NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Integer,
            },
            new NpgsqlParameter
            {
                Value = (object?)value ?? DBNull.Value,
                NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Bigint,
            },
            window.Word(),
            AlertRule.SealRecipients(enterprise, alertId, recipients.Length == 0 ? ["ops@example.com"] : recipients)
        );
        return alertId;
    }

    public Task GiveRoleAsync(EnterpriseInfo enterprise, string user, string role) =>
        ExecuteAsync(
            "INSERT INTO user_roles (enterprise_id, user_id, role_name) VALUES ($1, $2, $3)",
            enterprise.EnterpriseId,
            UserIds.Resolve(enterprise.EnterpriseId, user, out _),
            role
        );

    /// <summary>Sends so many events of a user now, or when told, and processes them.</summary>
    public async Task UseAsync(
        EnterpriseInfo enterprise,
        string user,
        string feature,
        int count,
        DateTimeOffset? timestamp = null,
        PartitionStep? step = null
    )
    {
        await Pipeline.AppendAsync(
            enterprise,
            Enumerable
                .Range(0, count)
                .Select(_ => PipelineFixture.Event(Guid.NewGuid(), enterprise, user, feature, timestamp ?? Now))
        );
        await Pipeline.ProcessAllAsync(step ?? Step);
    }

    public async Task ExecuteAsync(string sql, params object[] values)
    {
        await using var connection = new NpgsqlConnection(Pipeline.OwnerConnectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        foreach (object value in values)
        {
            command.Parameters.Add(value as NpgsqlParameter ?? new NpgsqlParameter { Value = value });
        }

        await command.ExecuteNonQueryAsync();
    }

    /// <summary>What is stored of meters' usage.</summary>
    public Task<
        List<(Guid EnterpriseId, Guid MeterId, Guid SubjectId, DateTime WindowStart, long Used)>
    > UsageAsync() =>
        Pipeline.QueryAsync(
            "SELECT enterprise_id, meter_id, subject_id, window_start, used FROM limit_usage",
            row => (row.GetGuid(0), row.GetGuid(1), row.GetGuid(2), row.GetDateTime(3), row.GetInt64(4))
        );

    /// <summary>All alerts, as they were opened.</summary>
    public Task<List<AlertRow>> AlertsAsync() =>
        Pipeline.QueryAsync(
            """
            SELECT alert_event_id, alert_id, limit_id, subject_id, window_start, severity, threshold, used, raised_at IS NOT NULL, resolved_at
              FROM alert_events ORDER BY alert_event_id
            """,
            row => new AlertRow(
                row.GetGuid(0),
                row.GetGuid(1),
                row.GetGuid(2),
                row.GetGuid(3),
                row.GetDateTime(4),
                row.GetString(5),
                row.GetInt64(6),
                row.GetInt64(7),
                row.GetBoolean(8),
                row.IsDBNull(9) ? null : row.GetDateTime(9)
            )
        );

    /// <summary>All deliveries: their cause, recipient and notice.</summary>
    public async Task<List<(string Cause, string Recipient, AlertNotice Notice)>> DeliveriesAsync(
        params EnterpriseInfo[] enterprises
    )
    {
        var rows = await Pipeline.QueryAsync(
            "SELECT enterprise_id, delivery_id, cause, recipient, payload FROM alert_deliveries ORDER BY delivery_id",
            row =>
                (
                    EnterpriseId: row.GetGuid(0),
                    DeliveryId: row.GetGuid(1),
                    Cause: row.GetString(2),
                    Recipient: row.GetFieldValue<byte[]>(3),
                    Payload: row.GetFieldValue<byte[]>(4)
                )
        );
        return rows.ConvertAll(row =>
        {
            EnterpriseInfo enterprise = enterprises.Single(one => one.EnterpriseId == row.EnterpriseId);
            return (
                row.Cause,
                AlertOutbox.OpenRecipient(enterprise, row.DeliveryId, row.Recipient),
                AlertNotice.Open(enterprise, row.DeliveryId, row.Payload)
            );
        });
    }

    public async Task<long> CountAsync(string table) =>
        (await Pipeline.QueryAsync($"SELECT count(*) FROM {table}", row => row.GetInt64(0))).Single();

    public ValueTask DisposeAsync() => Pipeline.DisposeAsync();

    private static NpgsqlParameter Uuid(Guid? value) =>
        new() { Value = (object?)value ?? DBNull.Value, NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Uuid };

    private static NpgsqlParameter Text(string? value) =>
        new() { Value = (object?)value ?? DBNull.Value, NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Text };
}

/// <summary>A row of <c>alert_events</c>.</summary>
internal sealed record AlertRow(
    Guid AlertEventId,
    Guid AlertId,
    Guid LimitId,
    Guid SubjectId,
    DateTime WindowStart,
    string Severity,
    long Threshold,
    long Used,
    bool IsRaised,
    DateTime? ResolvedAt
);
