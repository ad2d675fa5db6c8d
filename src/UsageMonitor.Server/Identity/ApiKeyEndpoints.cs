using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.Access;
using UsageMonitor.Server.Platform;
using IPNetwork = System.Net.IPNetwork;

namespace UsageMonitor.Server.Identity;

/// <summary><c>/v1/admin/api-keys</c>: the keys with which an enterprise's programs call.</summary>
internal static class ApiKeyEndpoints
{
    public const int OverlapHoursMax = 720;
    private const int NameCharactersMax = 100;
    private const int LifetimeYearsMax = 10;

    public static IEndpointRouteBuilder MapApiKeyEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/api-keys").WithTags("API keys");
        group
            .MapPost("", CreateAsync)
            .RequirePermission(Permissions.ApiKeysWrite)
            .WithName("CreateApiKey")
            .WithSummary("Makes an API key; the answer is the only time it is shown")
            .Produces<CreateApiKeyResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(409);
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.ApiKeysRead)
            .WithName("ListApiKeys")
            .WithSummary("Lists the API keys, newest first, also those that have ended")
            .Produces<ApiKeysResponse>()
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPut("/{id:guid}", ChangeAsync)
            .RequirePermission(Permissions.ApiKeysWrite)
            .WithName("ChangeApiKey")
            .WithSummary("Replaces an API key's name, expiry, networks and purpose")
            .Produces(204)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapPost("/{id:guid}/rotate", RotateAsync)
            .RequirePermission(Permissions.ApiKeysWrite)
            .WithName("RotateApiKey")
            .WithSummary("Makes a key in the place of another, which ends after an overlap")
            .Produces<CreateApiKeyResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete("/{id:guid}", RevokeAsync)
            .RequirePermission(Permissions.ApiKeysWrite)
            .WithName("RevokeApiKey")
            .WithSummary("Revokes an API key: within a second no instance accepts it")
            .Produces(204)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        return routes;
    }

    internal static async Task<IResult> CreateAsync(
        JsonBody<CreateApiKeyRequest> body,
        Database database,
        ApiKeys apiKeys,
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

        string[] scopes = [.. (body.Value.Scopes ?? []).Distinct(StringComparer.Ordinal)];
        if (scopes.Length == 0 || !scopes.All(scope => scope is not null && RolePermissions.Scopes.Contains(scope)))
        {
            string known = string.Join(", ", RolePermissions.Scopes.Order(StringComparer.Ordinal));
            return Problems.Problem(400, "invalid_request", $"scopes must be one or more of {known}.");
        }

        DateTimeOffset? expiresAt = body.Value.ExpiresAt;
        if (
            WhatIsWrong(
                body.Value.Name,
                expiresAt,
                body.Value.Networks,
                time,
                out string name,
                out IPNetwork[]? from
            ) is
            { } wrong
        )
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        if (ApiKeyPurpose.Read(body.Value.Purpose, body.Value.LegalBasis, out ApiKeyPurpose purpose) is { } unfit)
        {
            return Problems.Problem(400, "invalid_request", unfit);
        }

        Caller caller = context.GetCaller();
        if (ApiKeyScopes.FirstBeyond(caller, scopes) is { } beyond)
        {
            return Beyond(beyond);
        }

        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        var key = new NewApiKey(name, scopes, expiresAt?.ToUniversalTime(), from) { Purpose = purpose };
        if (await apiKeys.InsertAsync(transaction, caller, key, cancellationToken) is not { } made)
        {
            return TooMany;
        }

        transaction.Audit("api_key.created", "api_key", made.ApiKeyId, after: Told(key));
        await version.CommitAsync(transaction, cancellationToken);
        return Shown(context, made);
    }

    internal static async Task<IResult> ListAsync(
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

        if (!TryReadCursor(after, out (DateTimeOffset, Guid)? afterKey))
        {
            return Paging.UnknownCursor;
        }

        int count = limit ?? Paging.LimitDefault;
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        List<ApiKeySummary> keys = await ApiKeys.ListAsync(
            transaction,
            enterpriseId,
            afterKey,
            count + 1,
            cancellationToken
        );
        return Results.Ok(
            keys.Count <= count
                ? new ApiKeysResponse(keys, null)
                : new ApiKeysResponse(keys[..count], Cursor(keys[count - 1]))
        );
    }

    internal static async Task<IResult> ChangeAsync(
        Guid id,
        JsonBody<ChangeApiKeyRequest> body,
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

        DateTimeOffset? expiresAt = body.Value.ExpiresAt;
        if (
            WhatIsWrong(
                body.Value.Name,
                expiresAt,
                body.Value.Networks,
                time,
                out string name,
                out IPNetwork[]? from
            ) is
            { } wrong
        )
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        if (ApiKeyPurpose.Read(body.Value.Purpose, body.Value.LegalBasis, out ApiKeyPurpose purpose) is { } unfit)
        {
            return Problems.Problem(400, "invalid_request", unfit);
        }

        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (await ApiKeys.LockAsync(transaction, enterpriseId, id, cancellationToken) is not { } key)
        {
            return NotFound;
        }

        if (HasEnded(key, time.GetUtcNow()) is { } ended)
        {
            return ended;
        }

        var changed = new NewApiKey(name, [.. key.Scopes], expiresAt?.ToUniversalTime(), from) { Purpose = purpose };
        await ApiKeys.ChangeAsync(transaction, enterpriseId, id, changed, cancellationToken);
        transaction.Audit("api_key.changed", "api_key", id, before: key, after: Told(changed));
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    internal static async Task<IResult> RotateAsync(
        Guid id,
        JsonBody<RotateApiKeyRequest> body,
        Database database,
        ApiKeys apiKeys,
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

        int overlapHours = body.Value.OverlapHours;
        if (overlapHours is < 0 or > OverlapHoursMax)
        {
            return Problems.Problem(400, "invalid_request", $"overlapHours must be from 0 to {OverlapHoursMax}.");
        }

        Caller caller = context.GetCaller();
        Guid enterpriseId = caller.EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (await ApiKeys.LockAsync(transaction, enterpriseId, id, cancellationToken) is not { } old)
        {
            return NotFound;
        }

        DateTimeOffset now = time.GetUtcNow();
        if (HasEnded(old, now) is { } ended)
        {
            return ended;
        }

        // Whoever rotates a key holds one with its scopes afterwards.
        if (ApiKeyScopes.FirstBeyond(caller, old.Scopes) is { } beyond)
        {
            return Beyond(beyond);
        }

        ApiKeyNetworks.TryRead(old.Networks, out IPNetwork[]? from, out _);
        DateTimeOffset? expiresAt = old.ExpiresAt is { } end ? now + (end - old.CreatedAt) : null; // as long a life again
        var key = new NewApiKey(old.Name, [.. old.Scopes], expiresAt, from)
        {
            Purpose = new ApiKeyPurpose(old.Purpose, old.LegalBasis),
        };
        if (await apiKeys.InsertAsync(transaction, caller, key, cancellationToken) is not { } made)
        {
            return TooMany;
        }

        DateTimeOffset endsAt = now.AddHours(overlapHours);
        await ApiKeys.ReplaceAsync(transaction, enterpriseId, id, made.ApiKeyId, endsAt, cancellationToken);
        transaction.Audit("api_key.rotated", "api_key", id, after: new { replacedBy = made.ApiKeyId, endsAt });
        await version.CommitAsync(transaction, cancellationToken);
        return Shown(context, made);
    }

    internal static async Task<IResult> RevokeAsync(
        Guid id,
        Database database,
        ApiKeys apiKeys,
        IdentityVersion version,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (!await apiKeys.RevokeAsync(transaction, enterpriseId, id, cancellationToken))
        {
            return NotFound;
        }

        transaction.Audit("api_key.revoked", "api_key", id);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    private static string? WhatIsWrong(
        string? givenName,
        DateTimeOffset? expiresAt,
        IReadOnlyList<string>? givenNetworks,
        TimeProvider time,
        out string name,
        out IPNetwork[]? networks
    )
    {
        name = givenName?.Trim() ?? "";
        DateTimeOffset now = time.GetUtcNow();
        bool areNetworks = ApiKeyNetworks.TryRead(givenNetworks, out networks, out string wrongNetwork);
        return name.Length is 0 or > NameCharactersMax || name.Any(char.IsControl)
                ? $"name must have 1 to {NameCharactersMax} characters, none of them a control character."
            : expiresAt <= now || expiresAt > now.AddYears(LifetimeYearsMax)
                ? $"expiresAt must be in the future, {LifetimeYearsMax} years from now at most."
            : areNetworks ? null
            : wrongNetwork;
    }

    private static object Told(NewApiKey key) =>
        new
        {
            key.Name,
            key.Scopes,
            key.ExpiresAt,
            networks = key.Networks?.Select(network => network.ToString()),
            key.Purpose.Purpose,
            key.Purpose.LegalBasis,
        };

    private static IResult? HasEnded(ApiKeySummary key, DateTimeOffset now) =>
        key.RevokedAt is not null ? Problems.Problem(409, "api_key_revoked", "The key is revoked.")
        : key.ReplacedBy is not null ? Problems.Problem(409, "api_key_replaced", "Another key has taken its place.")
        : key.ExpiresAt <= now ? Problems.Problem(409, "api_key_expired", "The key has expired; make a new one.")
        : null;

    private static IResult Shown(HttpContext context, CreateApiKeyResponse made)
    {
        context.Response.Headers.CacheControl = "no-store";
        return Results.Created($"/v1/admin/api-keys/{made.ApiKeyId}", made);
    }

    private static string Cursor(ApiKeySummary last) =>
        Paging.Cursor(string.Create(CultureInfo.InvariantCulture, $"{last.CreatedAt.UtcTicks}:{last.ApiKeyId}"));

    private static bool TryReadCursor(string? cursor, out (DateTimeOffset, Guid)? after)
    {
        after = null;
        if (!Paging.TryRead(cursor, out string? key) || key is null)
        {
            return cursor is null;
        }

        string[] parts = key.Split(':');
        if (
            parts.Length != 2
            || !long.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out long ticks)
            || ticks > DateTimeOffset.MaxValue.UtcTicks
            || !Guid.TryParse(parts[1], out Guid apiKeyId)
        )
        {
            return false;
        }

        after = (new DateTimeOffset(ticks, TimeSpan.Zero), apiKeyId);
        return true;
    }

    private static IResult Beyond(string scope) =>
        Problems.Problem(403, "beyond_own_permissions", $"You may not give the scope {scope}.");

    private static IResult TooMany =>
        Problems.Problem(409, "too_many_api_keys", $"An enterprise has {ApiKeys.LiveMax} live keys at most.");

    private static IResult NotFound => Problems.Problem(404, "not_found", "Your enterprise has no such API key.");
}
