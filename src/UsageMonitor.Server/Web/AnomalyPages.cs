using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.WebUtilities;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/anomalies</c>: what stood out, what admins say of it, and how much it takes; by the API's own handlers.</summary>
internal static class AnomalyPages
{
    public const string Address = "/anomalies";
    private const int RowsPerPage = 25;

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.AlertsRead, (HttpContext context) => ShowAsync(context, null, 200));
        routes.MapForm(Address + "/settings", Permissions.AlertsWrite, SaveAsync);
        routes.MapForm(Address + "/{anomalyId:guid}/feedback", Permissions.AlertsWrite, AnswerAsync);
    }

    private static async Task<IResult> ShowAsync(HttpContext context, string? error, int status)
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        Database database = services.GetRequiredService<Database>();
        var asked = AnomalyQuery.Read(context.Request.Query);
        AnomalyFilter? filter = AnomalyEndpoints.ReadFilter(
            enterprise,
            services.GetRequiredService<TimeProvider>(),
            asked.Kind,
            asked.Feature,
            asked.User,
            asked.Open,
            asked.From,
            asked.To,
            asked.Before,
            out string wrong
        );
        AnomalyListResponse list = filter is null
            ? new AnomalyListResponse([], null)
            : await AnomalyEndpoints.PageAsync(database, enterprise, filter, RowsPerPage, context.RequestAborted);
        return new RazorComponentResult<AnomaliesPage>(
            new
            {
                List = list,
                Query = asked,
                Settings = await SettingsEndpoints.ReadNamedAsync(database, enterprise, context.RequestAborted),
                Error = error ?? (filter is null ? wrong : null),
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = filter is null ? StatusCodes.Status400BadRequest : status,
        };
    }

    private static async Task<IResult> SaveAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] string? sensitivity,
        [FromForm] string? recipients
    )
    {
        string[] addresses = (recipients ?? "").Split(
            ['\r', '\n', ',', ';'],
            StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries
        );
        IResult saved = await SettingsEndpoints.SaveAsync(
            new AnomalySettings(sensitivity, addresses),
            context.GetCaller(),
            await enterprises.OfCallerAsync(context, context.RequestAborted),
            database,
            version,
            time,
            context.RequestAborted
        );
        var outcome = FormOutcome.Of<AnomalySettings>(saved);
        return outcome.Error is null
            ? Pages.SeeOther(context, Address)
            : await ShowAsync(context, outcome.Error, outcome.StatusCode);
    }

    private static async Task<IResult> AnswerAsync(
        Guid anomalyId,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        [FromForm] string? isExpected,
        [FromForm] string? note,
        [FromForm] string? returnUrl
    )
    {
        IResult answered = await FeedbackEndpoint.AnswerAsync(
            anomalyId,
            new AnomalyFeedbackRequest(isExpected != "false", note),
            context.GetCaller(),
            await enterprises.OfCallerAsync(context, context.RequestAborted),
            database,
            time,
            context.RequestAborted
        );
        var outcome = FormOutcome.Of<AnomalyResponse>(answered);
        return outcome.Error is null
            ? Pages.SeeOther(context, returnUrl ?? Address)
            : await ShowAsync(context, outcome.Error, outcome.StatusCode);
    }
}

/// <summary>What the page's address asks for, as the API's parameters.</summary>
public sealed record AnomalyQuery(
    string? Kind,
    string? Feature,
    string? User,
    string? Open,
    string? From,
    string? To,
    string? Before
)
{
    public static AnomalyQuery Read(IQueryCollection query) =>
        new(query["kind"], query["feature"], query["user"], query["open"], query["from"], query["to"], query["before"]);

    /// <summary>The address of the same question about older ones.</summary>
    public string Older(Guid next) =>
        QueryHelpers.AddQueryString(
            AnomalyPages.Address,
            new Dictionary<string, string?>
            {
                ["kind"] = Kind,
                ["feature"] = Feature,
                ["user"] = User,
                ["open"] = Open,
                ["from"] = From,
                ["to"] = To,
                ["before"] = next.ToString(),
            }.Where(pair => !string.IsNullOrEmpty(pair.Value))
        );
}
