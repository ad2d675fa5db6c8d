using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary>
/// <c>/v1/admin/groups/{groupId}/members</c>. To be in a group is to have its roles, so that whoever adds or removes a
/// member must have what these permit.
/// </summary>
internal static class GroupMemberEndpoints
{
    public static IEndpointRouteBuilder MapGroupMemberEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/groups/{groupId:guid}/members").WithTags("Groups");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.PeopleRead)
            .WithName("ListGroupMembers")
            .WithSummary("Lists the people in a group")
            .Produces<GroupMembersResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404);
        group
            .MapPut("/{userId:guid}", AddAsync)
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("AddGroupMember")
            .WithSummary("Puts a person into a group")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete("/{userId:guid}", RemoveAsync)
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("RemoveGroupMember")
            .WithSummary("Takes a person out of a group")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
        return routes;
    }

    private static async Task<IResult> ListAsync(
        Guid groupId,
        int? limit,
        string? after,
        Database database,
        EnterpriseDirectory enterprises,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (Paging.Refuse(limit) is { } refused)
        {
            return refused;
        }

        Guid afterUser = Guid.Empty;
        if (!Paging.TryRead(after, out string? key) || (key is not null && !Guid.TryParse(key, out afterUser)))
        {
            return Paging.UnknownCursor;
        }

        int count = limit ?? Paging.LimitDefault;
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        EnterpriseInfo enterprise = (await enterprises.FindAsync(enterpriseId, cancellationToken))!;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (await Groups.FindAsync(transaction, enterpriseId, groupId, cancellationToken) is null)
        {
            return GroupEndpoints.NotFound;
        }

        List<GroupMember> members = await Groups.MembersAsync(
            transaction,
            enterprise,
            groupId,
            afterUser,
            count + 1,
            cancellationToken
        );
        return Results.Ok(
            members.Count <= count
                ? new GroupMembersResponse(members, null)
                : new GroupMembersResponse(members[..count], Paging.Cursor(members[count - 1].UserId.ToString()))
        );
    }

    private static Task<IResult> AddAsync(
        Guid groupId,
        Guid userId,
        Database database,
        IdentityVersion version,
        HttpContext context,
        CancellationToken cancellationToken
    ) => ChangeAsync(groupId, userId, adds: true, database, version, context, cancellationToken);

    private static Task<IResult> RemoveAsync(
        Guid groupId,
        Guid userId,
        Database database,
        IdentityVersion version,
        HttpContext context,
        CancellationToken cancellationToken
    ) => ChangeAsync(groupId, userId, adds: false, database, version, context, cancellationToken);

    private static async Task<IResult> ChangeAsync(
        Guid groupId,
        Guid userId,
        bool adds,
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
        if (await Groups.LockAsync(transaction, enterpriseId, groupId, cancellationToken) is not { } group)
        {
            return GroupEndpoints.NotFound;
        }

        if (!await Groups.ArePeopleAsync(transaction, enterpriseId, [userId], cancellationToken))
        {
            return Problems.Problem(404, "not_found", "Your enterprise has no such person.");
        }

        if (group.Provisioned)
        {
            return GroupEndpoints.ProvisionedGroup;
        }

        if (await RoleGrants.RefuseAsync(transaction, caller, group.Roles, cancellationToken) is { } refused)
        {
            return refused;
        }

        if (adds)
        {
            if (group.Members >= Groups.MembersMax)
            {
                return Problems.Problem(409, "group_full", $"A group has {Groups.MembersMax} members at most.");
            }

            await Groups.AddAsync(transaction, enterpriseId, groupId, [userId], cancellationToken);
        }
        else
        {
            await Groups.RemoveAsync(transaction, enterpriseId, groupId, [userId], cancellationToken);
            if (await GroupEndpoints.TakesLastAdminAsync(transaction, enterpriseId, group.Roles, cancellationToken))
            {
                return GroupEndpoints.NoAdminLeft;
            }
        }

        transaction.Audit(
            adds ? "group.member_added" : "group.member_removed",
            "group",
            groupId,
            after: new { userId }
        );
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }
}
