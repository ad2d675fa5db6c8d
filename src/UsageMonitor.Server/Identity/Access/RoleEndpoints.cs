using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary><c>/v1/admin/permissions</c> and <c>/v1/admin/roles</c>: what can be allowed, and in which sets.</summary>
internal static class RoleEndpoints
{
    private const int OwnRolesMax = 100;
    private const int PermissionsMax = 100;
    private const int DescriptionCharactersMax = 200;

    private static readonly Dictionary<string, string> s_descriptions = new()
    {
        [RolePermissions.Operator] = "Runs the platform: makes enterprises, sees nobody's usage",
        [RolePermissions.EnterpriseAdmin] = "Administers the enterprise",
        [RolePermissions.Analyst] = "Reads the numbers",
        [RolePermissions.Auditor] = "Sees who may do what and what was done, and changes nothing",
        [RolePermissions.Employee] = "Sees what is recorded of themselves",
    };

    public static IEndpointRouteBuilder MapRoleEndpoints(this IEndpointRouteBuilder routes)
    {
        routes
            .MapGet("/v1/admin/permissions", ListPermissionsAsync)
            .RequirePermission(Permissions.RolesRead)
            .WithTags("Roles")
            .WithName("ListPermissions")
            .WithSummary("Lists what can be allowed")
            .Produces<IReadOnlyList<PermissionSummary>>();
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/roles").WithTags("Roles");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.RolesRead)
            .WithName("ListRoles")
            .WithSummary("Lists the built-in roles and the enterprise's own")
            .Produces<IReadOnlyList<RoleSummary>>();
        group
            .MapPost("", CreateAsync)
            .RequirePermission(Permissions.RolesWrite)
            .WithName("CreateRole")
            .WithSummary("Makes a role of permissions that the caller has")
            .Produces<RoleSummary>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapGet("/{roleName}", GetAsync)
            .RequirePermission(Permissions.RolesRead)
            .WithName("GetRole")
            .WithSummary("Tells what a role permits")
            .Produces<RoleSummary>()
            .ProducesProblem(404);
        group
            .MapPut("/{roleName}", ChangeAsync)
            .RequirePermission(Permissions.RolesWrite)
            .WithName("ChangeRole")
            .WithSummary("Replaces what a role permits: within a second for everybody who has it")
            .Produces<RoleSummary>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete("/{roleName}", DeleteAsync)
            .RequirePermission(Permissions.RolesWrite)
            .WithName("DeleteRole")
            .WithSummary("Deletes a role that nobody has")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
        return routes;
    }

    private const string ReadPermissions = "SELECT permission, description FROM permissions ORDER BY permission";

    private static async Task<IReadOnlyList<PermissionSummary>> ListPermissionsAsync(
        Database database,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        var listed = new List<PermissionSummary>();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await using NpgsqlCommand command = transaction.Command(ReadPermissions);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            listed.Add(new PermissionSummary(reader.GetString(0), reader.GetString(1)));
        }

