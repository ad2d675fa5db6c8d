using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>What shall be otherwise of a person; null: stays as it is.</summary>
internal sealed record PersonChange
{
    public bool SetsDisplayName { get; init; }

    /// <summary>Null with <see cref="SetsDisplayName"/>: none.</summary>
    public string? DisplayName { get; init; }

    public IReadOnlyList<string>? Roles { get; init; }

    public bool? IsActive { get; init; }
}

/// <summary>Changes people: their roles, whether they can sign in, their sessions. Effective on every instance within a second.</summary>
internal sealed class PeopleChanges(
    Database database,
    EnterpriseDirectory enterprises,
    AccountLinks links,
    IdentityVersion version,
    TimeProvider time
)
{
    private const string UpdatePerson = """
        UPDATE users SET display_name = $3, updated_at = $4, deprovisioned_at = NULL,
                         deactivated_at = CASE WHEN $5 THEN NULL ELSE coalesce(deactivated_at, $4) END
        WHERE enterprise_id = $1 AND user_id = $2
        """;

    private const string SetRoles = """
        WITH wanted AS (SELECT unnest($3::text[]) AS role_name),
             taken AS (DELETE FROM user_roles r WHERE r.enterprise_id = $1 AND r.user_id = $2
                       AND r.role_name NOT IN (SELECT w.role_name FROM wanted w))
        INSERT INTO user_roles (enterprise_id, user_id, role_name) SELECT $1, $2, w.role_name FROM wanted w
        ON CONFLICT DO NOTHING
        """;

    /// <summary>Sets everything of a person, as the API is told.</summary>
    /// <returns>204, or the problem.</returns>
    public async Task<IResult> UpdateAsync(
        HttpContext context,
        Guid userId,
        UpdateUserRequest request,
        CancellationToken cancellationToken
    )
    {
        if (request is not { Roles: { } roles, Active: { } isActive })
        {
            return Problems.Problem(400, "invalid_request", "roles and active are required.");
        }

        var change = new PersonChange
        {
            SetsDisplayName = true,
            DisplayName = request.DisplayName,
            Roles = roles,
            IsActive = isActive,
        };
        return await UpdateAsync(context, userId, change, cancellationToken);
    }

    /// <summary>Sets some of a person; the rest stays as it is at that moment.</summary>
    /// <returns>204, or the problem.</returns>
    public async Task<IResult> UpdateAsync(
        HttpContext context,
        Guid userId,
        PersonChange change,
        CancellationToken cancellationToken
    )
    {
        if (!PeopleRules.TryDisplayName(change.DisplayName, out string? name))
        {
            return Problems.Problem(400, "invalid_request", PeopleRules.DisplayNameWrong);
        }

        if (
            change.Roles is { } given
            && (given.Count > PeopleRules.RolesPerPersonMax || given.Any(role => role is null))
        )
        {
            string wrong = $"roles must have at most {PeopleRules.RolesPerPersonMax} names of roles.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        Caller caller = context.GetCaller();
        Guid enterpriseId = caller.EnterpriseId;
        return await ChangeAsync(
            caller,
            userId,
            async (own, enterprise, person) =>
            {
                string[] roles = [.. (change.Roles ?? person.OwnRoles).Distinct(StringComparer.Ordinal)];
                bool isActive = change.IsActive ?? person.IsActive;
                IReadOnlyDictionary<string, string[]> known = await KnownRoles.ReadAsync(
                    own,
                    enterpriseId,
                    cancellationToken
                );
                IResult? refused =
                    PeopleRules.WhyNotGive(caller, roles.Except(person.OwnRoles), known)
                    ?? PeopleRules.WhyNotOneself(caller, userId, person.OwnRoles, roles, isActive);
                if (refused is not null)
                {
                    return refused;
                }

                DateTimeOffset now = time.GetUtcNow();
                string? newName = change.SetsDisplayName ? name : person.DisplayName;
                byte[]? sealedName = newName is null
                    ? null
                    : Users.SealDisplayName(enterprise.DataKey, enterpriseId, newName);
                await own.ExecuteAsync(
                    UpdatePerson,
                    [enterpriseId, userId, sealedName, now, isActive],
                    cancellationToken
                );
                await own.ExecuteAsync(SetRoles, [enterpriseId, userId, roles], cancellationToken);
                own.Audit(
                    "person.changed",
                    "user",
                    userId,
                    before: new { roles = person.OwnRoles, active = person.IsActive },
                    after: new
                    {
                        roles,
                        active = isActive,
                        renamed = newName != person.DisplayName,
                    }
                );
                if (!isActive)
                {
                    await EndAccessAsync(own, enterpriseId, userId, now, cancellationToken);
                }

                return null;
            },
            cancellationToken
        );
    }

    // The row stays, without anything of the person but its id: usage counts by it.
    private const string ForgetPerson = """
        UPDATE users SET email = NULL, email_hash = NULL, password_hash = NULL, display_name = NULL, origin = NULL,
                         password_changed_at = NULL, updated_at = $3, deactivated_at = $3, deprovisioned_at = NULL
        WHERE enterprise_id = $1 AND user_id = $2
        """;

    /// <summary>Takes the person's sign-in away; their usage stays.</summary>
    /// <returns>204, or the problem.</returns>
    public async Task<IResult> RemoveAsync(HttpContext context, Guid userId, CancellationToken cancellationToken)
    {
        Caller caller = context.GetCaller();
        return await ChangeAsync(
            caller,
            userId,
            async (own, _, person) =>
            {
                if (PeopleRules.WhyNotOneself(caller, userId, person.OwnRoles, [], isActive: false) is { } refused)
                {
                    return refused;
                }

                own.Audit(
                    "person.removed",
                    "user",
                    userId,
                    before: new { roles = person.OwnRoles, active = person.IsActive }
                );
                DateTimeOffset now = time.GetUtcNow();
                await own.ExecuteAsync(ForgetPerson, [caller.EnterpriseId, userId, now], cancellationToken);
                await PersonTraces.ForgetAsync(own, caller.EnterpriseId, userId, cancellationToken);
                await EndAccessAsync(own, caller.EnterpriseId, userId, now, cancellationToken);
                return null;
            },
            cancellationToken
        );
    }

    /// <summary>Ends one session of a person, or all.</summary>
    /// <returns>204, or the problem.</returns>
    public async Task<IResult> EndSessionsAsync(
        HttpContext context,
        Guid userId,
        Guid? sessionId,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        Guid enterpriseId = caller.EnterpriseId;
        EnterpriseInfo enterprise = (await enterprises.FindAsync(enterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (await PersonRecord.ReadAsync(own, enterprise, userId, cancellationToken) is not { } person)
        {
            return PeopleRules.NotFound;
        }

        if (PeopleRules.WhyNotTouch(caller, person.Held) is { } refused)
        {
            return refused;
        }

        DateTimeOffset now = time.GetUtcNow();
        if (sessionId is not { } one)
        {
            await PersonSessions.EndAllAsync(own, enterpriseId, userId, kept: null, now, cancellationToken);
        }
        else if (!await PersonSessions.EndAsync(own, enterpriseId, userId, one, now, cancellationToken))
        {
            return Problems.Problem(404, "not_found", "This person has no such session.");
        }

        own.Audit("person.sessions_ended", "user", userId, after: new { sessionId });
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    private async Task<IResult> ChangeAsync(
        Caller caller,
        Guid userId,
        Func<ScopedTransaction, EnterpriseInfo, PersonRecord, Task<IResult?>> change,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = caller.EnterpriseId;
        EnterpriseInfo enterprise = (await enterprises.FindAsync(enterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await Administrators.LockAsync(own, enterpriseId, cancellationToken);
        if (await PersonRecord.ReadAsync(own, enterprise, userId, cancellationToken) is not { } person)
        {
            return PeopleRules.NotFound;
        }

        if (PeopleRules.WhyNotTouch(caller, person.Held) is { } refused)
        {
            return refused;
        }

        long before = await Administrators.CountAsync(own, enterpriseId, cancellationToken);
        if (await change(own, enterprise, person) is { } problem)
        {
            return problem;
        }

        if (before > 0 && await Administrators.CountAsync(own, enterpriseId, cancellationToken) == 0)
        {
            return PeopleRules.LastAdmin(enterpriseId);
        }

        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    private async Task EndAccessAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        Guid userId,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        await PersonSessions.EndAllAsync(own, enterpriseId, userId, kept: null, now, cancellationToken);
        await links.EndAsync(own, enterpriseId, userId, purpose: null, cancellationToken);
    }
}
