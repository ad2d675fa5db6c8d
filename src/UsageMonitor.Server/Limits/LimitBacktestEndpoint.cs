using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary><c>POST /v1/admin/usage/limits/backtest</c>: who would have been blocked, how often, first when.</summary>
internal static class LimitBacktestEndpoint
{
    private const string RetryAfterSeconds = "10";

    public static void Map(RouteGroupBuilder group) =>
        group
            .MapPost(
                "/backtest",
                (
                    JsonBody<LimitBacktestRequest> body,
                    HttpContext context,
                    Database database,
                    EnterpriseDirectory enterprises,
                    LimitBacktest backtest,
                    TimeProvider time,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : HandleAsync(body.Value, context, database, enterprises, backtest, time, cancel)
            )
            .RequirePermission(Permissions.LimitsRead)
            .WithName("BacktestLimit")
            .WithSummary("Replays a limit over stored usage and says who would have been blocked; changes nothing")
            .WithDescription(
                "Of at most 90 local days. The limit is taken as the only one, in force all the time, and whoever holds a role now as its "
                    + "holder then. When there is too much to replay, `isComplete` is false and `evaluatedThrough` says how far it came."
            )
            .Produces<LimitBacktestResponse>()
            .ProducesProblem(400)
            .ProducesProblem(429);

    /// <summary>Also the web page's.</summary>
    internal static async Task<IResult> HandleAsync(
        LimitBacktestRequest request,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        LimitBacktest backtest,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (request.Limit is null)
        {
            return Problems.Problem(400, "invalid_request", "limit: is missing.");
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (
            LocalDays.Parse(
                request.From,
                request.To,
                enterprise,
                time.GetUtcNow(),
                out string error,
                LimitBacktest.RangeDaysMax
            )
            is not { } range
        )
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        LimitDraft? draft;
        await using (
            ScopedTransaction own = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken)
        )
        {
            (draft, error) = await LimitDraft.ReadAsync(request.Limit, enterprise, own, cancellationToken);
        }

        if (draft is null)
        {
            return Problems.Problem(400, "invalid_request", "limit." + error);
        }

        if (await backtest.RunAsync(enterprise, draft, range, cancellationToken) is { } replayed)
        {
            return Results.Ok(replayed);
        }

        context.Response.Headers.RetryAfter = RetryAfterSeconds;
        return Problems.Problem(429, "busy", "Other limits are being replayed. Try again in some seconds.");
    }
}
