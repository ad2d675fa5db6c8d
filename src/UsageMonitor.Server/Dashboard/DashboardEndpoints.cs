using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary><c>/v1/dashboard/*</c> and the ledger.</summary>
internal static class DashboardEndpoints
{
    public static void MapDashboard(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/dashboard")
            .WithTags("Dashboard")
            .RequirePermission(Permissions.UsageRead)
            .AddOpenApiOperationTransformer(DashboardContract.DescribeAsync)
            .ProducesProblem(StatusCodes.Status400BadRequest);
        group
            .MapGet("/summary", SummaryAsync)
            .WithName("GetSummary")
            .WithSummary("What a range of days came to, beside the range before");
        group
            .MapGet("/usage/trends", TrendsAsync)
            .WithName("GetTrends")
            .WithSummary("Usage and active users per hour, day, week or month");
        group
            .MapGet("/usage/by-feature", ByFeatureAsync)
            .WithName("GetUsageByFeature")
            .WithSummary("Usage and active users of each feature");
        group
            .MapGet("/users/{userId}/analytics", UserAsync)
            .AuditedRead("person.usage_read", "user")
            .WithName("GetUserAnalytics")
            .WithSummary("What one user used")
            .ProducesProblem(StatusCodes.Status404NotFound);
        group
            .MapGet("/stream", UsageStream.Open)
            .WithName("StreamUsage")
            .WithSummary("Server-sent events: 'usage' whenever the enterprise's numbers have changed");
        routes
            .MapGet("/v1/admin/usage/ledger", LedgerAsync)
            .WithTags("Ledger")
            .WithName("GetLedger")
            .WithSummary("What was received, and what became of it, per hour of receipt")
            .RequirePermission(Permissions.UsageRead)
            .AddOpenApiOperationTransformer(DashboardContract.DescribeAsync)
            .ProducesProblem(StatusCodes.Status400BadRequest);
    }

    private static Task<Results<Ok<SummaryResponse>, ProblemHttpResult>> SummaryAsync(
        HttpContext context,
        [FromServices] DashboardReader dashboard,
        string? from,
        string? to,
        CancellationToken cancellationToken
    ) =>
        OfRangeAsync(
            context,
            from,
            to,
            (enterprise, range) => dashboard.SummaryAsync(enterprise, range.From, range.To, cancellationToken),
            cancellationToken
        );

    private static async Task<Results<Ok<TrendsResponse>, ProblemHttpResult>> TrendsAsync(
        HttpContext context,
        [FromServices] EnterpriseDirectory enterprises,
        [FromServices] DashboardReader dashboard,
        [FromServices] TimeProvider time,
        string? from,
        string? to,
        string? interval,
        string? feature,
        CancellationToken cancellationToken
    )
    {
        interval = string.IsNullOrEmpty(interval) ? Buckets.Day : interval;
        if (!Buckets.Intervals.Contains(interval))
        {
            return Invalid($"interval: must be one of {string.Join(", ", Buckets.Intervals)}.");
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        int daysMax = interval == Buckets.Hour ? LocalDays.HourlyDaysMax : LocalDays.DaysMax;
        return LocalDays.Parse(from, to, enterprise, time.GetUtcNow(), out string error, daysMax) is { } range
            ? TypedResults.Ok(
                await dashboard.TrendsAsync(
                    enterprise,
                    range.From,
                    range.To,
                    interval,
                    string.IsNullOrEmpty(feature) ? null : feature,
                    cancellationToken
                )
            )
            : Invalid(error);
    }

    private static Task<Results<Ok<FeaturesResponse>, ProblemHttpResult>> ByFeatureAsync(
        HttpContext context,
        [FromServices] DashboardReader dashboard,
        string? from,
        string? to,
        CancellationToken cancellationToken
    ) =>
        OfRangeAsync(
            context,
            from,
            to,
            (enterprise, range) => dashboard.ByFeatureAsync(enterprise, range.From, range.To, cancellationToken),
            cancellationToken
        );

    private static async Task<Results<Ok<UserAnalyticsResponse>, ProblemHttpResult>> UserAsync(
        HttpContext context,
        [FromServices] EnterpriseDirectory enterprises,
        [FromServices] DashboardReader dashboard,
        [FromServices] TimeProvider time,
        string userId,
        string? from,
        string? to,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (LocalDays.Parse(from, to, enterprise, time.GetUtcNow(), out string error) is not { } range)
        {
            return Invalid(error);
        }

        return await dashboard.UserAsync(enterprise, userId, range.From, range.To, cancellationToken) is { } analytics
            ? TypedResults.Ok(analytics)
            : (ProblemHttpResult)
                Problems.Problem(
                    StatusCodes.Status404NotFound,
                    "user_not_found",
                    "No event of this user was received."
                );
    }

    private static Task<Results<Ok<LedgerResponse>, ProblemHttpResult>> LedgerAsync(
        HttpContext context,
        [FromServices] LedgerReader ledger,
        string? from,
        string? to,
        CancellationToken cancellationToken
    ) =>
        OfRangeAsync(
            context,
            from,
            to,
            (enterprise, range) => ledger.ReadAsync(enterprise, range.From, range.To, cancellationToken),
            cancellationToken
        );

    private static async Task<Results<Ok<T>, ProblemHttpResult>> OfRangeAsync<T>(
        HttpContext context,
        string? from,
        string? to,
        Func<EnterpriseInfo, LocalDays, Task<T>> readAsync,
        CancellationToken cancellationToken
    )
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, cancellationToken);
        DateTimeOffset now = services.GetRequiredService<TimeProvider>().GetUtcNow();
        return LocalDays.Parse(from, to, enterprise, now, out string error) is { } range
            ? TypedResults.Ok(await readAsync(enterprise, range))
            : Invalid(error);
    }

    private static ProblemHttpResult Invalid(string error) =>
        (ProblemHttpResult)Problems.Problem(StatusCodes.Status400BadRequest, "invalid_request", error);
}
