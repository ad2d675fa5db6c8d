using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>
/// Makes, changes and ends property rules. Each act is one transaction with its audit entry and the identity version by which every
/// instance notices; when it returns, this instance obeys.
/// </summary>
internal sealed class PropertyRuleWriter(Database database, IdentityVersion version, TimeProvider time)
{
    private const string Taken = "23505"; // unique_violation

    // Those who change an enterprise's rules take turns, so that the count holds.
    private const string LockEnterprise = "SELECT FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";
    private const string CountRules = "SELECT count(*) FROM property_rules WHERE enterprise_id = $1";

    private const string InsertRule = """
        INSERT INTO property_rules (enterprise_id, rule_id, version, property, feature_name, action, created_by, created_at, updated_at)
        VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $7)
        """;

    public async Task<IResult> CreateAsync(
        Caller caller,
        PropertyRuleRequest request,
        CancellationToken cancellationToken
    )
    {
        if (WhatIsWrong(request, out PropertyAction action) is { } wrong)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        await using (NpgsqlCommand count = own.Command(CountRules, caller.EnterpriseId))
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= PropertyRuleTerms.RulesMax)
            {
                return Problems.Problem(
                    409,
                    "too_many_property_rules",
                    $"An enterprise may have {PropertyRuleTerms.RulesMax} property rules. Delete one first."
                );
            }
        }

        DateTimeOffset now = Now();
        var rule = new StoredPropertyRule(
            Guid.CreateVersion7(now),
            1,
            request.Property!,
            request.FeatureName,
            action,
            ActorOf(caller),
            now,
            now
        );
        try
        {
            await own.ExecuteAsync(
                InsertRule,
                [
                    caller.EnterpriseId,
                    rule.RuleId,
                    rule.Property,
                    rule.FeatureName ?? "",
                    PropertyRuleTerms.Text(action),
                    rule.CreatedBy,
                    now,
                ],
                cancellationToken
            );
        }
        catch (PostgresException exception) when (exception.SqlState == Taken)
        {
            return AlreadyRuled();
        }

        own.Audit("property_rule.created", "property_rule", rule.RuleId, after: Told(rule));
        await version.CommitAsync(own, cancellationToken);
        return Results.Created($"/v1/admin/privacy/property-rules/{rule.RuleId}", PropertyRuleEndpoints.Answer(rule));
    }

    private const string LockRule =
        $"SELECT {StoredPropertyRule.Columns} FROM property_rules WHERE enterprise_id = $1 AND rule_id = $2 FOR UPDATE";

    private const string UpdateRule = """
        UPDATE property_rules SET version = $3, property = $4, feature_name = $5, action = $6, updated_at = $7
        WHERE enterprise_id = $1 AND rule_id = $2
        """;

    public async Task<IResult> ChangeAsync(
        Caller caller,
        Guid ruleId,
        PropertyRuleRequest request,
        CancellationToken cancellationToken
    )
    {
        if (WhatIsWrong(request, out PropertyAction action) is { } wrong)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await FindForChangeAsync(own, caller.EnterpriseId, ruleId, cancellationToken) is not { } last)
        {
            return PropertyRuleEndpoints.NotFound();
        }

        if (request.Version is { } meant && meant != last.Version)
        {
            return Conflict(last.Version);
        }

        StoredPropertyRule rule = last with
        {
            Version = last.Version + 1,
            Property = request.Property!,
            FeatureName = request.FeatureName,
            Action = action,
            UpdatedAt = Now(),
        };
        try
        {
            await own.ExecuteAsync(
                UpdateRule,
                [
                    caller.EnterpriseId,
                    ruleId,
                    rule.Version,
                    rule.Property,
                    rule.FeatureName ?? "",
                    PropertyRuleTerms.Text(action),
                    rule.UpdatedAt,
                ],
                cancellationToken
            );
        }
        catch (PostgresException exception) when (exception.SqlState == Taken)
        {
            return AlreadyRuled();
        }

        own.Audit("property_rule.changed", "property_rule", ruleId, Told(last), Told(rule));
        await version.CommitAsync(own, cancellationToken);
        return Results.Ok(PropertyRuleEndpoints.Answer(rule));
    }

    private const string DeleteRule = "DELETE FROM property_rules WHERE enterprise_id = $1 AND rule_id = $2";

    public async Task<IResult> DeleteAsync(Caller caller, Guid ruleId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await FindForChangeAsync(own, caller.EnterpriseId, ruleId, cancellationToken) is not { } last)
        {
            return PropertyRuleEndpoints.NotFound();
        }

        await own.ExecuteAsync(DeleteRule, [caller.EnterpriseId, ruleId], cancellationToken);
        own.Audit("property_rule.deleted", "property_rule", ruleId, Told(last));
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    private const string WriteDefaults = """
        INSERT INTO property_defaults
            (enterprise_id, version, other_action, email_action, card_action, token_action, updated_by, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (enterprise_id) DO UPDATE SET version = excluded.version, other_action = excluded.other_action,
            email_action = excluded.email_action, card_action = excluded.card_action, token_action = excluded.token_action,
            updated_by = excluded.updated_by, updated_at = excluded.updated_at
        """;

    public async Task<IResult> SetDefaultsAsync(
        Caller caller,
        PropertyDefaultsRequest request,
        CancellationToken cancellationToken
    )
    {
        if (
            PropertyRuleTerms.Read(request.Default) is not { } other
            || PropertyRuleTerms.Read(request.Emails) is not { } emails
            || PropertyRuleTerms.Read(request.Cards) is not { } cards
            || PropertyRuleTerms.Read(request.Tokens) is not { } tokens
        )
        {
            return Problems.Problem(
                400,
                "invalid_request",
                "default, emails, cards and tokens must each be one of ALLOW, MASK, DROP."
            );
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        StoredPropertyDefaults last = await PropertyRuleSets.ReadDefaultsAsync(
            own,
            caller.EnterpriseId,
            cancellationToken
        );
        if (request.Version is { } meant && meant != last.Version)
        {
            return Conflict(last.Version);
        }

        var defaults = new StoredPropertyDefaults(last.Version + 1, other, emails, cards, tokens);
        await own.ExecuteAsync(
            WriteDefaults,
            [
                caller.EnterpriseId,
                defaults.Version,
                request.Default,
                request.Emails,
                request.Cards,
                request.Tokens,
                ActorOf(caller),
                Now(),
            ],
            cancellationToken
        );
        PropertyDefaults answer = PropertyRuleEndpoints.Answer(defaults);
        own.Audit(
            "property_defaults.changed",
            "enterprise",
            caller.EnterpriseId,
            PropertyRuleEndpoints.Answer(last),
            answer
        );
        await version.CommitAsync(own, cancellationToken);
        return Results.Ok(answer);
    }

    private static async Task<StoredPropertyRule?> FindForChangeAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        Guid ruleId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(LockRule, enterpriseId, ruleId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? StoredPropertyRule.Read(reader) : null;
    }

    private static string? WhatIsWrong(PropertyRuleRequest request, out PropertyAction action)
    {
        action = PropertyRuleTerms.Read(request.Action) ?? PropertyAction.Allow;
        string property = request.Property ?? "";
        return property.Length is 0 or > PropertyRuleTerms.PropertyCharactersMax || property.Any(IsUnfit)
                ? $"property must have 1 to {PropertyRuleTerms.PropertyCharactersMax} characters, none of them a control character."
            : property == "*" ? "property: for all properties there is the default."
            : property.AsSpan(0, property.Length - 1).Contains('*') ? "property: a star may only be its last character."
            : PropertyRuleTerms.Read(request.Action) is null ? "action must be one of ALLOW, MASK, DROP."
            : request.FeatureName is { } feature
            && (feature.Length is 0 or > EventReader.NameCharactersMax || feature.Any(IsUnfit))
                ? $"featureName must have 1 to {EventReader.NameCharactersMax} characters, none of them a control character."
            : null;
    }

    // A lone surrogate has no UTF-8, so PostgreSQL could not keep it, and no event can have it.
    private static bool IsUnfit(char c) => char.IsControl(c) || c == '\ufffd';

    private static object Told(StoredPropertyRule rule) =>
        new
        {
            rule.Version,
            rule.Property,
            rule.FeatureName,
            action = PropertyRuleTerms.Text(rule.Action),
        };

    // As precise as PostgreSQL keeps it, so that the answer is what will be read.
    private DateTimeOffset Now()
    {
        DateTimeOffset now = time.GetUtcNow();
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond));
    }

    private static Guid ActorOf(Caller caller) => caller.UserId ?? caller.ApiKeyId ?? Guid.Empty;

    private static IResult AlreadyRuled() =>
        Problems.Problem(409, "property_rule_exists", "There is a rule about this property and feature already.");

    private static IResult Conflict(int version) =>
        Problems.Problem(409, "version_conflict", $"It is of version {version} by now. Look at it again.");
}
