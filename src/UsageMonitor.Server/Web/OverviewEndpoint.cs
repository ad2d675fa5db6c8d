using Microsoft.AspNetCore.Http.HttpResults;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Server.Dashboard;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/</c>: what an enterprise used, over the days in the address.</summary>
internal static class OverviewEndpoint
{
    /// <summary>Anomalies drawn on one chart.</summary>
    private const int AnomaliesMax = 200;

    public static void Map(IEndpointRouteBuilder routes) =>
        // Not usage:read: the platform's operator has no usage of their own and begins at the enterprises instead.
        routes.MapPage("/", Permissions.Person, GetAsync);

    private static async Task<IResult> GetAsync(
        HttpContext context,
        DashboardReader reader,
        EnterpriseDirectory enterprises,
        TimeProvider clock,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        if (caller.EnterpriseId == Guid.Empty)
        {
            return TypedResults.Redirect("/enterprises");
        }

        if (!caller.May(Permissions.UsageRead))
        {
            return TypedResults.StatusCode(StatusCodes.Status403Forbidden);
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        Formats formats = Formats.For(context.Request, enterprise.TimeZone);
        DateOnly today = formats.Today(clock);
        DateRange range = DateRange.Parse(context.Request.Query, today);
        OverviewModel model = await ReadAsync(reader, enterprise, formats, range, today, cancellationToken);
        if (range.Interval == Buckets.Hour && caller.May(Permissions.AlertsRead))
        {
            model = await WithAnomaliesAsync(context, enterprise, range, model, cancellationToken);
        }

        return new RazorComponentResult<Overview>(
            new { Model = model, MayMakeKeys = caller.May(Permissions.ApiKeysWrite) }
        );
    }

    /// <summary>Adds what was expected of the hours shown, and which stood out.</summary>
    private static async Task<OverviewModel> WithAnomaliesAsync(
        HttpContext context,
        EnterpriseInfo enterprise,
        DateRange range,
        OverviewModel model,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        (DateTime from, DateTime to) = (local.DayStart(range.From), local.DayStart(range.ToExclusive));
        string feature = range.Feature ?? "";
        await using ScopedTransaction own = await context
            .RequestServices.GetRequiredService<Database>()
            .OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken);
        return model with
        {
            Expected = await AnomalyReader.ExpectedAsync(
                own,
                enterprise,
                feature,
                AnomalyTerms.Usage,
                from,
                to,
                cancellationToken
            ),
            Anomalies = await AnomalyReader.ListAsync(
                own,
                enterprise,
                new AnomalyFilter(from, to, FeatureName: feature) { Series = AnomalyTerms.Usage },
                AnomaliesMax,
                cancellationToken
            ),
        };
    }

    private static async Task<OverviewModel> ReadAsync(
        DashboardReader reader,
        EnterpriseInfo enterprise,
        Formats formats,
        DateRange range,
        DateOnly today,
        CancellationToken cancellationToken
    )
    {
        Task<TrendsResponse> Trend(DateOnly from, DateOnly to, string? feature) =>
            reader.TrendsAsync(enterprise, from, to, range.Interval, feature, cancellationToken);

        Task<SummaryResponse> summary = reader.SummaryAsync(
            enterprise,
            range.From,
            range.ToExclusive,
            cancellationToken
        );
        Task<FeaturesResponse> features = reader.ByFeatureAsync(
            enterprise,
            range.From,
            range.ToExclusive,
            cancellationToken
        );
        Task<TrendsResponse> trend = Trend(range.From, range.ToExclusive, range.Feature);
        Task<TrendsResponse> previous = Trend(range.PreviousFrom, range.From, range.Feature);
        Task<TrendsResponse> all = range.Feature is null ? trend : Trend(range.From, range.ToExclusive, null);
        await Task.WhenAll(summary, features, trend, previous, all);
        return new OverviewModel(
            enterprise.Name,
            formats,
            range,
            await summary,
            await features,
            await trend,
            await previous,
            await all,
            await IsNewAsync(reader, enterprise, await summary, today, cancellationToken)
        );
    }

    /// <summary>Whether nothing was ever sent; a quiet month of an old enterprise is not that.</summary>
    private static async Task<bool> IsNewAsync(
        DashboardReader reader,
        EnterpriseInfo enterprise,
        SummaryResponse summary,
        DateOnly today,
        CancellationToken cancellationToken
    )
    {
        if (summary.UsageCount > 0 || summary.Previous.UsageCount > 0)
        {
            return false;
        }

        SummaryResponse year = await reader.SummaryAsync(
            enterprise,
            today.AddDays(1 - DateRange.DaysMax),
            today.AddDays(1),
            cancellationToken
        );
        return year.UsageCount == 0;
    }
}
