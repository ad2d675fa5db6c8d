using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Nodes;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>
/// Makes, changes and ends policies. Each act is one transaction: the policy, the version that is kept for ever, and the identity
/// version by which every instance notices.
/// </summary>
internal sealed class PolicyWriter(
    Database database,
    EnterpriseDirectory enterprises,
    IdentityVersion version,
    PolicySets sets,
    TimeProvider time
)
{
    // Those who change an enterprise's policies take turns, so that the count holds.
    private const string LockEnterprise = "SELECT FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";
    private const string CountPolicies = "SELECT count(*) FROM policies WHERE enterprise_id = $1";

    private const string InsertPolicy = """
        INSERT INTO policies (enterprise_id, policy_id, version, name, effect, document, status, created_by, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10)
        """;

    public async Task<IResult> CreateAsync(Caller caller, PolicyRequest request, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        await using (NpgsqlCommand count = own.Command(CountPolicies, caller.EnterpriseId))
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= PolicyStore.PoliciesMax)
            {
                return Problems.Problem(
                    409,
                    "too_many_policies",
                    $"An enterprise may have {PolicyStore.PoliciesMax} policies. Delete one first."
                );
            }
        }

        (PolicyDraft? draft, string error) = await PolicyDraft.ReadAsync(request, enterprise, own, cancellationToken);
        if (draft is null)
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        DateTimeOffset now = Now();
        var policy = new StoredPolicy(
            Guid.CreateVersion7(now),
            1,
            draft.Name,
            draft.Effect,
            draft.Document,
            draft.Status,
            ActorOf(caller),
            now,
            now
        );
        await own.ExecuteAsync(InsertPolicy, [caller.EnterpriseId, .. ColumnsOf(policy)], cancellationToken);
        await CommitAsync(own, caller, null, policy, "CREATED", cancellationToken);
        return Results.Created($"/v1/admin/policies/{policy.PolicyId}", PolicyAnswers.Of(policy, enterprise));
    }

    private const string UpdatePolicy = """
        UPDATE policies SET version = $3, name = $4, effect = $5, document = $6::jsonb, status = $7, updated_at = $8
        WHERE enterprise_id = $1 AND policy_id = $2
        """;

    public async Task<IResult> ChangeAsync(
        Caller caller,
        Guid policyId,
        PolicyRequest request,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await FindForChangeAsync(own, caller.EnterpriseId, policyId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        if (request.Version is { } meant && meant != last.Version)
        {
            return Problems.Problem(
                409,
                "version_conflict",
                $"The policy is of version {last.Version} by now. Look at it again."
            );
        }

        (PolicyDraft? draft, string error) = await PolicyDraft.ReadAsync(request, enterprise, own, cancellationToken);
        if (draft is null)
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        return Results.Ok(
            await KeepAsync(
                own,
                caller,
                enterprise,
                last,
                last with
                {
                    Version = last.Version + 1,
                    Name = draft.Name,
                    Effect = draft.Effect,
                    Document = draft.Document,
                    Status = draft.Status,
                    UpdatedAt = Now(),
                },
                cancellationToken
            )
        );
    }

    /// <summary>Puts a policy into force or out of it, as it stands.</summary>
    public async Task<IResult> SetStatusAsync(
        Caller caller,
        Guid policyId,
        string status,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await FindForChangeAsync(own, caller.EnterpriseId, policyId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        return last.Status == status
            ? Results.Ok(PolicyAnswers.Of(last, enterprise))
            : Results.Ok(
                await KeepAsync(
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
                )
            );
    }

    private const string DeletePolicy = "DELETE FROM policies WHERE enterprise_id = $1 AND policy_id = $2";

    public async Task<IResult> DeleteAsync(Caller caller, Guid policyId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await FindForChangeAsync(own, caller.EnterpriseId, policyId, cancellationToken) is not { } last)
        {
            return NotFound();
        }

        StoredPolicy end = last with { Version = last.Version + 1, Status = PolicyTerms.Deleted, UpdatedAt = Now() };
        await own.ExecuteAsync(DeletePolicy, [caller.EnterpriseId, policyId], cancellationToken);
        await CommitAsync(own, caller, last, end, "DELETED", cancellationToken);
        return Results.NoContent();
    }

    private const string SetDefault = "UPDATE enterprises SET policy_default = $2 WHERE enterprise_id = $1";

    /// <summary>Says what happens when no policy says anything.</summary>
    public async Task<IResult> SetDefaultAsync(
        Caller caller,
        PolicyDefaultRequest request,
        CancellationToken cancellationToken
    )
    {
        if (request.Default is not (PolicyTerms.Permit or PolicyTerms.Forbid))
        {
            return Problems.Problem(400, "invalid_request", "default: must be one of PERMIT, FORBID.");
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(SetDefault, [caller.EnterpriseId, request.Default], cancellationToken);
        own.Audit("policy_default.changed", "enterprise", caller.EnterpriseId, after: request);
        await version.CommitAsync(own, cancellationToken);
        sets.Changed(caller.EnterpriseId);
        return Results.NoContent();
    }

    private const string LockPolicy = """
        SELECT policy_id, version, name, effect, document::text, status, created_by, created_at, updated_at FROM policies
        WHERE enterprise_id = $1 AND policy_id = $2 FOR UPDATE
        """;

    private static async Task<StoredPolicy?> FindForChangeAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        Guid policyId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(LockPolicy, enterpriseId, policyId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? PolicyStore.Read(reader, first: 0) : null;
    }

    private async Task<PolicyResponse> KeepAsync(
        ScopedTransaction own,
        Caller caller,
        EnterpriseInfo enterprise,
        StoredPolicy before,
        StoredPolicy policy,
        CancellationToken cancellationToken
    )
    {
        object?[] columns = ColumnsOf(policy);
        await own.ExecuteAsync(
            UpdatePolicy,
            [caller.EnterpriseId, .. columns[..6], policy.UpdatedAt],
            cancellationToken
        );
        await CommitAsync(own, caller, before, policy, "CHANGED", cancellationToken);
        return PolicyAnswers.Of(policy, enterprise);
    }

    private const string InsertVersion = """
        INSERT INTO policy_versions
            (enterprise_id, policy_id, version, name, effect, document, status, changed_by, changed_at, change)
        VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10)
        """;

    private async Task CommitAsync(
        ScopedTransaction own,
        Caller caller,
        StoredPolicy? before,
        StoredPolicy policy,
        string change,
        CancellationToken cancellationToken
    )
    {
        await own.ExecuteAsync(
            InsertVersion,
            [caller.EnterpriseId, .. ColumnsOf(policy)[..6], ActorOf(caller), policy.UpdatedAt, change],
            cancellationToken
        );
        object? after = change == "DELETED" ? null : Told(policy);
        own.Audit($"policy.{change.ToLowerInvariant()}", "policy", policy.PolicyId, Told(before), after);
        await version.CommitAsync(own, cancellationToken);
        sets.Changed(caller.EnterpriseId);
    }

    [return: NotNullIfNotNull(nameof(policy))]
    private static object? Told(StoredPolicy? policy) =>
        policy is null
            ? null
            : new
            {
                policy.Version,
                policy.Name,
                policy.Effect,
                policy.Status,
                document = JsonNode.Parse(policy.Document.ToJson()),
            };

    private static object?[] ColumnsOf(StoredPolicy policy) =>
        [
            policy.PolicyId,
            policy.Version,
            policy.Name,
            policy.Effect,
            policy.Document.ToJson(),
            policy.Status,
            policy.CreatedBy,
            policy.CreatedAt,
            policy.UpdatedAt,
        ];

    private async Task<EnterpriseInfo> EnterpriseAsync(Caller caller, CancellationToken cancellationToken) =>
        await enterprises.FindAsync(caller.EnterpriseId, cancellationToken)
        ?? throw new InvalidOperationException("The caller's enterprise does not exist.");

    // As precise as PostgreSQL keeps it, so that the answer is what will be read.
    private DateTimeOffset Now()
    {
        DateTimeOffset now = time.GetUtcNow();
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond));
    }

    private static Guid ActorOf(Caller caller) => caller.UserId ?? caller.ApiKeyId ?? Guid.Empty;

    private static IResult NotFound() => Problems.Problem(404, "not_found", "Your enterprise has no such policy.");
}
