using Microsoft.AspNetCore.Http.HttpResults;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Dashboard;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/restatements</c>: which days' figures changed after they were reported.</summary>
internal static class RestatementPages
{
    public const string Address = "/restatements";

    public static void Map(IEndpointRouteBuilder routes) => routes.MapPage(Address, Permissions.UsageRead, ShowAsync);

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        string? feature,
        string? from,
        string? to,
        string? before
    )
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseDirectory enterprises = services.GetRequiredService<EnterpriseDirectory>();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, context.RequestAborted);

        // Whoever names no feature first sees what changed, not each feature's part of it.
        IResult listed = await RestatementEndpoints.ListAsync(
            context,
            services.GetRequiredService<Database>(),
            enterprises,
            services.GetRequiredService<TimeProvider>(),
            string.IsNullOrEmpty(feature) ? "*" : feature,
            from,
            to,
            before,
            null,
            context.RequestAborted
        );
        var outcome = FormOutcome.Of<RestatementListResponse>(listed);
        return new RazorComponentResult<RestatementsPage>(
            new
            {
                List = outcome.Value ?? new RestatementListResponse([], null),
                Feature = feature,
                From = from,
                To = to,
                Before = before,
                outcome.Error,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = outcome.StatusCode,
        };
    }
}
