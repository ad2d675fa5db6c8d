using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.WebUtilities;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/audit</c>: who did what, and whether anybody has changed what is written there.</summary>
internal static class AuditPages
{
    public const string Address = "/audit";
    private const int RowsPerPage = 50;

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.AuditRead, (HttpContext context) => ShowAsync(context, null));
        routes
            .MapForm(Address + "/verify", Permissions.AuditRead, VerifyAsync)
            .NotAudited("looks, and changes nothing");
    }

    private static async Task<IResult> ShowAsync(HttpContext context, AuditVerdict? verdict)
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        var asked = AuditQuery.Read(context.Request.Query);
        AuditFilter? filter = AuditEndpoints.Read(
            asked.From,
            asked.To,
            asked.Action,
            asked.Actor,
            null,
            asked.Target,
            asked.Outcome,
            asked.Before,
            out string wrong
        );
        List<AuditRecord> found = [];
        if (filter is not null)
        {
            await using ScopedTransaction own = await services
                .GetRequiredService<Database>()
                .OpenEnterpriseAsync(enterprise.EnterpriseId, context.RequestAborted);
            found = await AuditReader.ListAsync(own, enterprise, filter, RowsPerPage + 1, context.RequestAborted);
        }

        bool hasMore = found.Count > RowsPerPage;
        return new RazorComponentResult<AuditPage>(
            new
            {
                Entries = found.Take(RowsPerPage).Select(AuditEndpoints.Answer).ToList(),
                Next = hasMore ? found[RowsPerPage - 1].Sequence : (long?)null,
                Query = asked,
                Verified = verdict is null ? null : Words(verdict),
                IsWhole = verdict is { Fault: null },
                Error = filter is null ? wrong : null,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = filter is null ? StatusCodes.Status400BadRequest : StatusCodes.Status200OK,
        };
    }

    private static async Task<IResult> VerifyAsync(
        HttpContext context,
        AuditCheckpoints checkpoints,
        [FromForm] IFormCollection form
    )
    {
        _ = form; // bound, so that its token is demanded
        (AuditVerdict verdict, long? _) = await checkpoints.VerifyAsync(
            context.GetCaller().EnterpriseId,
            1,
            null,
            context.RequestAborted
        );
        return await ShowAsync(context, verdict);
    }

    private static string Words(AuditVerdict verdict) =>
        verdict.Fault is { } fault ? $"{fault.Detail} Tell whoever answers for security: somebody has changed the log."
        : verdict.AnchoredTo > 0
            ? $"The chain is whole: {verdict.Entries} entries, confirmed up to entry {verdict.AnchoredTo}."
        : $"The chain is whole: {verdict.Entries} entries.";
}

/// <summary>What the page's address asks for, as the API's parameters.</summary>
public sealed record AuditQuery(
    string? From,
    string? To,
    string? Action,
    string? Actor,
    string? Target,
    string? Outcome,
    string? Before
)
{
    public static AuditQuery Read(IQueryCollection query) =>
        new(
            query["from"],
            query["to"],
            query["action"],
            query["actor"],
            query["target"],
            query["outcome"],
            query["before"]
        );

    public bool IsFiltered =>
        new[] { From, To, Action, Actor, Target, Outcome, Before }.Any(value => !string.IsNullOrEmpty(value));

    /// <summary>The address of the same question about older ones.</summary>
    public string Older(long next) =>
        QueryHelpers.AddQueryString(
            AuditPages.Address,
            new Dictionary<string, string?>
            {
                ["from"] = From,
                ["to"] = To,
                ["action"] = Action,
                ["actor"] = Actor,
                ["target"] = Target,
                ["outcome"] = Outcome,
                ["before"] = next.ToString(System.Globalization.CultureInfo.InvariantCulture),
            }.Where(pair => !string.IsNullOrEmpty(pair.Value))
        );
}