        return listed;
    }

    private static async Task<IReadOnlyList<RoleSummary>> ListAsync(
        Database database,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        return
        [
            .. RolePermissions
                .BuiltIn.Keys.Where(name => RoleGrants.IsOf(enterpriseId, name))
                .Order(StringComparer.Ordinal)
                .Select(BuiltIn),
            .. await OwnRoles.ListAsync(transaction, enterpriseId, cancellationToken),
        ];
    }

    private static async Task<IResult> GetAsync(
        string roleName,
        Database database,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        if (RoleGrants.BuiltIn(roleName) is { } builtIn && RoleGrants.IsOf(enterpriseId, builtIn))
        {
            return Results.Ok(BuiltIn(builtIn));
        }

        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        return
            await OwnRoles.FindAsync(transaction, enterpriseId, roleName, forChange: false, cancellationToken)
                is { } role
            ? Results.Ok(role)
            : NotFound;
    }

    private static async Task<IResult> CreateAsync(
        JsonBody<CreateRoleRequest> body,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        string name = body.Value.Name?.Trim() ?? "";
        if (!RoleNames.IsValid(name))
        {
            string wrong = $"name must have 1 to {RoleNames.CharactersMax} letters, digits, spaces, - and _.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        if (RoleGrants.BuiltIn(name) is { } builtIn)
        {
            return Problems.Problem(409, "built_in_role", $"{builtIn} is a built-in role; choose another name.");
        }

        Caller caller = context.GetCaller();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        (RoleSummary? role, IResult? refused) = await CheckAsync(
            transaction,
            name,
            body.Value.Description,
            body.Value.Permissions,
            time,
            cancellationToken
        );
        if (refused is not null)
        {
            return refused;
        }

        if (RoleGrants.FirstBeyond(caller, role!.Permissions) is { } beyond)
        {
            return RoleGrants.Beyond(beyond);
        }

        await LastAdmin.TakeTurnAsync(transaction, caller.EnterpriseId, cancellationToken); // the count is true until commit
        if (await OwnRoles.CountAsync(transaction, caller.EnterpriseId, cancellationToken) >= OwnRolesMax)
        {
            return Problems.Problem(
                409,
                "too_many_roles",
                $"An enterprise has {OwnRolesMax} roles of its own at most."
            );
        }

        if (!await OwnRoles.InsertAsync(transaction, caller.EnterpriseId, role, cancellationToken))
        {
            return Problems.Problem(
                409,
                "role_exists",
                "There is a role of that name; names differ in more than case."
            );
        }

        transaction.Audit("role.created", "role", role.Name, after: role);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.Created($"/v1/admin/roles/{Uri.EscapeDataString(name)}", role);
    }

    private static async Task<IResult> ChangeAsync(
        string roleName,
        JsonBody<ChangeRoleRequest> body,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (RoleGrants.BuiltIn(roleName) is { } builtIn)
        {
            return CannotChange(context.GetCaller().EnterpriseId, builtIn);
        }

        Caller caller = context.GetCaller();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        if (
            await OwnRoles.FindAsync(transaction, caller.EnterpriseId, roleName, forChange: true, cancellationToken)
            is not { } before
        )
        {
            return NotFound;
        }

        (RoleSummary? after, IResult? refused) = await CheckAsync(
            transaction,
            before.Name,
            body.Value.Description,
            body.Value.Permissions,
            time,
            cancellationToken
        );
        if (refused is not null)
        {
            return refused;
        }

        var changed = before.Permissions.ToHashSet(StringComparer.Ordinal);
        changed.SymmetricExceptWith(after!.Permissions);
        if (RoleGrants.FirstBeyond(caller, changed) is { } beyond)
        {
            return RoleGrants.Beyond(beyond);
        }

        await OwnRoles.ReplaceAsync(transaction, caller.EnterpriseId, after, cancellationToken);
        transaction.Audit("role.changed", "role", after.Name, before, after);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.Ok(after);
    }

    private static async Task<IResult> DeleteAsync(
        string roleName,
        Database database,
        IdentityVersion version,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        if (RoleGrants.BuiltIn(roleName) is { } builtIn)
        {
            return CannotChange(caller.EnterpriseId, builtIn);
        }

        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        if (
            await OwnRoles.FindAsync(transaction, caller.EnterpriseId, roleName, forChange: true, cancellationToken)
            is not { } role
        )
        {
            return NotFound;
        }

        if (RoleGrants.FirstBeyond(caller, role.Permissions) is { } beyond)
        {
            return RoleGrants.Beyond(beyond);
        }

        (long people, long groups) = await OwnRoles.UsesAsync(
            transaction,
            caller.EnterpriseId,
            role.Name,
            cancellationToken
        );
        if (people + groups > 0)
        {
            string detail = $"{people} people and {groups} groups have the role. Take it from them first.";
            return Problems.Problem(409, "role_in_use", detail);
        }

        await OwnRoles.DeleteAsync(transaction, caller.EnterpriseId, role.Name, cancellationToken);
        transaction.Audit("role.deleted", "role", role.Name, role);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    private const string FindUnknown = """
        SELECT asked FROM unnest($1::text[]) AS asked WHERE asked NOT IN (SELECT permission FROM permissions) LIMIT 1
        """;

    private static async Task<(RoleSummary? Role, IResult? Refused)> CheckAsync(
        ScopedTransaction transaction,
        string name,
        string? description,
        IReadOnlyList<string>? permissions,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        string text = description?.Trim() ?? "";
        if (text.Length > DescriptionCharactersMax || text.Any(char.IsControl))
        {
            string wrong =
                $"description may have {DescriptionCharactersMax} characters, none of them a control character.";
            return (null, Problems.Problem(400, "invalid_request", wrong));
        }

        string[] asked = [.. (permissions ?? []).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        if (permissions is null || asked.Length > PermissionsMax || asked.Any(permission => permission is null))
        {
            return (
                null,
                Problems.Problem(400, "invalid_request", "permissions must be a list of names of permissions.")
            );
        }

        await using NpgsqlCommand command = transaction.Command(FindUnknown, [asked]);
        if (await command.ExecuteScalarAsync(cancellationToken) is not null)
        {
            string wrong = "permissions has one that does not exist; see /v1/admin/permissions.";
            return (null, Problems.Problem(400, "unknown_permission", wrong));
        }

        return (new RoleSummary(name, text, false, asked, time.GetUtcNow()), null);
    }

    private static RoleSummary BuiltIn(string name) =>
        new(name, s_descriptions[name], true, [.. RolePermissions.BuiltIn[name].Order(StringComparer.Ordinal)], null);

    private static IResult CannotChange(Guid enterpriseId, string builtIn) =>
        RoleGrants.IsOf(enterpriseId, builtIn)
            ? Problems.Problem(409, "built_in_role", $"{builtIn} is a built-in role and stays as it is.")
            : NotFound;

    private static IResult NotFound => Problems.Problem(404, "not_found", "Your enterprise has no such role.");
}
