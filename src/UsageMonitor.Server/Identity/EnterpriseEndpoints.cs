using System.Diagnostics.CodeAnalysis;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary><c>/v1/platform/enterprises</c>: what the platform's operator does.</summary>
internal static class EnterpriseEndpoints
{
    private const int NameCharactersMax = 200;
    public const int LimitMax = 1_000;

    public static IEndpointRouteBuilder MapEnterpriseEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/platform/enterprises")
            .RequirePermission(Permissions.EnterprisesWrite)
            .WithTags("Platform");
        group
            .MapPost("", CreateAsync)
            .WithName("CreateEnterprise")
            .WithSummary("Makes an enterprise and its first admin")
            .Produces<CreateEnterpriseResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(409);
        group
            .MapGet("", ListPageAsync)
            .WithName("ListEnterprises")
            .WithSummary("Lists the enterprises by name, page by page; the header Link has the next page")
            .Produces<IReadOnlyList<EnterpriseSummary>>()
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPut("/{enterpriseId:guid}", UpdateAsync)
            .WithName("UpdateEnterprise")
            .WithSummary(
                "Names, suspends or resumes an enterprise; suspended, all its credentials are refused within a second"
            )
            .Produces<EnterpriseSummary>()
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        return routes;
    }

    internal static async Task<IResult> CreateAsync(
        JsonBody<CreateEnterpriseRequest> body,
        Database database,
        Enterprises enterprises,
        Users users,
        Passwords passwords,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (WhatIsWrong(body.Value, out string name, out string timeZone, out string email) is { } wrong)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        string? temporaryPassword = body.Value.AdminPassword is null ? Passwords.Generate() : null;
        string password = body.Value.AdminPassword ?? temporaryPassword!;
        Guid enterpriseId = Guid.NewGuid();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        byte[] dataKey = await enterprises.InsertAsync(transaction, enterpriseId, name, timeZone, cancellationToken);
        Guid userId;
        try
        {
            userId = await users.AddAsync(
                transaction,
                enterpriseId,
                dataKey,
                new NewPerson(email, null, passwords.Hash(password), [RolePermissions.EnterpriseAdmin]),
                cancellationToken
            );
        }
        catch (EmailTakenException)
        {
            return Problems.Problem(409, "email_taken", "adminEmail signs in already; choose another.");
        }

        transaction.Audit(
            "enterprise.created",
            "enterprise",
            enterpriseId,
            after: new
            {
                name,
                timeZone,
                adminId = userId,
            }
        );
        await version.CommitAsync(transaction, cancellationToken);
        return Results.Created(
            $"/v1/platform/enterprises/{enterpriseId}",
            new CreateEnterpriseResponse(enterpriseId, new CreatedAdmin(userId, email, temporaryPassword))
        );
    }

    private static string? WhatIsWrong(
        CreateEnterpriseRequest request,
        out string name,
        out string timeZone,
        out string email
    )
    {
        name = request.Name?.Trim() ?? "";
        timeZone = request.TimeZone ?? "";
        bool isAddress = EmailAddress.TryNormalize(request.AdminEmail, out string? normalized);
        email = normalized ?? "";
        return !IsName(name, out string? wrongName) ? wrongName
            : !IsIanaTimeZone(timeZone) ? "timeZone must be an IANA time zone such as Asia/Kolkata."
            : !isAddress ? $"adminEmail must be an e-mail address of at most {EmailAddress.CharactersMax} characters."
            : request.AdminPassword is { } password
            && PasswordRules.WhatIsWrong(password, new PasswordContext(email, null, name)) is { } wrong
                ? $"adminPassword {wrong}"
            : null;
    }

    // Windows' own names are found too on every system, but PostgreSQL and other readers of the column know only IANA's.
    private static bool IsIanaTimeZone(string id) =>
        id.Length is > 0 and <= 64
        && TimeZoneInfo.TryFindSystemTimeZoneById(id, out TimeZoneInfo? zone)
        && zone.HasIanaId
        && (id == "UTC" || !TimeZoneInfo.TryConvertWindowsIdToIanaId(id, out _)); // both call that one UTC

    private const string LockEnterprise = """
        SELECT enterprise_id, name, time_zone, status, created_at FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE
        """;

    private const string UpdateEnterprise = """
        UPDATE enterprises SET name = $2, status = $3 WHERE enterprise_id = $1
        RETURNING enterprise_id, name, time_zone, status, created_at
        """;

    /// <remarks>The operator's is the one act whose enterprise is named by the address: their own is the platform.</remarks>
    internal static async Task<IResult> UpdateAsync(
        Guid enterpriseId,
        JsonBody<UpdateEnterpriseRequest> body,
        Database database,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (!IsName(body.Value.Name?.Trim() ?? "", out string? wrong))
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        if (body.Value.Status is not (EnterpriseInfo.Active or EnterpriseInfo.Suspended))
        {
            wrong = $"status must be {EnterpriseInfo.Active} or {EnterpriseInfo.Suspended}.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        // The platform itself is no enterprise: suspended, nobody could resume anything.
        EnterpriseSummary? updated = null;
        if (enterpriseId != Guid.Empty)
        {
            await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
            EnterpriseSummary? before;
            await using (NpgsqlCommand command = own.Command(LockEnterprise, enterpriseId))
            {
                await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
                before = await reader.ReadAsync(cancellationToken) ? Read(reader) : null;
            }

            object?[] row = [enterpriseId, body.Value.Name!.Trim(), body.Value.Status];
            await using (NpgsqlCommand command = own.Command(UpdateEnterprise, row))
            {
                await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
                updated = await reader.ReadAsync(cancellationToken) ? Read(reader) : null;
            }

            if (updated is not null)
            {
                own.Audit("enterprise.changed", "enterprise", enterpriseId, before, after: updated);
                await version.CommitAsync(own, cancellationToken);
            }
        }

        return updated is null
            ? Problems.Problem(404, "not_found", "There is no such enterprise.")
            : Results.Ok(updated);
    }

    private const string ReadEnterprises = """
        SELECT enterprise_id, name, time_zone, status, created_at FROM enterprises
        WHERE enterprise_id <> $1 AND ($2::text IS NULL OR (name, enterprise_id) > ($2, $3::uuid))
        ORDER BY name, enterprise_id LIMIT $4
        """;

    private static async Task<IResult> ListPageAsync(
        Database database,
        HttpContext context,
        CancellationToken cancellationToken,
        string? cursor = null,
        int limit = LimitMax
    )
    {
        PageCursor? after = null;
        if (limit is < 1 or > LimitMax || (cursor is not null && !PageCursor.TryParse(cursor, out after)))
        {
            string wrong = $"limit must be 1 to {LimitMax}, and cursor that of the page before's Link.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        (IReadOnlyList<EnterpriseSummary> listed, string? next) = await ListAsync(
            database,
            after,
            limit,
            cancellationToken
        );
        if (next is not null)
        {
            // RFC 8288.
            string address = $"{context.Request.PathBase}{context.Request.Path}?limit={limit}&cursor={next}";
            context.Response.Headers.Link = $"<{address}>; rel=\"next\"";
        }

        return Results.Ok(listed);
    }

    /// <summary>A page of the list, and the cursor of the next or null.</summary>
    internal static async Task<(IReadOnlyList<EnterpriseSummary> Listed, string? Next)> ListAsync(
        Database database,
        PageCursor? after,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var listed = new List<EnterpriseSummary>();
        await using ScopedTransaction transaction = await database.OpenPlatformAsync(cancellationToken);
        object?[] parameters = [Guid.Empty, after?.Key, after?.Id, limit + 1];
        await using NpgsqlCommand command = transaction.Command(ReadEnterprises, parameters);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            listed.Add(Read(reader));
        }

        // One more was asked for, only to know whether there is a next page.
        if (listed.Count <= limit)
        {
            return (listed, null);
        }

        listed.RemoveAt(limit);
        return (listed, new PageCursor(listed[^1].Name, listed[^1].EnterpriseId).ToString());
    }

    private static EnterpriseSummary Read(NpgsqlDataReader reader) =>
        new(
            reader.GetGuid(0),
            reader.GetString(1),
            reader.GetString(2),
            reader.GetString(3),
            reader.GetFieldValue<DateTimeOffset>(4)
        );

    private static bool IsName(string name, [NotNullWhen(false)] out string? wrong)
    {
        bool isName = name.Length is > 0 and <= NameCharactersMax && !name.Any(char.IsControl);
        wrong = isName
            ? null
            : $"name must have 1 to {NameCharactersMax} characters, none of them a control character.";
        return isName;
    }
}
