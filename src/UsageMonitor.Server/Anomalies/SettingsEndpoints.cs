using UsageMonitor.Contracts;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary><c>/v1/admin/anomalies/settings</c>: how much it takes to stand out, and who is told.</summary>
internal static class SettingsEndpoints
{
    public static void Map(IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/anomalies/settings").WithTags("Anomalies");
        group
            .MapGet("", GetAsync)
            .RequirePermission(Permissions.AlertsRead)
            .WithName("GetAnomalySettings")
            .WithSummary("How much it takes to be held for abnormal, and who is told")
            .Produces<AnomalySettings>();
        group
            .MapPut("", PutAsync)
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("UpdateAnomalySettings")
            .WithSummary("Sets the sensitivity and the recipients; what is learned stays")
            .Produces<AnomalySettings>()
            .ProducesProblem(400);
    }

    private static async Task<IResult> GetAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    ) =>
        Results.Ok(
            await ReadAsync(database, await enterprises.OfCallerAsync(context, cancellationToken), cancellationToken)
        );

    public static async Task<AnomalySettings> ReadAsync(
        Database database,
        EnterpriseInfo enterprise,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        return new AnomalySettings(
            enterprise.AnomalySensitivity,
            await AnomalySettingsStore.ReadAsync(own, enterprise, cancellationToken)
        );
    }

    /// <summary>The settings as the page shows them: webhooks by their names.</summary>
    public static async Task<AnomalySettings> ReadNamedAsync(
        Database database,
        EnterpriseInfo enterprise,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        IReadOnlyList<string> recipients = await AnomalySettingsStore.ReadAsync(own, enterprise, cancellationToken);
        Dictionary<string, string> names = (
            await AlertRuleWriter.ReadWebhooksAsync(own, enterprise.EnterpriseId, cancellationToken)
        ).ToDictionary(webhook => webhook.WebhookId.ToString(), webhook => webhook.Name);
        // One that is gone is not shown, and so gone from the settings when they are saved.
        return new AnomalySettings(
            enterprise.AnomalySensitivity,
            [
                .. recipients
                    .Select(recipient =>
                        Guid.TryParseExact(recipient, "D", out _) ? names.GetValueOrDefault(recipient) : recipient
                    )
                    .OfType<string>(),
            ]
        );
    }

    private static async Task<IResult> PutAsync(
        JsonBody<AnomalySettings> body,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        IdentityVersion version,
        TimeProvider time,
        CancellationToken cancellationToken
    ) =>
        body.Problem
        ?? await SaveAsync(
            body.Value,
            context.GetCaller(),
            await enterprises.OfCallerAsync(context, cancellationToken),
            database,
            version,
            time,
            cancellationToken
        );

    private const string SetSensitivity = "UPDATE enterprises SET anomaly_sensitivity = $2 WHERE enterprise_id = $1";

    private const string SetRecipients = """
        INSERT INTO anomaly_settings (enterprise_id, recipients, updated_by, updated_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (enterprise_id)
            DO UPDATE SET recipients = excluded.recipients, updated_by = excluded.updated_by, updated_at = excluded.updated_at
        """;

    public static async Task<IResult> SaveAsync(
        AnomalySettings wanted,
        Caller caller,
        EnterpriseInfo enterprise,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (wanted.Sensitivity is not { } sensitivity || !AnomalyTerms.SensitivityNames.Contains(sensitivity))
        {
            return Problems.Problem(
                400,
                "invalid_request",
                $"sensitivity: must be one of {string.Join(", ", AnomalyTerms.SensitivityNames)}."
            );
        }

        if (wanted.Recipients is null || wanted.Recipients.Count > AnomalyLimits.RecipientsMax)
        {
            return Problems.Problem(
                400,
                "invalid_request",
                $"recipients: must be a list of at most {AnomalyLimits.RecipientsMax} e-mail addresses and webhooks."
            );
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<(Guid, string)> webhooks = await AlertRuleWriter.ReadWebhooksAsync(
            own,
            enterprise.EnterpriseId,
            cancellationToken
        );
        var recipients = new List<string>();
        foreach (string? text in wanted.Recipients)
        {
            if (AlertRuleDraft.Address(text) is { } address)
            {
                recipients.Add(address);
            }
            else if (AlertRuleDraft.FindWebhook(text?.Trim(), webhooks) is { } webhook)
            {
                recipients.Add(webhook);
            }
            else
            {
                return Problems.Problem(
                    400,
                    "invalid_request",
                    "recipients: each must be an e-mail address, or the name or id of a webhook of your enterprise."
                );
            }
        }

        recipients = [.. recipients.Distinct(StringComparer.Ordinal)];
        await own.ExecuteAsync(SetSensitivity, [enterprise.EnterpriseId, sensitivity], cancellationToken);
        await own.ExecuteAsync(
            SetRecipients,
            [
                enterprise.EnterpriseId,
                AnomalySettingsStore.SealRecipients(enterprise, recipients),
                caller.UserId ?? caller.ApiKeyId ?? Guid.Empty,
                time.GetUtcNow().UtcDateTime,
            ],
            cancellationToken
        );
        own.Audit(
            "anomaly_settings.changed",
            "enterprise",
            enterprise.EnterpriseId,
            new { sensitivity = enterprise.AnomalySensitivity },
            new { sensitivity, recipientCount = recipients.Count }
        );
        await version.CommitAsync(own, cancellationToken);
        return Results.Ok(new AnomalySettings(sensitivity, recipients));
    }
}
