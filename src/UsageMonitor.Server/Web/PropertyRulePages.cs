using System.Text.Json;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/privacy/rules</c>: what of events' properties is kept, masked or dropped, and a place to try it.</summary>
internal static class PropertyRulePages
{
    public const string Address = "/privacy/rules";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(
            Address,
            Permissions.PrivacyRead,
            (HttpContext context, string? after) => ShowAsync(context, new PropertyRulesShown { After = after })
        );
        routes.MapForm(
            Address,
            Permissions.PrivacyWrite,
            (HttpContext context, [FromForm] IFormCollection form) => CreateAsync(context, form)
        );
        routes.MapForm(
            Address + "/defaults",
            Permissions.PrivacyWrite,
            (HttpContext context, [FromForm] IFormCollection form) => SetDefaultsAsync(context, form)
        );
        routes.MapForm(Address + "/{id:guid}/delete", Permissions.PrivacyWrite, DeleteAsync);
        routes
            .MapForm(
                Address + "/preview",
                Permissions.PrivacyRead,
                (HttpContext context, [FromForm] IFormCollection form) => PreviewAsync(context, form)
            )
            .NotAudited("changes nothing and shows nothing but what was sent", hasScope: false);
    }

    private static async Task<IResult> CreateAsync(HttpContext context, IFormCollection form)
    {
        var draft = new PropertyRuleRequest(Text(form, "property"), Text(form, "action"), Text(form, "feature"));
        IResult result = await Writer(context).CreateAsync(context.GetCaller(), draft, context.RequestAborted);
        var outcome = FormOutcome.Of<PropertyRuleResponse>(result);
        return outcome.Error is null
            ? Pages.SeeOther(context, Address)
            : await ShowAsync(
                context,
                new PropertyRulesShown
                {
                    RuleError = outcome.Error,
                    Draft = draft,
                    StatusCode = outcome.StatusCode,
                }
            );
    }

    private static async Task<IResult> DeleteAsync(HttpContext context, Guid id)
    {
        IResult result = await Writer(context).DeleteAsync(context.GetCaller(), id, context.RequestAborted);
        return result is ProblemHttpResult ? result : Pages.SeeOther(context, Address);
    }

    private static async Task<IResult> SetDefaultsAsync(HttpContext context, IFormCollection form)
    {
        var asked = new PropertyDefaultsRequest(
            Text(form, "default"),
            Text(form, "emails"),
            Text(form, "cards"),
            Text(form, "tokens"),
            int.TryParse(form["version"], out int version) ? version : null
        );
        IResult result = await Writer(context).SetDefaultsAsync(context.GetCaller(), asked, context.RequestAborted);
        var outcome = FormOutcome.Of<PropertyDefaults>(result);
        return outcome.Error is null
            ? Pages.SeeOther(context, Address)
            : await ShowAsync(
                context,
                new PropertyRulesShown { DefaultsError = outcome.Error, StatusCode = outcome.StatusCode }
            );
    }

    private static async Task<IResult> PreviewAsync(HttpContext context, IFormCollection form)
    {
        string text = form["event"].ToString();
        JsonElement given;
        try
        {
            given = JsonElement.Parse(text);
        }
        catch (JsonException)
        {
            return await ShowAsync(
                context,
                new PropertyRulesShown
                {
                    Event = text,
                    PreviewError = "That is no JSON.",
                    StatusCode = StatusCodes.Status400BadRequest,
                }
            );
        }

        IServiceProvider services = context.RequestServices;
        IResult result = await PropertyRuleEndpoints.PreviewAsync(
            new JsonBody<PropertyPreviewRequest>(new PropertyPreviewRequest(given), null),
            context,
            services.GetRequiredService<PropertyRuleSets>(),
            services.GetRequiredService<TimeProvider>(),
            context.RequestAborted
        );
        var outcome = FormOutcome.Of<PropertyPreviewResponse>(result);
        return await ShowAsync(
            context,
            new PropertyRulesShown
            {
                Event = text,
                Preview = outcome.Value,
                PreviewError = outcome.Error,
                StatusCode = outcome.StatusCode,
            }
        );
    }

    private static async Task<IResult> ShowAsync(HttpContext context, PropertyRulesShown shown)
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        IResult listed = await PropertyRuleEndpoints.ListAsync(
            context,
            services.GetRequiredService<Database>(),
            shown.After,
            null,
            context.RequestAborted
        );
        if (listed is not IValueHttpResult { Value: PropertyRulesResponse list })
        {
            return listed;
        }

        return new RazorComponentResult<PropertyRulesPage>(
            new
            {
                List = list,
                Shown = shown,
                EnterpriseName = enterprise.Name,
            }
        )
        {
            StatusCode = shown.StatusCode,
        };
    }

    private static PropertyRuleWriter Writer(HttpContext context) =>
        context.RequestServices.GetRequiredService<PropertyRuleWriter>();

    private static string? Text(IFormCollection form, string name) =>
        form[name].ToString().Trim() is { Length: > 0 } text ? text : null;
}

/// <summary>What a page shows beside the rules.</summary>
public sealed record PropertyRulesShown
{
    public string? After { get; init; }
    public string? RuleError { get; init; }
    public string? DefaultsError { get; init; }
    public string? PreviewError { get; init; }
    public PropertyRuleRequest? Draft { get; init; }
    public string? Event { get; init; }
    public PropertyPreviewResponse? Preview { get; init; }
    public int StatusCode { get; init; } = StatusCodes.Status200OK;
}
