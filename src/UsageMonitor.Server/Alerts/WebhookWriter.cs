using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>Makes, changes and ends webhooks.</summary>
internal sealed class WebhookWriter(
    Database database,
    EnterpriseDirectory enterprises,
    WebhookConnections connections,
    TimeProvider time
)
{
    public const int NameCharactersMax = 100;

    /// <summary>How long the secret before signs beside a new one.</summary>
    public static readonly TimeSpan RotationOverlap = TimeSpan.FromHours(24);

    private const string CountWebhooks = "SELECT count(*) FROM webhooks WHERE enterprise_id = $1";

    private const string InsertWebhook = """
        INSERT INTO webhooks (enterprise_id, webhook_id, name, url, secret, status, created_by, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
        """;

    public async Task<IResult> CreateAsync(Caller caller, WebhookRequest request, CancellationToken cancellationToken)
    {
        if (Fault(request) is { } fault)
        {
            return Problems.Problem(400, "invalid_request", fault);
        }

        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await LockedAsync(caller, cancellationToken);
        await using (NpgsqlCommand count = own.Command(CountWebhooks, caller.EnterpriseId))
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= Webhook.WebhooksMax)
            {
                return Problems.Problem(
                    409,
                    "too_many_webhooks",
                    $"An enterprise may have {Webhook.WebhooksMax} webhooks. Delete one first."
                );
            }
        }

        DateTime now = Now();
        byte[] secret = WebhookSignature.NewSecret();
        var webhook = new Webhook(
            Guid.CreateVersion7(now),
            1,
            request.Name!.Trim(),
            request.Url!,
            request.Status ?? LimitTerms.Active,
            null,
            null,
            caller.UserId ?? caller.ApiKeyId ?? Guid.Empty,
            now,
            now
        );
        if (await IsTakenAsync(own, caller, webhook, cancellationToken))
        {
            return NameTaken();
        }

        await own.ExecuteAsync(
            InsertWebhook,
            [
                caller.EnterpriseId,
                webhook.WebhookId,
                webhook.Name,
                Webhook.SealUrl(enterprise, webhook.WebhookId, webhook.Url),
                Webhook.SealSecret(enterprise, webhook.WebhookId, secret),
                webhook.Status,
                webhook.CreatedBy,
                now,
            ],
            cancellationToken
        );
        own.Audit("webhook.created", "webhook", webhook.WebhookId, after: Told(webhook));
        await own.CommitAsync(cancellationToken);
        return Results.Created(
            $"/v1/admin/webhooks/{webhook.WebhookId}",
            new WebhookSecretResponse(Answer(caller, webhook), WebhookSignature.Show(secret))
        );
    }

    private const string UpdateWebhook = """
        UPDATE webhooks SET version = $3, name = $4, url = $5, status = $6, updated_at = $7, inactive_because = NULL
        WHERE enterprise_id = $1 AND webhook_id = $2
        """;

    public async Task<IResult> ChangeAsync(
        Caller caller,
        Guid webhookId,
        WebhookRequest request,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await LockedAsync(caller, cancellationToken);
        if (await FindAsync(own, enterprise, webhookId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        if (request.Version is { } meant && meant != last.Version)
        {
            return Problems.Problem(
                409,
                "version_conflict",
                $"The webhook is of version {last.Version} by now. Look at it again."
            );
        }

        if (Fault(request) is { } fault)
        {
            return Problems.Problem(400, "invalid_request", fault);
        }

        Webhook webhook = last with
        {
            Version = last.Version + 1,
            Name = request.Name!.Trim(),
            Url = request.Url!,
            Status = request.Status ?? LimitTerms.Active,
            InactiveBecause = null,
            UpdatedAt = Now(),
        };
        if (await IsTakenAsync(own, caller, webhook, cancellationToken))
        {
            return NameTaken();
        }

        await own.ExecuteAsync(
            UpdateWebhook,
            [
                caller.EnterpriseId,
                webhookId,
                webhook.Version,
                webhook.Name,
                Webhook.SealUrl(enterprise, webhookId, webhook.Url),
                webhook.Status,
                webhook.UpdatedAt,
            ],
            cancellationToken
        );
        own.Audit("webhook.changed", "webhook", webhookId, Told(last), Told(webhook));
        await own.CommitAsync(cancellationToken);
        return Results.Ok(Answer(caller, webhook));
    }

    private const string RotateSecret = """
        UPDATE webhooks SET version = version + 1, former_secret = secret, former_secret_until = $3, secret = $4, updated_at = $5
        WHERE enterprise_id = $1 AND webhook_id = $2
        """;

    /// <summary>A new secret; the one before signs beside it for a day, the one before that no more.</summary>
    public async Task<IResult> RotateSecretAsync(Caller caller, Guid webhookId, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await LockedAsync(caller, cancellationToken);
        if (await FindAsync(own, enterprise, webhookId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        DateTime now = Now();
        byte[] secret = WebhookSignature.NewSecret();
        Webhook webhook = last with
        {
            Version = last.Version + 1,
            FormerSecretUntil = now + RotationOverlap,
            UpdatedAt = now,
        };
        await own.ExecuteAsync(
            RotateSecret,
            [
                caller.EnterpriseId,
                webhookId,
                webhook.FormerSecretUntil,
                Webhook.SealSecret(enterprise, webhookId, secret),
                now,
            ],
            cancellationToken
        );
        own.Audit("webhook.secret_rotated", "webhook", webhookId);
        await own.CommitAsync(cancellationToken);
        return Results.Ok(new WebhookSecretResponse(Answer(caller, webhook), WebhookSignature.Show(secret)));
    }

    private const string ReadRules =
        $"SELECT {AlertRule.Columns} FROM usage_alerts AS a WHERE a.enterprise_id = $1 AND a.notification = 'WEBHOOK'";

    private const string DeleteWebhook = "DELETE FROM webhooks WHERE enterprise_id = $1 AND webhook_id = $2";

    /// <summary>Deletes a webhook that no rule names; what is still to be sent to it is given up.</summary>
    public async Task<IResult> DeleteAsync(Caller caller, Guid webhookId, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await LockedAsync(caller, cancellationToken);
        string id = webhookId.ToString();
        int rules = 0;
        await using (NpgsqlCommand command = own.Command(ReadRules, caller.EnterpriseId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                rules += AlertRule.Read(reader, enterprise).Recipients.Contains(id) ? 1 : 0;
            }
        }

        if (rules > 0)
        {
            return Problems.Problem(
                409,
                "webhook_in_use",
                $"{rules} alert {(rules == 1 ? "rule tells" : "rules tell")} this webhook. Change or delete them first."
            );
        }

        if (await own.ExecuteAsync(DeleteWebhook, [caller.EnterpriseId, webhookId], cancellationToken) == 0)
        {
            return NotFound();
        }

        own.Audit("webhook.deleted", "webhook", webhookId);
        await own.CommitAsync(cancellationToken);
        return Results.NoContent();
    }

    // The address may carry a secret; what it is asked for on is enough to tell them apart.
    private static object Told(Webhook webhook) =>
        new
        {
            webhook.Version,
            webhook.Name,
            host = Uri.TryCreate(webhook.Url, UriKind.Absolute, out Uri? url) ? url.Authority : null,
            webhook.Status,
        };

    private const string ReadWebhooks = $"""
        SELECT {Webhook.Columns} FROM webhooks WHERE enterprise_id = $1 AND webhook_id > $2 ORDER BY webhook_id LIMIT $3
        """;

    /// <summary>A page of the webhooks; also the web page's.</summary>
    public async Task<WebhookListResponse> ListAsync(
        Caller caller,
        Guid after,
        int limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        var webhooks = new List<WebhookResponse>();
        await using NpgsqlCommand command = own.Command(ReadWebhooks, caller.EnterpriseId, after, limit + 1);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            webhooks.Add(Answer(caller, Webhook.Read(reader, enterprise)));
        }

        bool hasMore = webhooks.Count > limit;
        return new WebhookListResponse(
            hasMore ? webhooks[..limit] : webhooks,
            hasMore ? webhooks[limit - 1].WebhookId : null
        );
    }

    public async Task<IResult> GetAsync(Caller caller, Guid webhookId, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        return await FindAsync(own, enterprise, webhookId, cancellationToken) is { } webhook
            ? Results.Ok(Answer(caller, webhook))
            : NotFound();
    }

    private const string ReadWebhook =
        $"SELECT {Webhook.Columns} FROM webhooks WHERE enterprise_id = $1 AND webhook_id = $2";

    internal static async Task<Webhook?> FindAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid webhookId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(ReadWebhook, enterprise.EnterpriseId, webhookId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? Webhook.Read(reader, enterprise) : null;
    }

    internal static IResult NotFound() => Problems.Problem(404, "not_found", "Your enterprise has no such webhook.");

    private string? Fault(WebhookRequest request) =>
        EventText.Fault(request.Name?.Trim() ?? "", NameCharactersMax) is { } name ? $"name: {name}."
        : Guid.TryParse(request.Name, out _) ? "name: must not look like an id."
        : connections.Fault(request.Url) is { } url ? $"url: {url}."
        : request.Status is not (null or LimitTerms.Active or LimitTerms.Inactive)
            ? "status: must be one of ACTIVE, INACTIVE."
        : null;

    private async Task<ScopedTransaction> LockedAsync(Caller caller, CancellationToken cancellationToken)
    {
        ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        try
        {
            await own.ExecuteAsync(AlertRuleWriter.LockEnterprise, [caller.EnterpriseId], cancellationToken);
            return own;
        }
        catch
        {
            await own.DisposeAsync();
            throw;
        }
    }

    private const string FindName =
        "SELECT FROM webhooks WHERE enterprise_id = $1 AND lower(name) = lower($2) AND webhook_id <> $3";

    private static async Task<bool> IsTakenAsync(
        ScopedTransaction own,
        Caller caller,
        Webhook webhook,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(FindName, caller.EnterpriseId, webhook.Name, webhook.WebhookId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken);
    }

    private static IResult NameTaken() =>
        Problems.Problem(409, "name_taken", "Your enterprise has a webhook of this name.");

    private WebhookResponse Answer(Caller caller, Webhook webhook) =>
        webhook.Answer(caller.May(Permissions.AlertsWrite), time.GetUtcNow());

    private async Task<EnterpriseInfo> EnterpriseAsync(Caller caller, CancellationToken cancellationToken) =>
        await enterprises.FindAsync(caller.EnterpriseId, cancellationToken)
        ?? throw new InvalidOperationException("The caller's enterprise does not exist.");

    private DateTime Now()
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond));
    }
}
