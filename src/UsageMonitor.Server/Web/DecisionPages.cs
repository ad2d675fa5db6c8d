using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/decisions</c>: what was refused to whom and why, and how a refused event is made to count after all.</summary>
internal static class DecisionPages
{
    public const string Address = "/decisions";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.DecisionsRead, ListAsync);
        routes.MapPage(
            Address + "/{receiptId:guid}",
            Permissions.DecisionsRead,
            (HttpContext context, Guid receiptId) => ShowAsync(context, receiptId, null, null)
        );
        routes.MapForm(
            Address + "/{receiptId:guid}/reclassify",
            Permissions.DecisionsWrite,
            (HttpContext context, Guid receiptId, [FromForm] IFormCollection form) =>
                ReclassifyAsync(context, receiptId, form)
        );
    }

    private static async Task<IResult> ListAsync(HttpContext context, [AsParameters] DecisionQuery query)
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseDirectory enterprises = services.GetRequiredService<EnterpriseDirectory>();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, context.RequestAborted);

        // Whoever was told a receipt looks for that one.
        if (Guid.TryParse(query.Receipt?.Trim(), out Guid receiptId))
        {
            return Pages.SeeOther(context, $"{Address}/{receiptId}");
        }

        IResult listed = string.IsNullOrWhiteSpace(query.Receipt)
            ? await DecisionEndpoints.ListAsync(
                context,
                services.GetRequiredService<Database>(),
                enterprises,
                services.GetRequiredService<TimeProvider>(),
                query.User,
                query.Feature,
                query.From,
                query.To,
                query.Before,
                null,
                context.RequestAborted
            )
            : Problems.Problem(
                400,
                "invalid_request",
                "A receipt is an id such as 0190f5a4-7c1e-7d3a-9b1f-2c4d6e8f0a1b."
            );
        var outcome = FormOutcome.Of<DecisionListResponse>(listed);
        return new RazorComponentResult<DecisionsPage>(
            new
            {
                List = outcome.Value ?? new DecisionListResponse([], null),
                Query = query,
                outcome.Error,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = outcome.StatusCode,
        };
    }

    private static async Task<IResult> ReclassifyAsync(HttpContext context, Guid receiptId, IFormCollection form)
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        string reason = form["reason"].ToString();
        IResult? problem = await services
            .GetRequiredService<Reclassifying>()
            .TryAsync(enterprise, context.GetCaller(), receiptId, reason, context.RequestAborted);
        return problem is null
            ? Pages.SeeOther(context, $"{Address}/{receiptId}")
            : await ShowAsync(context, receiptId, (ProblemHttpResult)problem, reason);
    }

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        Guid receiptId,
        ProblemHttpResult? problem,
        string? reason
    )
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        IResult found = await DecisionEndpoints.AnswerAsync(
            enterprise,
            receiptId,
            services.GetRequiredService<Database>(),
            context.RequestAborted
        );
        if (found is not IValueHttpResult { Value: DecisionResponse decision })
        {
            return found;
        }

        return new RazorComponentResult<DecisionPage>(
            new
            {
                Answer = decision,
                Error = problem is null ? null : FormOutcome.Sentence(problem),
                Reason = reason,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = problem?.StatusCode ?? StatusCodes.Status200OK,
        };
    }
}

/// <summary>How the page asks for refusals.</summary>
public sealed class DecisionQuery
{
    /// <summary>A user as the events name them.</summary>
    [FromQuery(Name = "user")]
    public string? User { get; init; }

    /// <summary>A feature.</summary>
    [FromQuery(Name = "feature")]
    public string? Feature { get; init; }

    /// <summary>The first local day.</summary>
    [FromQuery(Name = "from")]
    public string? From { get; init; }

    /// <summary>The local day after the last.</summary>
    [FromQuery(Name = "to")]
    public string? To { get; init; }

    /// <summary>The <c>next</c> of an earlier answer.</summary>
    [FromQuery(Name = "before")]
    public string? Before { get; init; }

    /// <summary>A receipt: shown alone.</summary>
    [FromQuery(Name = "receipt")]
    public string? Receipt { get; init; }
}
