using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary><c>/v1/platform/enterprises</c>: what the platform's operator does.</summary>
internal static class EnterpriseEndpoints
{
    private const int NameCharactersMax = 200;
    private const int ListedMax = 10_000;

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
            .MapGet("", ListAsync)
            .WithName("ListEnterprises")
            .WithSummary("Lists the enterprises by name")
            .Produces<IReadOnlyList<EnterpriseSummary>>()
            .ProducesProblem(401)
            .ProducesProblem(403);
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
        return name.Length is 0 or > NameCharactersMax || name.Any(char.IsControl)
                ? $"name must have 1 to {NameCharactersMax} characters, none of them a control character."
            : !IsIanaTimeZone(timeZone) ? "timeZone must be an IANA time zone such as Asia/Kolkata."
            : !isAddress ? $"adminEmail must be an e-mail address of at most {EmailAddress.CharactersMax} characters."
            : request.AdminPassword is { } password && !Passwords.IsAcceptable(password)
                ? $"adminPassword must have {Passwords.CharactersMin} to {Passwords.CharactersMax} characters."
            : null;
    }

    // Windows' own names are found too on every system, but PostgreSQL and other readers of the column know only IANA's.
    private static bool IsIanaTimeZone(string id) =>
        id.Length is > 0 and <= 64
        && TimeZoneInfo.TryFindSystemTimeZoneById(id, out TimeZoneInfo? zone)
        && zone.HasIanaId
        && (id == "UTC" || !TimeZoneInfo.TryConvertWindowsIdToIanaId(id, out _)); // both call that one UTC

    private const string ReadEnterprises = """
        SELECT enterprise_id, name, time_zone, status, created_at FROM enterprises
        WHERE enterprise_id <> $1 ORDER BY name, enterprise_id LIMIT $2
        """;

    internal static async Task<IReadOnlyList<EnterpriseSummary>> ListAsync(
        Database database,
        CancellationToken cancellationToken
    )
    {
        var listed = new List<EnterpriseSummary>();
        await using ScopedTransaction transaction = await database.OpenPlatformAsync(cancellationToken);
        await using NpgsqlCommand command = transaction.Command(ReadEnterprises, Guid.Empty, ListedMax);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            listed.Add(
                new EnterpriseSummary(
                    reader.GetGuid(0),
                    reader.GetString(1),
                    reader.GetString(2),
                    reader.GetString(3),
                    reader.GetFieldValue<DateTimeOffset>(4)
                )
            );
        }

        return listed;
    }
}
