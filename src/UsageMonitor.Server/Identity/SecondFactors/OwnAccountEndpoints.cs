using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary><c>/v1/me</c>: what people see and change of their own account.</summary>
internal static class OwnAccountEndpoints
{
    public const int DisplayNameCharactersMax = 100;

    public static IEndpointRouteBuilder MapOwnAccountEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/me")
            .WithTags("Own account")
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapGet("", ReadAsync)
            .RequirePermission(Permissions.SettingUp)
            .WithName("ReadMe")
            .WithSummary("Who is signed in")
            .Produces<MeResponse>();
        group
            .MapPut("", ChangeAsync)
            .RequirePermission(Permissions.Person)
            .WithName("ChangeMe")
            .WithSummary("Changes one's own display name")
            .Produces(204)
            .ProducesProblem(400);
        group
            .MapPut("/password", ChangePasswordAsync)
            .RequirePermission(Permissions.Person)
            .WithName("ChangePassword")
            .WithSummary("Changes one's own password and ends all other sessions")
            .Produces(204)
            .ProducesProblem(400)
            .ProducesProblem(409)
            .ProducesProblem(422)
            .ProducesProblem(429);
        group
            .MapGet("/sessions", ListSessionsAsync)
            .RequirePermission(Permissions.Person)
            .WithName("ListMySessions")
            .WithSummary("Where one is signed in, newest first")
            .Produces<SessionsResponse>()
            .ProducesProblem(400);
        group
            .MapDelete("/sessions/{sessionId:guid}", EndSessionAsync)
            .RequirePermission(Permissions.Person)
            .WithName("EndMySession")
            .WithSummary("Ends one of one's own sessions: within a second no instance accepts it")
            .Produces(204)
            .ProducesProblem(404);
        group
            .MapDelete("/sessions", EndOtherSessionsAsync)
            .RequirePermission(Permissions.Person)
            .WithName("EndMyOtherSessions")
            .WithSummary("Ends all of one's own sessions but this one")
            .Produces<EndedSessionsResponse>();
        return routes;
    }

    private const string ReadUser = """
        SELECT display_name, password_hash IS NOT NULL, password_changed_at FROM users
        WHERE enterprise_id = $1 AND user_id = $2
        """;

    internal static async Task<MeResponse> ReadAsync(
        Database database,
        EnterpriseDirectory enterprises,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        Guid userId = caller.UserId!.Value;
        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        ResolvedRoles roles = await RoleResolver.ResolveAsync(own, caller.EnterpriseId, userId, cancellationToken);
        await using NpgsqlCommand command = own.Command(ReadUser, caller.EnterpriseId, userId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        return new MeResponse(
            userId,
            caller.Email!,
            reader.IsDBNull(0)
                ? null
                : Users.OpenDisplayName(enterprise.DataKey, caller.EnterpriseId, reader.GetFieldValue<byte[]>(0)),
            caller.EnterpriseId == Guid.Empty ? null : caller.EnterpriseId,
            enterprise.Name,
            roles.Names,
            reader.GetBoolean(1),
            reader.IsDBNull(2) ? null : reader.GetFieldValue<DateTimeOffset>(2),
            caller.SessionId!.Value,
            !caller.May(Permissions.Person)
        );
    }

    private const string ChangeName = """
        UPDATE users SET display_name = $3, updated_at = $4 WHERE enterprise_id = $1 AND user_id = $2
        """;

    internal static async Task<IResult> ChangeAsync(
        JsonBody<ChangeMeRequest> body,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        string? name = body.Value.DisplayName?.Trim();
        if (name is { Length: 0 or > DisplayNameCharactersMax } || name?.Any(char.IsControl) == true)
        {
            string wrong =
                $"displayName must have 1 to {DisplayNameCharactersMax} characters, none a control character.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        Caller caller = context.GetCaller();
        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(
            ChangeName,
            caller.EnterpriseId,
            caller.UserId,
            name is null ? null : Users.SealDisplayName(enterprise.DataKey, caller.EnterpriseId, name),
            time.GetUtcNow()
        );
        command.Parameters[2].NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Bytea;
        await command.ExecuteNonQueryAsync(cancellationToken);
        own.Audit("account.renamed", "user", caller.UserId);
        await own.CommitAsync(cancellationToken);
        return Results.NoContent();
    }

    // Only over the password that was checked: of two changes at once the second finds another.
    private const string ChangeHash = """
        UPDATE users SET password_hash = $4, password_changed_at = $5, updated_at = $5
        WHERE enterprise_id = $1 AND user_id = $2 AND password_hash = $3
        """;

    internal static async Task<IResult> ChangePasswordAsync(
        JsonBody<ChangePasswordRequest> body,
        Database database,
        EnterpriseDirectory enterprises,
        Passwords passwords,
        RecentProof proof,
        AccountNotices notices,
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

        if (string.IsNullOrEmpty(body.Value.Current) || string.IsNullOrEmpty(body.Value.New))
        {
            return Problems.Problem(400, "invalid_request", "current and new are required.");
        }

        if (body.Value.New == body.Value.Current)
        {
            return Problems.Problem(400, "weak_password", "The new password must not be the one until now.");
        }

        Caller caller = context.GetCaller();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        var about = new PasswordContext(caller.Email, null, enterprise.Name);
        if (PasswordRules.WhatIsWrong(body.Value.New, about) is { } wrong)
        {
            return Problems.Problem(400, "weak_password", wrong);
        }

        (_, string? hash) = await proof.ReadAsync(caller, cancellationToken);
        if (hash is null)
        {
            return Problems.Problem(409, "no_password", "You have no password here: you sign in elsewhere.");
        }

        if (await proof.CountAsync(caller, cancellationToken) is not { } attempt)
        {
            return RecentProof.TooMany(context);
        }

        if (await passwords.VerifyAsync(hash, body.Value.Current, cancellationToken) == PasswordCheck.Wrong)
        {
            return WrongPassword();
        }

        string newHash = await passwords.OnACoreAsync(() => passwords.Hash(body.Value.New), cancellationToken);
        DateTimeOffset now = time.GetUtcNow();
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        object?[] parameters = [caller.EnterpriseId, caller.UserId, hash, newHash, now];
        if (await own.ExecuteAsync(ChangeHash, parameters, cancellationToken) == 0)
        {
            return WrongPassword();
        }

        await ProofLimit.SucceededAsync(own, attempt, cancellationToken);
        await OwnSessions.EndOthersAsync(own, caller, now, cancellationToken);
        await notices.SendAsync(own, enterprise, caller.Email!, AccountNotices.PasswordChanged, cancellationToken);
        own.Audit("password.changed", "user", caller.UserId);
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    private static IResult WrongPassword() =>
        Problems.Problem(422, "wrong_password", "The password until now is not right.");

    private static async Task<IResult> ListSessionsAsync(
        int? limit,
        string? after,
        OwnSessions sessions,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        int listed = limit ?? OwnSessions.ListedDefault;
        return
            listed is >= 1 and <= OwnSessions.ListedMax
            && await sessions.ListAsync(context.GetCaller(), listed, after, cancellationToken) is { } page
            ? Results.Ok(page)
            : Problems.Problem(
                400,
                "invalid_request",
                $"limit must be 1 to {OwnSessions.ListedMax}, and after what an answer's next was."
            );
    }

    private static async Task<IResult> EndSessionAsync(
        Guid sessionId,
        OwnSessions sessions,
        HttpContext context,
        CancellationToken cancellationToken
    ) =>
        await sessions.TryEndAsync(context.GetCaller(), sessionId, cancellationToken)
            ? Results.NoContent()
            : Problems.Problem(404, "not_found", "You have no such session.");

    private static async Task<EndedSessionsResponse> EndOtherSessionsAsync(
        OwnSessions sessions,
        HttpContext context,
        CancellationToken cancellationToken
    ) => new(await sessions.EndOthersAsync(context.GetCaller(), cancellationToken));
}
