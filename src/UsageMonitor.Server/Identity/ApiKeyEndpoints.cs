using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary><c>/v1/admin/api-keys</c>: the keys with which an enterprise's programs call.</summary>
internal static class ApiKeyEndpoints
{
    private const int NameCharactersMax = 100;
    private const int ListedMax = 1_000;

    public static IEndpointRouteBuilder MapApiKeyEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/admin/api-keys")
            .RequirePermission(Permissions.ApiKeysWrite)
            .WithTags("API keys");
        group
            .MapPost("", CreateAsync)
            .WithName("CreateApiKey")
            .WithSummary("Makes an API key; the answer is the only time it is shown")
            .Produces<CreateApiKeyResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapGet("", ListAsync)
            .WithName("ListApiKeys")
            .WithSummary("Lists the API keys, newest first, the revoked ones too")
            .Produces<IReadOnlyList<ApiKeySummary>>()
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapDelete("/{id:guid}", RevokeAsync)
            .WithName("RevokeApiKey")
            .WithSummary("Revokes an API key: within a second no instance accepts it")
            .Produces(204)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        return routes;
    }

    private const string InsertApiKey = """
        INSERT INTO api_keys (enterprise_id, api_key_id, name, key_hash, scopes, created_by, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """;

    internal static async Task<IResult> CreateAsync(
        JsonBody<CreateApiKeyRequest> body,
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
        string[] scopes = [.. (body.Value.Scopes ?? []).Distinct(StringComparer.Ordinal)];
        if (name.Length is 0 or > NameCharactersMax || name.Any(char.IsControl))
        {
            string wrong = $"name must have 1 to {NameCharactersMax} characters, none of them a control character.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        if (scopes.Length == 0 || !scopes.All(RolePermissions.Scopes.Contains))
        {
            string known = string.Join(", ", RolePermissions.Scopes.Order(StringComparer.Ordinal));
            return Problems.Problem(400, "invalid_request", $"scopes must be one or more of {known}.");
        }

        Caller caller = context.GetCaller();
        Guid apiKeyId = Guid.NewGuid();
        string apiKey = ApiKeyFormat.Generate();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        await transaction.ExecuteAsync(
            InsertApiKey,
            [
                caller.EnterpriseId,
                apiKeyId,
                name,
                Sessions.HashOf(apiKey),
                scopes,
                caller.UserId ?? caller.ApiKeyId,
                time.GetUtcNow(),
            ],
            cancellationToken
        );
        await version.CommitAsync(transaction, cancellationToken);
        context.Response.Headers.CacheControl = "no-store";
        return Results.Created($"/v1/admin/api-keys/{apiKeyId}", new CreateApiKeyResponse(apiKeyId, apiKey));
    }

    private const string ReadApiKeys = """
        SELECT api_key_id, name, scopes, created_at, revoked_at FROM api_keys
        WHERE enterprise_id = $1 ORDER BY created_at DESC, api_key_id LIMIT $2
        """;

    internal static async Task<IReadOnlyList<ApiKeySummary>> ListAsync(
        Database database,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        var listed = new List<ApiKeySummary>();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await using NpgsqlCommand command = transaction.Command(ReadApiKeys, enterpriseId, ListedMax);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            listed.Add(
                new ApiKeySummary(
                    reader.GetGuid(0),
                    reader.GetString(1),
                    reader.GetFieldValue<string[]>(2),
                    reader.GetFieldValue<DateTimeOffset>(3),
                    reader.IsDBNull(4) ? null : reader.GetFieldValue<DateTimeOffset>(4)
                )
            );
        }

        return listed;
    }

    // Keeps the first instant, so that revoking twice is answered alike and changes nothing.
    private const string RevokeApiKey = """
        UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE enterprise_id = $1 AND api_key_id = $2
        """;

    internal static async Task<IResult> RevokeAsync(
        Guid id,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        object?[] parameters = [enterpriseId, id, time.GetUtcNow()];
        if (await transaction.ExecuteAsync(RevokeApiKey, parameters, cancellationToken) == 0)
        {
            return Problems.Problem(404, "not_found", "Your enterprise has no such API key.");
        }

        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }
}
