using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Dashboard;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/violations</c>: limits that were exceeded or that refused somebody; whatever is ticked is resolved for a reason.</summary>
internal static class ViolationPages
{
    public const string Address = "/violations";

    /// <summary>The status that shows violations of either.</summary>
    public const string AnyStatus = "ALL";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(
            Address,
            Permissions.LimitsRead,
            ([AsParameters] ViolationQuery query, HttpContext context) => ShowAsync(context, query, null, null, null)
        );
        routes.MapForm(
            Address + "/resolve",
            Permissions.ViolationsWrite,
            (HttpContext context, [FromForm] IFormCollection form) => ResolveAsync(context, form)
        );
    }

    private static async Task<IResult> ResolveAsync(HttpContext context, IFormCollection form)
    {
        string?[] chosen = [.. form["ids"]];
        IServiceProvider services = context.RequestServices;
        IResult result = await ViolationEndpoints.SettleAsync(
            [.. chosen.Select(text => Guid.TryParseExact(text, "D", out Guid id) ? id : (Guid?)null).OfType<Guid>()],
            form["reason"],
            context,
            services.GetRequiredService<Database>(),
            services.GetRequiredService<TimeProvider>(),
            context.RequestAborted
        );
        var outcome = FormOutcome.Of<ResolveViolationsResponse>(result);
        if (outcome.Error is null)
        {
            // Somebody else may have been first; the list shows what there is.
            return Pages.SeeOther(context, BackTo(form["back"]));
        }

        string error =
            chosen.Length == 0
                ? "Tick the violations to resolve."
                : outcome.Error.Replace("Reason: must be", "The reason must have", StringComparison.Ordinal);
        return await ShowAsync(context, new ViolationQuery(), error, form, outcome.StatusCode);
    }

    private static string BackTo(string? back) =>
        back is not null && (back == Address || back.StartsWith(Address + "?", StringComparison.Ordinal))
            ? back
            : Address;

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        ViolationQuery query,
        string? error,
        IFormCollection? form,
        int? statusCode
    )
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);

        // What is open is what there is to do.
        string status = string.IsNullOrEmpty(query.Status) ? ViolationStore.Open : query.Status;
        IResult listed = await ViolationEndpoints.ListAsync(
            new ViolationQuery
            {
                Status = status == AnyStatus ? null : status,
                LimitId = query.LimitId,
                User = query.User,
                Feature = query.Feature,
                From = query.From,
                To = query.To,
                Before = query.Before,
            },
            context,
            services.GetRequiredService<Database>(),
            services.GetRequiredService<EnterpriseDirectory>(),
            services.GetRequiredService<TimeProvider>(),
            context.RequestAborted
        );
        var outcome = FormOutcome.Of<ViolationListResponse>(listed);
        return new RazorComponentResult<ViolationsPage>(
            new
            {
                List = outcome.Value ?? new ViolationListResponse([], null),
                Query = query,
                Status = status,
                Error = error,
                FilterError = outcome.Error,
                Reason = form?["reason"].ToString(),
                Chosen = (IReadOnlyCollection<string>)[.. form?["ids"].OfType<string>() ?? []],
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = statusCode ?? outcome.StatusCode,
        };
    }
}
