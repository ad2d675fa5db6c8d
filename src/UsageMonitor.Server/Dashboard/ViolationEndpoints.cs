using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary><c>/v1/dashboard/violations</c>: limits that were exceeded or that refused somebody.</summary>
internal static class ViolationEndpoints
{
    /// <summary>Violations resolved at once.</summary>
    public const int ResolvedMax = 100;

    /// <summary>UTF-16 code units.</summary>
    public const int ReasonCharactersMax = 500;

    private const int UsersDefault = 50;

    public static void MapViolationEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder violations = routes.MapGroup("/v1/dashboard/violations").WithTags("Violations");
        violations
            .MapGet("", ListAsync)
            .WithName("ListViolations")
            .WithSummary("Lists violations of limits, newest first, by the local days on which they were opened")
            .Produces<ViolationListResponse>()
            .ProducesProblem(400)
            .RequirePermission(Permissions.LimitsRead);
        violations
            .MapPost("/{violationId:guid}/resolve", ResolveAsync)
            .WithName("ResolveViolation")
            .WithSummary("Says why a violation is settled; what is used or refused afterwards opens it again")
            .Produces<ResolveViolationsResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(404)
            .ProducesProblem(409)
            .RequirePermission(Permissions.ViolationsWrite);
        violations
            .MapPost("/resolve", ResolveManyAsync)
            .WithName("ResolveViolations")
            .WithSummary("Resolves up to 100 violations for one reason, and says what became of each")
            .Produces<ResolveViolationsResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .RequirePermission(Permissions.ViolationsWrite);
        routes
            .MapGet("/v1/dashboard/users/exceeded-limits", ListUsersAsync)
            .WithName("ListUsersExceedingLimits")
            .WithSummary("Users with open violations, who is furthest beyond their limits first")
            .WithTags("Violations")
            .Produces<ExceedingUsersResponse>()
            .ProducesProblem(400)
            .RequirePermission(Permissions.LimitsRead);
    }

    public static async Task<IResult> ListAsync(
        [AsParameters] ViolationQuery query,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (query.Read(enterprise, time.GetUtcNow(), out string error) is not var (filter, limit))
        {
            return Invalid(error);
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<ViolationSummary> found = await ViolationStore.ListAsync(
            own,
            enterprise,
            filter,
            limit + 1,
            cancellationToken
        );
        bool hasMore = found.Count > limit;
        return Results.Ok(
            new ViolationListResponse([.. found.Take(limit)], hasMore ? found[limit - 1].ViolationId : null)
        );
    }

    private static async Task<IResult> ListUsersAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        string? after,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (!ViolationQuery.TryLimit(limit, UsersDefault, out int rows))
        {
            return Invalid($"limit: must be 1 to {ViolationQuery.LimitMax}.");
        }

        if (!TryCursor(after, out ExceedingUserCursor? cursor))
        {
            return Invalid("after: must be what `next` has given.");
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<(ExceedingUser User, ExceedingUserCursor Cursor)> found = await ViolationStore.ListUsersAsync(
            own,
            enterprise,
            cursor,
            rows + 1,
            cancellationToken
        );
        bool hasMore = found.Count > rows;
        return Results.Ok(
            new ExceedingUsersResponse(
                [.. found.Take(rows).Select(one => one.User)],
                hasMore
                    ? string.Create(
                        CultureInfo.InvariantCulture,
                        $"{found[rows - 1].Cursor.Over}_{found[rows - 1].Cursor.UserId}"
                    )
                    : null
            )
        );
    }

    private static async Task<IResult> ResolveAsync(
        Guid violationId,
        JsonBody<ResolveViolationRequest> body,
        HttpContext context,
        Database database,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        IResult answer = await SettleAsync(
            [violationId],
            body.Value.Reason,
            context,
            database,
            time,
            cancellationToken
        );
        return answer is not IValueHttpResult { Value: ResolveViolationsResponse done } ? answer
            : done.NotFound.Count > 0 ? Problems.Problem(404, "not_found", "Your enterprise has no such violation.")
            : done.AlreadyResolved.Count > 0
                ? Problems.Problem(409, "already_resolved", "The violation is resolved already.")
            : answer;
    }

    private static async Task<IResult> ResolveManyAsync(
        JsonBody<ResolveViolationsRequest> body,
        HttpContext context,
        Database database,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        IResult answer = await SettleAsync(
            body.Value.Ids,
            body.Value.Reason,
            context,
            database,
            time,
            cancellationToken
        );
        return answer is IValueHttpResult { Value: ResolveViolationsResponse { Resolved: [], AlreadyResolved: [] } }
            ? Problems.Problem(404, "not_found", "Your enterprise has none of these violations.")
            : answer;
    }

    /// <summary>Resolves violations for one reason: all of them, or none when something is wrong with the request.</summary>
    public static async Task<IResult> SettleAsync(
        IReadOnlyList<Guid>? ids,
        string? reason,
        HttpContext context,
        Database database,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (ids is not { Count: >= 1 and <= ResolvedMax })
        {
            return Invalid($"ids: must be 1 to {ResolvedMax} violations.");
        }

        reason = reason?.Trim();
        if (
            reason is not { Length: >= 1 and <= ReasonCharactersMax }
            || reason.Contains('\0', StringComparison.Ordinal)
        )
        {
            return Invalid($"reason: must be 1 to {ReasonCharactersMax} characters.");
        }

        Caller caller = context.GetCaller();
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        Dictionary<Guid, bool> found = await ViolationStore.ResolveAsync(
            own,
            caller.EnterpriseId,
            ids,
            time.GetUtcNow().UtcDateTime,
            caller.UserId ?? caller.ApiKeyId ?? Guid.Empty,
            reason,
            cancellationToken
        );
        own.Audit(
            "violations.resolved",
            "violation",
            ids.Count == 1 ? ids[0] : null,
            after: new { resolved = found.Where(one => one.Value).Select(one => one.Key).Order(), reason }
        );
        await own.CommitAsync(cancellationToken);
        ILookup<bool?, Guid> became = ids.Distinct()
            .ToLookup(id => found.TryGetValue(id, out bool isResolvedNow) ? isResolvedNow : (bool?)null);
        return Results.Ok(new ResolveViolationsResponse([.. became[true]], [.. became[false]], [.. became[null]]));
    }

    private static bool TryCursor(string? text, out ExceedingUserCursor? cursor)
    {
        cursor = null;
        if (string.IsNullOrEmpty(text))
        {
            return true;
        }

        string[] parts = text.Split('_');
        if (
            parts.Length == 2
            && long.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out long over)
            && Guid.TryParseExact(parts[1], "D", out Guid userId)
        )
        {
            cursor = new ExceedingUserCursor(over, userId);
        }

        return cursor is not null;
    }

    private static IResult Invalid(string detail) => Problems.Problem(400, "invalid_request", detail);
}
