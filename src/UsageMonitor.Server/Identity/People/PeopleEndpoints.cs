using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary><c>/v1/admin/users</c>: the people of an enterprise who sign in, for those who administer them.</summary>
internal static class PeopleEndpoints
{
    public static IEndpointRouteBuilder MapPeopleEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/users").WithTags("People");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.PeopleRead)
            .WithName("ListUsers")
            .WithSummary("Lists the people who sign in or are invited to, oldest first, page by page")
            .Produces<UserPage>()
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPost(
                "",
                (
                    JsonBody<InviteUserRequest> body,
                    Invitations invitations,
                    HttpContext context,
                    CancellationToken cancellationToken
                ) => WithBody(body, request => invitations.InviteAsync(context, request, cancellationToken))
            )
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("InviteUser")
            .WithSummary("Invites a person by mail; without mail the answer has the link")
            .Produces<SentLinkResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(409);
        group
            .MapGet("/{userId:guid}", FindAsync)
            .RequirePermission(Permissions.PeopleRead)
            .AuditedRead("person.read", "user")
            .WithName("GetUser")
            .WithSummary("Answers one person")
            .Produces<UserSummary>()
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        group
            .MapPut(
                "/{userId:guid}",
                (
                    Guid userId,
                    JsonBody<UpdateUserRequest> body,
                    PeopleChanges people,
                    HttpContext context,
                    CancellationToken cancellationToken
                ) => WithBody(body, request => people.UpdateAsync(context, userId, request, cancellationToken))
            )
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("UpdateUser")
            .WithSummary(
                "Sets a person's name, roles and whether they can sign in; effective everywhere within a second"
            )
            .Produces(204)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete(
                "/{userId:guid}",
                (Guid userId, PeopleChanges people, HttpContext context, CancellationToken cancellationToken) =>
                    people.RemoveAsync(context, userId, cancellationToken)
            )
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("RemoveUser")
            .WithSummary("Takes a person's sign-in away within a second; their usage stays")
            .Produces(204)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapPost(
                "/{userId:guid}/invitation",
                (Guid userId, Invitations invitations, HttpContext context, CancellationToken cancellationToken) =>
                    invitations.InviteAgainAsync(context, userId, cancellationToken)
            )
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("InviteUserAgain")
            .WithSummary("Sends the invitation anew; the earlier link ends")
            .Produces<SentLinkResponse>(202)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409)
            .ProducesProblem(429);
        group
            .MapPost(
                "/{userId:guid}/password-reset",
                (Guid userId, Invitations invitations, HttpContext context, CancellationToken cancellationToken) =>
                    invitations.SendResetAsync(context, userId, cancellationToken)
            )
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("SendUserPasswordReset")
            .WithSummary("Sends a person a link with which they choose a new password")
            .Produces<SentLinkResponse>(202)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409)
            .ProducesProblem(429);
        MapSessions(group.MapGroup("/{userId:guid}/sessions"));
        return routes;
    }

    private static void MapSessions(RouteGroupBuilder group)
    {
        group
            .MapGet("", SessionsAsync)
            .RequirePermission(Permissions.PeopleRead)
            .AuditedRead("person.sessions_read", "user")
            .WithName("ListUserSessions")
            .WithSummary("Lists a person's sign-ins that have not ended, newest first")
            .Produces<IReadOnlyList<UserSession>>()
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        group
            .MapDelete(
                "",
                (Guid userId, PeopleChanges people, HttpContext context, CancellationToken cancellationToken) =>
                    people.EndSessionsAsync(context, userId, sessionId: null, cancellationToken)
            )
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("EndUserSessions")
            .WithSummary("Signs a person out everywhere, within a second")
            .Produces(204)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        group
            .MapDelete(
                "/{sessionId:guid}",
                (
                    Guid userId,
                    Guid sessionId,
                    PeopleChanges people,
                    HttpContext context,
                    CancellationToken cancellationToken
                ) => people.EndSessionsAsync(context, userId, sessionId, cancellationToken)
            )
            .RequirePermission(Permissions.PeopleWrite)
            .WithName("EndUserSession")
            .WithSummary("Ends one sign-in of a person, within a second")
            .Produces(204)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
    }

    private static async Task<IResult> ListAsync(
        PeopleList people,
        HttpContext context,
        CancellationToken cancellationToken,
        string? email = null,
        string? role = null,
        string? cursor = null,
        int limit = PeopleQuery.LimitDefault
    )
    {
        PageCursor? after = null;
        if (limit is < 1 or > PeopleQuery.LimitMax || (cursor is not null && !PageCursor.TryParse(cursor, out after)))
        {
            string wrong = $"limit must be 1 to {PeopleQuery.LimitMax}, and cursor the \"next\" of the page before.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        if (role?.Any(char.IsControl) == true)
        {
            return Problems.Problem(400, "invalid_request", "role must be the name of a role.");
        }

        var query = new PeopleQuery(email, role, after, limit);
        return Results.Ok(await people.ReadAsync(context.GetCaller().EnterpriseId, query, cancellationToken));
    }

    private static async Task<IResult> FindAsync(
        Guid userId,
        PeopleList people,
        HttpContext context,
        CancellationToken cancellationToken
    ) =>
        await people.FindAsync(context.GetCaller().EnterpriseId, userId, cancellationToken) is { } person
            ? Results.Ok(person)
            : PeopleRules.NotFound;

    private static async Task<IResult> SessionsAsync(
        Guid userId,
        PeopleList people,
        HttpContext context,
        CancellationToken cancellationToken
    ) =>
        await people.SessionsAsync(context.GetCaller(), userId, cancellationToken) is { } sessions
            ? Results.Ok(sessions)
            : PeopleRules.NotFound;

    internal static async Task<IResult> WithBody<T>(JsonBody<T> body, Func<T, Task<IResult>> answer)
        where T : class => body.Problem ?? await answer(body.Value);
}
