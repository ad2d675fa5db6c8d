using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>
/// Makes, changes and ends limits. Each act is one transaction: the limit, the version that is kept for ever, and the identity
/// version by which every instance notices.
/// </summary>
internal sealed class LimitWriter(
    Database database,
    EnterpriseDirectory enterprises,
    IdentityVersion version,
    TimeProvider time
)
{
    // Those who make an enterprise's limits take turns, so that the count holds.
    private const string LockEnterprise = "SELECT FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";
    private const string CountLimits = "SELECT count(*) FROM usage_limits WHERE enterprise_id = $1";

    private const string InsertLimit = """
        INSERT INTO usage_limits
            (enterprise_id, limit_id, version, feature_name, scope, subject_user_id, subject_external_id, subject_role, limit_value,
             window_type, action, status, starts_at, expires_at, updated_at, created_by, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        """;

    public async Task<IResult> CreateAsync(Caller caller, LimitRequest request, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        await using (NpgsqlCommand count = own.Command(CountLimits, caller.EnterpriseId))
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= LimitStore.LimitsMax)
            {
                return Problems.Problem(
                    409,
                    "too_many_limits",
                    $"An enterprise may have {LimitStore.LimitsMax} limits. Delete one first."
                );
            }
        }

        (LimitDraft? draft, string error) = await LimitDraft.ReadAsync(request, enterprise, own, cancellationToken);
        DateTime now = Now();
        if ((draft is null ? error : EndedAlready(draft, null, now)) is { } wrong)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        StoredLimit limit = draft!.Stored(Guid.CreateVersion7(now), 1, ActorOf(caller), now, now);
        await own.ExecuteAsync(
            InsertLimit,
            [caller.EnterpriseId, .. ColumnsOf(limit), limit.UpdatedAt, limit.CreatedBy, limit.CreatedAt],
            cancellationToken
        );
        await CommitAsync(own, caller, null, limit, "CREATED", cancellationToken);
        return Results.Created($"/v1/admin/usage/limits/{limit.LimitId}", Answer(limit, enterprise));
    }

    private const string UpdateLimit = """
        UPDATE usage_limits
           SET version = $3, feature_name = $4, scope = $5, subject_user_id = $6, subject_external_id = $7, subject_role = $8,
               limit_value = $9, window_type = $10, action = $11, status = $12, starts_at = $13, expires_at = $14, updated_at = $15
         WHERE enterprise_id = $1 AND limit_id = $2
        """;

    public async Task<IResult> ChangeAsync(
        Caller caller,
        Guid limitId,
        LimitRequest request,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await LimitStore.FindForChangeAsync(own, caller.EnterpriseId, limitId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        if (request.Version is { } meant && meant != last.Version)
        {
            return Problems.Problem(
                409,
                "version_conflict",
                $"The limit is of version {last.Version} by now. Look at it again."
            );
        }

        (LimitDraft? draft, string error) = await LimitDraft.ReadAsync(request, enterprise, own, cancellationToken);
        DateTime now = Now();
        if ((draft is null ? error : EndedAlready(draft, last.ExpiresAt, now)) is { } wrong)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        return await KeepAsync(
            own,
            caller,
            enterprise,
            last,
            draft!.Stored(limitId, last.Version + 1, last.CreatedBy, last.CreatedAt, now),
            cancellationToken
        );
    }

    /// <summary>Puts a limit into force or out of it, as it stands.</summary>
    public async Task<IResult> SetStatusAsync(
        Caller caller,
        Guid limitId,
        string status,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await LimitStore.FindForChangeAsync(own, caller.EnterpriseId, limitId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        return last.Status == status
            ? Results.Ok(Answer(last, enterprise))
            : await KeepAsync(
                own,
                caller,
                enterprise,
                last,
                last with
                {
                    Version = last.Version + 1,
                    Status = status,
                    UpdatedAt = Now(),
                },
                cancellationToken
            );
    }

    private const string DeleteLimit = "DELETE FROM usage_limits WHERE enterprise_id = $1 AND limit_id = $2";

    public async Task<IResult> DeleteAsync(Caller caller, Guid limitId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await LimitStore.FindForChangeAsync(own, caller.EnterpriseId, limitId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        StoredLimit end = last with { Version = last.Version + 1, Status = LimitTerms.Deleted, UpdatedAt = Now() };
        await own.ExecuteAsync(DeleteLimit, [caller.EnterpriseId, limitId], cancellationToken);
        await CommitAsync(own, caller, last, end, "DELETED", cancellationToken);
        return Results.NoContent();
    }

    private const string SetUnreachable = "UPDATE enterprises SET limits_unreachable = $2 WHERE enterprise_id = $1";

    /// <summary>Says what happens to usage that cannot be counted.</summary>
    public async Task<IResult> SetSettingsAsync(
        Caller caller,
        LimitSettings settings,
        CancellationToken cancellationToken
    )
    {
        if (settings.WhenUncounted is not (LimitTerms.Open or LimitTerms.Closed))
        {
            return Problems.Problem(400, "invalid_request", "whenUncounted: must be one of OPEN, CLOSED.");
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(SetUnreachable, [caller.EnterpriseId, settings.WhenUncounted], cancellationToken);
        own.Audit("limit_settings.changed", "enterprise", caller.EnterpriseId, after: settings);
        await version.CommitAsync(own, cancellationToken);
        return Results.Ok(settings);
    }

    private async Task<IResult> KeepAsync(
        ScopedTransaction own,
        Caller caller,
        EnterpriseInfo enterprise,
        StoredLimit before,
        StoredLimit limit,
        CancellationToken cancellationToken
    )
    {
        await own.ExecuteAsync(
            UpdateLimit,
            [caller.EnterpriseId, .. ColumnsOf(limit), limit.UpdatedAt],
            cancellationToken
        );
        await CommitAsync(own, caller, before, limit, "CHANGED", cancellationToken);
        return Results.Ok(Answer(limit, enterprise));
    }

    private const string InsertVersion = """
        INSERT INTO usage_limit_versions
            (enterprise_id, limit_id, version, feature_name, scope, subject_user_id, subject_external_id, subject_role, limit_value,
             window_type, action, status, starts_at, expires_at, changed_at, changed_by, change)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        """;

    private async Task CommitAsync(
        ScopedTransaction own,
        Caller caller,
        StoredLimit? before,
        StoredLimit limit,
        string change,
        CancellationToken cancellationToken
    )
    {
        await own.ExecuteAsync(
            InsertVersion,
            [caller.EnterpriseId, .. ColumnsOf(limit), limit.UpdatedAt, ActorOf(caller), change],
            cancellationToken
        );
        own.Audit(
            $"limit.{change.ToLowerInvariant()}",
            "limit",
            limit.LimitId,
            before,
            change == "DELETED" ? null : limit
        );
        await version.CommitAsync(own, cancellationToken);
    }

    private static object?[] ColumnsOf(StoredLimit limit) =>
        [
            limit.LimitId,
            limit.Version,
            limit.Meter.FeatureName,
            limit.Meter.Scope.Word(),
            limit.SubjectUserId,
            limit.SubjectExternalId,
            limit.Meter.RoleName,
            limit.LimitValue,
            limit.Meter.Window.Word(),
            limit.Action.Word(),
            limit.Status,
            limit.StartsAt,
            limit.ExpiresAt,
        ];

    // An end that has passed is a slip, unless the limit had it already.
    private static string? EndedAlready(LimitDraft draft, DateTime? before, DateTime now) =>
        draft.ExpiresAt is { } expires && expires <= now && expires != before
            ? "expiresAt: must be in the future."
            : null;

    private static LimitResponse Answer(StoredLimit limit, EnterpriseInfo enterprise) =>
        LimitAnswers.Of(limit, enterprise, new LocalTime(enterprise.TimeZone));

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

    private static IResult NotFound() => Problems.Problem(404, "not_found", "Your enterprise has no such limit.");
}
