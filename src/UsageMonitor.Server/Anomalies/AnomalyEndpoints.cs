using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary><c>/v1/dashboard/anomalies</c>, the expected ranges, and <c>/v1/admin/anomalies/settings</c>.</summary>
internal static class AnomalyEndpoints
{
    /// <summary>Rows of one page.</summary>
    public const int LimitMax = 200;
    private const int LimitDefault = 50;

    public static void MapAnomalyEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/dashboard")
            .WithTags("Anomalies")
            .RequirePermission(Permissions.AlertsRead);
        group
            .MapGet("/anomalies", ListAsync)
            .WithName("ListAnomalies")
            .WithSummary("Lists what stood out, newest first, by kind, feature, user and whether it is open")
            .Produces<AnomalyListResponse>()
            .ProducesProblem(400);
        group
            .MapGet("/anomalies/{anomalyId:guid}", GetAsync)
            .WithName("GetAnomaly")
            .WithSummary("One anomaly: what came, what was expected, and why in words")
            .Produces<AnomalyResponse>()
            .ProducesProblem(404);
        group
            .MapGet("/expected", ExpectedAsync)
            .WithName("GetExpected")
            .WithSummary("What was expected of each hour, of a feature or of all together")
            .Produces<ExpectedResponse>()
            .ProducesProblem(400);
        routes
            .MapPost("/v1/dashboard/anomalies/{anomalyId:guid}/feedback", FeedbackEndpoint.HandleAsync)
            .WithTags("Anomalies")
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("AnswerAnomaly")
            .WithSummary(
                "Says whether an anomaly was expected; one that was is resolved and not told again while it lasts"
            )
            .Produces<AnomalyResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404);
        SettingsEndpoints.Map(routes);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        string? kind,
        string? feature,
        string? user,
        string? open,
        string? from,
        string? to,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (
            ReadFilter(enterprise, time, kind, feature, user, open, from, to, before, out string error)
            is not { } filter
        )
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        int wanted = LimitDefault;
        if (
            !string.IsNullOrEmpty(limit)
            && (
                !int.TryParse(limit, NumberStyles.None, CultureInfo.InvariantCulture, out wanted)
                || wanted is < 1 or > LimitMax
            )
        )
        {
            return Problems.Problem(400, "invalid_request", $"limit: must be 1 to {LimitMax}.");
        }

        return Results.Ok(await PageAsync(database, enterprise, filter, wanted, cancellationToken));
    }

    /// <summary>A page of what the filter names.</summary>
    public static async Task<AnomalyListResponse> PageAsync(
        Database database,
        EnterpriseInfo enterprise,
        AnomalyFilter filter,
        int wanted,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<AnomalyResponse> found = await AnomalyReader.ListAsync(
            own,
            enterprise,
            filter,
            wanted + 1,
            cancellationToken
        );
        return new AnomalyListResponse(
            [.. found.Take(wanted)],
            found.Count > wanted ? found[wanted - 1].AnomalyId : null
        );
    }

    /// <returns>The filter, or null with what is wrong.</returns>
    public static AnomalyFilter? ReadFilter(
        EnterpriseInfo enterprise,
        TimeProvider time,
        string? kind,
        string? feature,
        string? user,
        string? open,
        string? from,
        string? to,
        string? before,
        out string error
    )
    {
        if (!string.IsNullOrEmpty(kind) && !AnomalyTerms.Kinds.Contains(kind))
        {
            error = $"kind: must be one of {string.Join(", ", AnomalyTerms.Kinds)}.";
            return null;
        }

        if (!string.IsNullOrEmpty(open) && open is not ("true" or "false"))
        {
            error = "open: must be true or false.";
            return null;
        }

        Guid beyond = default;
        if (!string.IsNullOrEmpty(before) && !Guid.TryParseExact(before, "D", out beyond))
        {
            error = "before: must be what `next` has given.";
            return null;
        }

        if (LocalDays.Parse(from, to, enterprise, time.GetUtcNow(), out error) is not { } range)
        {
            return null;
        }

        var local = new LocalTime(enterprise.TimeZone);
        return new AnomalyFilter(
            local.DayStart(range.From),
            local.DayStart(range.To),
            string.IsNullOrEmpty(kind) ? null : kind,
            string.IsNullOrEmpty(feature) ? null : feature,
            string.IsNullOrEmpty(user) ? null : UserIds.Resolve(enterprise.EnterpriseId, user, out _),
            string.IsNullOrEmpty(open) ? null : open == "true",
            string.IsNullOrEmpty(before) ? null : beyond
        );
    }

    private static async Task<IResult> GetAsync(
        Guid anomalyId,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        return await AnomalyReader.FindAsync(own, enterprise, anomalyId, cancellationToken) is { } found
            ? Results.Ok(found)
            : NotFound();
    }

    private static async Task<IResult> ExpectedAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        string? feature,
        string? series,
        string? from,
        string? to,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        series = string.IsNullOrEmpty(series) ? AnomalyTerms.Usage : series;
        if (series is not (AnomalyTerms.Usage or AnomalyTerms.ActiveUsers))
        {
            return Problems.Problem(400, "invalid_request", "series: must be USAGE or ACTIVE_USERS.");
        }

        if (
            LocalDays.Parse(from, to, enterprise, time.GetUtcNow(), out string error, LocalDays.HourlyDaysMax)
            is not { } range
        )
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        var local = new LocalTime(enterprise.TimeZone);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<ExpectedHour> hours = await AnomalyReader.ExpectedAsync(
            own,
            enterprise,
            feature ?? "",
            series,
            local.DayStart(range.From),
            local.DayStart(range.To),
            cancellationToken
        );
        return Results.Ok(new ExpectedResponse(string.IsNullOrEmpty(feature) ? null : feature, series, hours));
    }

    public static IResult NotFound() => Problems.Problem(404, "not_found", "Your enterprise has no such anomaly.");
}
