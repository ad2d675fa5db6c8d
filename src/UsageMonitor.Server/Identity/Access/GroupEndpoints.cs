using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary><c>/v1/admin/groups</c>: groups of people and the roles that these have by them.</summary>
internal static class GroupEndpoints
{
    private const int RolesMax = 50;

    public static IEndpointRouteBuilder MapGroupEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/groups").WithTags("Groups");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.PeopleRead)
            .WithName("ListGroups")
            .WithSummary("Lists the groups by name")
            .Produces<GroupsResponse>()
            .ProducesProblem(400);
        group
            .MapPost("", CreateAsync)
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("CreateGroup")
            .WithSummary("Makes a group")
            .Produces<GroupSummary>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapGet("/{groupId:guid}", GetAsync)
            .RequirePermission(Permissions.PeopleRead)
            .WithName("GetGroup")
            .WithSummary("Tells a group's name and roles")
            .Produces<GroupSummary>()
            .ProducesProblem(404);
        group
            .MapPut("/{groupId:guid}", ChangeAsync)
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("ChangeGroup")
            .WithSummary("Replaces a group's name and roles")
            .Produces<GroupSummary>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete("/{groupId:guid}", DeleteAsync)
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("DeleteGroup")
            .WithSummary("Deletes a group; its members lose the roles they had by it")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
        return routes.MapGroupMemberEndpoints();
    }

    private static async Task<IResult> ListAsync(
        int? limit,
        string? after,
        Database database,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (Paging.Refuse(limit) is { } refused)
        {
            return refused;
        }

        if (!Paging.TryRead(after, out string? afterName))
        {
            return Paging.UnknownCursor;
        }

        int count = limit ?? Paging.LimitDefault;
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        List<GroupSummary> groups = await Groups.ListAsync(
            transaction,
            enterpriseId,
            afterName,
            count + 1,
            cancellationToken
        );
        return Results.Ok(
            groups.Count <= count
                ? new GroupsResponse(groups, null)
                : new GroupsResponse(groups[..count], Paging.Cursor(groups[count - 1].Name))
        );
    }

    private static async Task<IResult> GetAsync(
        Guid groupId,
        Database database,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        return await Groups.FindAsync(transaction, enterpriseId, groupId, cancellationToken) is { } group
            ? Results.Ok(group)
            : NotFound;
    }

    private static async Task<IResult> CreateAsync(
        JsonBody<SaveGroupRequest> body,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (Refuse(body, out string name, out string[] roles) is { } problem)
        {
            return problem;
        }

        Caller caller = context.GetCaller();
        Guid enterpriseId = caller.EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (await RoleGrants.RefuseAsync(transaction, caller, roles, cancellationToken) is { } refused)
        {
            return refused;
        }

        await LastAdmin.TakeTurnAsync(transaction, enterpriseId, cancellationToken); // the count is true until commit
        if (await Groups.CountAsync(transaction, enterpriseId, cancellationToken) >= Groups.GroupsMax)
        {
            return Problems.Problem(409, "too_many_groups", $"An enterprise has {Groups.GroupsMax} groups at most.");
        }

        Guid groupId = Guid.NewGuid();
        DateTimeOffset now = time.GetUtcNow();
        if (
            !await Groups.InsertAsync(
                transaction,
                enterpriseId,
                groupId,
                name,
                null,
                Groups.Local,
                now,
                cancellationToken
            )
        )
        {
            return NameTaken;
        }

        await Groups.SetRolesAsync(transaction, enterpriseId, groupId, roles, cancellationToken);
        GroupSummary? made = await Groups.FindAsync(transaction, enterpriseId, groupId, cancellationToken);
        transaction.Audit("group.created", "group", groupId, after: made);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.Created($"/v1/admin/groups/{groupId}", made);
    }

    private static async Task<IResult> ChangeAsync(
        Guid groupId,
        JsonBody<SaveGroupRequest> body,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (Refuse(body, out string name, out string[] roles) is { } problem)
        {
            return problem;
        }

        Caller caller = context.GetCaller();
        Guid enterpriseId = caller.EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await LastAdmin.TakeTurnAsync(transaction, enterpriseId, cancellationToken);
        if (await Groups.LockAsync(transaction, enterpriseId, groupId, cancellationToken) is not { } before)
        {
            return NotFound;
        }

        if (before.Provisioned && name != before.Name)
        {
            return ProvisionedGroup;
        }

        var changed = before.Roles.ToHashSet(StringComparer.Ordinal);
        changed.SymmetricExceptWith(roles);
        if (await RoleGrants.RefuseAsync(transaction, caller, changed, cancellationToken) is { } refused)
        {
            return refused;
        }

        try
        {
            if (
                !await Groups.RenameAsync(transaction, enterpriseId, groupId, name, time.GetUtcNow(), cancellationToken)
            )
            {
                return NameTaken;
            }
        }
        catch (PostgresException exception) when (exception.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            return NameTaken;
        }

        await Groups.SetRolesAsync(transaction, enterpriseId, groupId, roles, cancellationToken);
        if (await TakesLastAdminAsync(transaction, enterpriseId, before.Roles, cancellationToken))
        {
            return NoAdminLeft;
        }

        GroupSummary? after = await Groups.FindAsync(transaction, enterpriseId, groupId, cancellationToken);
        transaction.Audit("group.changed", "group", groupId, before, after);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.Ok(after);
    }

    private static async Task<IResult> DeleteAsync(
        Guid groupId,
        Database database,
        IdentityVersion version,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        Guid enterpriseId = caller.EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await LastAdmin.TakeTurnAsync(transaction, enterpriseId, cancellationToken);
        if (await Groups.LockAsync(transaction, enterpriseId, groupId, cancellationToken) is not { } before)
        {
            return NotFound;
        }

        if (await RoleGrants.RefuseAsync(transaction, caller, [.. before.Roles], cancellationToken) is { } refused)
        {
            return refused;
        }

        await Groups.DeleteAsync(transaction, enterpriseId, groupId, cancellationToken);
        if (await TakesLastAdminAsync(transaction, enterpriseId, before.Roles, cancellationToken))
        {
            return NoAdminLeft;
        }

        transaction.Audit("group.deleted", "group", groupId, before);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    /// <summary>Whether a change to a group that had these roles has left the enterprise without an admin.</summary>
    public static async Task<bool> TakesLastAdminAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        IReadOnlyList<string> roles,
        CancellationToken cancellationToken
    ) =>
        roles.Contains(RolePermissions.EnterpriseAdmin)
        && !await LastAdmin.ThereIsAnAdminAsync(transaction, enterpriseId, Guid.Empty, false, cancellationToken);

    public static IResult NotFound => Problems.Problem(404, "not_found", "Your enterprise has no such group.");

    public static IResult NoAdminLeft =>
        Problems.Problem(409, "last_admin", "Nobody who administers the enterprise would be left.");

    public static IResult ProvisionedGroup =>
        Problems.Problem(
            409,
            "provisioned_group",
            "The group comes from your provisioning system: change its name and members there."
        );

    private static IResult NameTaken =>
        Problems.Problem(409, "group_exists", "There is a group of that name; names differ in more than case.");

    private static IResult? Refuse(JsonBody<SaveGroupRequest> body, out string name, out string[] roles)
    {
        name = body.Value?.Name?.Trim() ?? "";
        roles = [.. (body.Value?.Roles ?? []).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        return body.Problem is { } problem ? problem
            : name.Length is 0 or > Groups.NameCharactersMax || name.Any(char.IsControl)
                ? Problems.Problem(
                    400,
                    "invalid_request",
                    $"name must have 1 to {Groups.NameCharactersMax} characters, none of them a control character."
                )
            : roles.Length > RolesMax || roles.Any(role => role is null)
                ? Problems.Problem(400, "invalid_request", $"roles must be a list of up to {RolesMax} names.")
            : null;
    }
}
