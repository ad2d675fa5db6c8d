using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary><c>/v1/admin/usage/limits</c>: how much may be used, what is used of it, and when it will be reached.</summary>
internal static class LimitEndpoints
{
    public static void MapLimitEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/usage/limits").WithTags("Limits");
        group
            .MapPost(
                "",
                (JsonBody<LimitRequest> body, HttpContext context, LimitWriter writer, CancellationToken cancel) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.CreateAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.LimitsWrite)
            .WithName("CreateLimit")
            .WithSummary("Makes a usage limit; within a second every instance obeys it")
            .WithDescription(
                "Of several limits with one action on the same feature, scope, role and window, one applies to a user: one that names "
                    + "the user before one for each, then one with an end before a lasting one, then the lowest. "
                    + "Limits on other features or windows hold as well."
            )
            .Produces<LimitResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.LimitsRead)
            .WithName("ListLimits")
            .WithSummary("Lists limits as they were made, with what is used of them and a forecast")
            .WithDescription(
                "At most 50 at once; go on with `after`. `feature` finds those that are about a feature, by its name or a beginning."
            )
            .Produces<LimitListResponse>()
            .ProducesProblem(400);
        group
            .MapGet("/{limitId:guid}", GetAsync)
            .RequirePermission(Permissions.LimitsRead)
            .WithName("GetLimit")
            .WithSummary("A limit with what is used of it, by whom, and when it will be reached")
            .Produces<LimitResponse>()
            .ProducesProblem(404);
        group
            .MapPut(
                "/{limitId:guid}",
                (
                    Guid limitId,
                    JsonBody<LimitRequest> body,
                    HttpContext context,
                    LimitWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.ChangeAsync(context.GetCaller(), limitId, body.Value, cancel)
            )
            .RequirePermission(Permissions.LimitsWrite)
            .WithName("ChangeLimit")
            .WithSummary("Changes a limit as a whole; every version is kept for those it refuses")
            .WithDescription(
                "With another value, action or span it goes on from what has been used. With another feature, scope, role or window it "
                    + "counts something else."
            )
            .Produces<LimitResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete(
                "/{limitId:guid}",
                (Guid limitId, HttpContext context, LimitWriter writer, CancellationToken cancel) =>
                    writer.DeleteAsync(context.GetCaller(), limitId, cancel)
            )
            .RequirePermission(Permissions.LimitsWrite)
            .WithName("DeleteLimit")
            .WithSummary("Ends a limit")
            .Produces(204)
            .ProducesProblem(404);
        group
            .MapGet("/{limitId:guid}/versions", ListVersionsAsync)
            .RequirePermission(Permissions.LimitsRead)
            .WithName("ListLimitVersions")
            .WithSummary("What a limit was and who changed it, the newest first; of one that has gone as well")
            .Produces<LimitVersionsResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404);
        group
            .MapGet("/settings", GetSettingsAsync)
            .RequirePermission(Permissions.LimitsRead)
            .WithName("GetLimitSettings")
            .WithSummary("Says what happens to usage that cannot be counted")
            .Produces<LimitSettings>();
        group
            .MapPut(
                "/settings",
                (JsonBody<LimitSettings> body, HttpContext context, LimitWriter writer, CancellationToken cancel) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.SetSettingsAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.LimitsWrite)
            .WithName("SetLimitSettings")
            .WithSummary(
                "Lets usage that cannot be counted through (OPEN) or refuses it (CLOSED), where a BLOCK limit is about it"
            )
            .Produces<LimitSettings>()
            .ProducesProblem(400);
        LimitBacktestEndpoint.Map(group);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        EnterpriseDirectory enterprises,
        LimitStates states,
        string? feature,
        string? scope,
        string? status,
        string? after,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("after", after, limit, out PageQuery page, LimitStates.LimitsMax) is { } problem)
        {
            return problem;
        }

        string? wrong =
            string.IsNullOrEmpty(feature) || EventText.Fault(feature, EventText.NameCharactersMax) is not { } fault
                ? !string.IsNullOrEmpty(scope) && LimitTerms.Scope(scope) is null
                    ? "scope: must be one of USER, ROLE, ENTERPRISE."
                    : !string.IsNullOrEmpty(status) && status is not (LimitTerms.Active or LimitTerms.Inactive)
                        ? "status: must be one of ACTIVE, INACTIVE."
                        : null
                : $"feature: {fault}.";
        return wrong is null
            ? Results.Ok(
                await ReadAsync(
                    context,
                    enterprises,
                    states,
                    new LimitFilter(
                        string.IsNullOrEmpty(feature) ? null : feature,
                        LimitTerms.Scope(scope),
                        string.IsNullOrEmpty(status) ? null : status
                    ),
                    page,
                    cancellationToken
                )
            )
            : Problems.Problem(400, "invalid_request", wrong);
    }

    /// <summary>A page of the limits; also the web page's.</summary>
    internal static async Task<LimitListResponse> ReadAsync(
        HttpContext context,
        EnterpriseDirectory enterprises,
        LimitStates states,
        LimitFilter filter,
        PageQuery page,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        bool hasMore = false;
        List<LimitResponse> limits = await states.ReadAsync(
            enterprise,
            async own =>
            {
                List<StoredLimit> found = await LimitStore.ListAsync(
                    own,
                    enterprise.EnterpriseId,
                    filter,
                    page.Beyond ?? Guid.Empty,
                    page.Limit + 1,
                    cancellationToken
                );
                hasMore = found.Count > page.Limit;
                return hasMore ? found[..page.Limit] : found;
            },
            cancellationToken
        );
        return new LimitListResponse(limits, hasMore ? limits[^1].LimitId : null);
    }

    private static async Task<IResult> GetAsync(
        Guid limitId,
        HttpContext context,
        EnterpriseDirectory enterprises,
        LimitStates states,
        CancellationToken cancellationToken
    ) =>
        await FindAsync(limitId, context, enterprises, states, cancellationToken) is { } limit
            ? Results.Ok(limit)
            : NotFound();

    /// <summary>A limit, or null: the enterprise has no such; also the web page's.</summary>
    internal static async Task<LimitResponse?> FindAsync(
        Guid limitId,
        HttpContext context,
        EnterpriseDirectory enterprises,
        LimitStates states,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        List<LimitResponse> found = await states.ReadAsync(
            enterprise,
            async own =>
                await LimitStore.FindAsync(own, enterprise.EnterpriseId, limitId, cancellationToken) is { } limit
                    ? [limit]
                    : [],
            cancellationToken
        );
        return found is [var one] ? one : null;
    }

    private static async Task<IResult> ListVersionsAsync(
        Guid limitId,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("", null, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        int beyond = int.MaxValue;
        if (
            !string.IsNullOrEmpty(before)
            && !int.TryParse(before, NumberStyles.None, CultureInfo.InvariantCulture, out beyond)
        )
        {
            return Problems.Problem(400, "invalid_request", "before: must be what `next` has given.");
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<LimitVersion> versions = await LimitStore.ListVersionsAsync(
            own,
            enterprise,
            limitId,
            beyond,
            page.Limit + 1,
            cancellationToken
        );
        if (
            versions.Count == 0
            && await LimitStore.FindAsync(own, enterprise.EnterpriseId, limitId, cancellationToken) is null
        )
        {
            return NotFound();
        }

        bool hasMore = versions.Count > page.Limit;
        return Results.Ok(
            new LimitVersionsResponse(
                hasMore ? versions[..page.Limit] : versions,
                hasMore ? versions[page.Limit - 1].Limit.Version : null
            )
        );
    }

    // Read from the table, so that it is what was set last, whichever instance set it.
    private const string ReadUnreachable = "SELECT limits_unreachable FROM enterprises WHERE enterprise_id = $1";

    private static async Task<IResult> GetSettingsAsync(
        HttpContext context,
        Database database,
        CancellationToken cancellationToken
    ) => Results.Ok(await ReadSettingsAsync(context.GetCaller().EnterpriseId, database, cancellationToken));

    /// <summary>Also the web page's.</summary>
    internal static async Task<LimitSettings> ReadSettingsAsync(
        Guid enterpriseId,
        Database database,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await using Npgsql.NpgsqlCommand command = own.Command(ReadUnreachable, enterpriseId);
        return new LimitSettings((string)(await command.ExecuteScalarAsync(cancellationToken))!);
    }

    private static IResult NotFound() => Problems.Problem(404, "not_found", "Your enterprise has no such limit.");
}
