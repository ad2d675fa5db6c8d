using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>Makes, changes and ends alert rules. Each act is one transaction with the identity version, by which every instance notices.</summary>
internal sealed class AlertRuleWriter(
    Database database,
    EnterpriseDirectory enterprises,
    IdentityVersion version,
    TimeProvider time
)
{
    /// <summary>Rules of an enterprise, the inactive ones too.</summary>
    public const int RulesMax = 500;

    // Those who change an enterprise's rules and webhooks take turns: the counts hold, and no rule names a webhook that goes.
    internal const string LockEnterprise = "SELECT FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";

    private const string CountRules = "SELECT count(*) FROM usage_alerts WHERE enterprise_id = $1";

    private const string InsertRule = """
        INSERT INTO usage_alerts (enterprise_id, alert_id, version, feature_name, scope, threshold_pct, threshold_value, window_type,
            notification, recipients, status, updated_at, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13)
        """;

    public async Task<IResult> CreateAsync(Caller caller, AlertRuleRequest request, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        await using (NpgsqlCommand count = own.Command(CountRules, caller.EnterpriseId))
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= RulesMax)
            {
                return Problems.Problem(
                    409,
                    "too_many_alerts",
                    $"An enterprise may have {RulesMax} alert rules. Delete one first."
                );
            }
        }

        (AlertRuleDraft? draft, string error) = AlertRuleDraft.Read(
            request,
            await ReadWebhooksAsync(own, caller.EnterpriseId, cancellationToken)
        );
        if (draft is null)
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        DateTime now = Now();
        AlertRule rule = Rule(draft, Guid.CreateVersion7(now), 1, ActorOf(caller), now, now);
        await own.ExecuteAsync(InsertRule, [.. Columns(enterprise, rule), rule.CreatedBy], cancellationToken);
        own.Audit("alert_rule.created", "alert_rule", rule.AlertId, after: rule);
        await version.CommitAsync(own, cancellationToken);
        return Results.Created($"/v1/admin/alerts/{rule.AlertId}", Answer(rule));
    }

    private const string LockRule =
        $"SELECT {AlertRule.Columns} FROM usage_alerts AS a WHERE a.enterprise_id = $1 AND a.alert_id = $2 FOR UPDATE";

    private const string UpdateRule = """
        UPDATE usage_alerts SET version = $3, feature_name = $4, scope = $5, threshold_pct = $6, threshold_value = $7, window_type = $8,
            notification = $9, recipients = $10, status = $11, updated_at = $12
        WHERE enterprise_id = $1 AND alert_id = $2
        """;

    public async Task<IResult> ChangeAsync(
        Caller caller,
        Guid alertId,
        AlertRuleRequest request,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        AlertRule? last;
        await using (NpgsqlCommand command = own.Command(LockRule, caller.EnterpriseId, alertId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            last = await reader.ReadAsync(cancellationToken) ? AlertRule.Read(reader, enterprise) : null;
        }

        if (last is null)
        {
            return NotFound();
        }

        if (request.Version is { } meant && meant != last.Version)
        {
            return Problems.Problem(
                409,
                "version_conflict",
                $"The alert rule is of version {last.Version} by now. Look at it again."
            );
        }

        (AlertRuleDraft? draft, string error) = AlertRuleDraft.Read(
            request,
            await ReadWebhooksAsync(own, caller.EnterpriseId, cancellationToken)
        );
        if (draft is null)
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        AlertRule rule = Rule(draft, alertId, last.Version + 1, last.CreatedBy, last.CreatedAt, Now());
        await own.ExecuteAsync(UpdateRule, Columns(enterprise, rule), cancellationToken);
        own.Audit("alert_rule.changed", "alert_rule", alertId, last, rule);
        await version.CommitAsync(own, cancellationToken);
        return Results.Ok(Answer(rule));
    }

    private const string DeleteRule = "DELETE FROM usage_alerts WHERE enterprise_id = $1 AND alert_id = $2";

    public async Task<IResult> DeleteAsync(Caller caller, Guid alertId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await own.ExecuteAsync(DeleteRule, [caller.EnterpriseId, alertId], cancellationToken) == 0)
        {
            return NotFound();
        }

        own.Audit("alert_rule.deleted", "alert_rule", alertId);
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    private const string ReadRules = $"""
        SELECT {AlertRule.Columns} FROM usage_alerts AS a
        WHERE a.enterprise_id = $1 AND a.alert_id > $2 ORDER BY a.alert_id LIMIT $3
        """;

    /// <summary>A page of the rules; also the web page's.</summary>
    public async Task<AlertRuleListResponse> ListAsync(
        Caller caller,
        Guid after,
        int limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        var rules = new List<AlertRuleResponse>();
        await using NpgsqlCommand command = own.Command(ReadRules, caller.EnterpriseId, after, limit + 1);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            rules.Add(Answer(AlertRule.Read(reader, enterprise)));
        }

        bool hasMore = rules.Count > limit;
        return new AlertRuleListResponse(hasMore ? rules[..limit] : rules, hasMore ? rules[limit - 1].AlertId : null);
    }

    private const string ReadRule =
        $"SELECT {AlertRule.Columns} FROM usage_alerts AS a WHERE a.enterprise_id = $1 AND a.alert_id = $2";

    public async Task<IResult> GetAsync(Caller caller, Guid alertId, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(ReadRule, caller.EnterpriseId, alertId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? Results.Ok(Answer(AlertRule.Read(reader, enterprise)))
            : NotFound();
    }

    private const string ReadWebhookNames = "SELECT webhook_id, name FROM webhooks WHERE enterprise_id = $1";

    internal static async Task<List<(Guid WebhookId, string Name)>> ReadWebhooksAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        var webhooks = new List<(Guid, string)>();
        await using NpgsqlCommand command = own.Command(ReadWebhookNames, enterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            webhooks.Add((reader.GetGuid(0), reader.GetString(1)));
        }

        return webhooks;
    }

    private static AlertRule Rule(
        AlertRuleDraft draft,
        Guid alertId,
        int version,
        Guid createdBy,
        DateTime createdAt,
        DateTime updatedAt
    ) =>
        new(
            alertId,
            version,
            draft.FeatureName,
            draft.Scope,
            draft.ThresholdPct,
            draft.ThresholdValue,
            draft.Window,
            draft.Channel,
            draft.Recipients,
            draft.Status,
            createdBy,
            createdAt,
            updatedAt
        );

    private static object?[] Columns(EnterpriseInfo enterprise, AlertRule rule) =>
        [
            enterprise.EnterpriseId,
            rule.AlertId,
            rule.Version,
            rule.FeatureName,
            rule.Scope.Word(),
            rule.ThresholdPct,
            rule.ThresholdValue,
            rule.Window.Word(),
            rule.Channel,
            AlertRule.SealRecipients(enterprise, rule.AlertId, rule.Recipients),
            rule.Status,
            rule.UpdatedAt,
        ];

    private static AlertRuleResponse Answer(AlertRule rule) =>
        new(
            rule.AlertId,
            rule.Version,
            rule.FeatureName,
            rule.ThresholdPct is null ? rule.Scope.Word() : null,
            rule.ThresholdPct,
            rule.ThresholdValue,
            rule.Window.Word(),
            rule.Channel,
            rule.Recipients,
            rule.ShownStatus,
            rule.CreatedBy,
            rule.CreatedAt,
            rule.UpdatedAt
        );

    private async Task<EnterpriseInfo> EnterpriseAsync(Caller caller, CancellationToken cancellationToken) =>
        await enterprises.FindAsync(caller.EnterpriseId, cancellationToken)
        ?? throw new InvalidOperationException("The caller's enterprise does not exist.");

    // As precise as PostgreSQL keeps it, so that the answer is what will be read.
    private DateTime Now()
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond));
    }

    private static Guid ActorOf(Caller caller) => caller.UserId ?? caller.ApiKeyId ?? Guid.Empty;

    private static IResult NotFound() => Problems.Problem(404, "not_found", "Your enterprise has no such alert rule.");
}
