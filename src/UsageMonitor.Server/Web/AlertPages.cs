using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Net.Http.Headers;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/alerts</c>: what was told and whether it arrived, who is told of what, and webhooks; by the API's own handlers.</summary>
internal static class AlertPages
{
    public const string Address = "/alerts";
    private const int AlertsShown = 25;
    private const int DeliveriesShown = 25;

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.AlertsRead, (HttpContext context) => ShowAsync(context, null, null, null));
        routes.MapForm(
            Address + "/rules",
            Permissions.AlertsWrite,
            (HttpContext context, [FromForm] IFormCollection form) => SaveRuleAsync(context, AlertForm.Read(form, null))
        );
        routes.MapForm(
            Address + "/rules/{alertId:guid}",
            Permissions.AlertsWrite,
            (Guid alertId, HttpContext context, [FromForm] IFormCollection form) =>
                SaveRuleAsync(context, AlertForm.Read(form, alertId))
        );
        routes.MapForm(
            Address + "/rules/{alertId:guid}/delete",
            Permissions.AlertsWrite,
            (Guid alertId, HttpContext context, AlertRuleWriter writer, [FromForm] IFormCollection _) =>
                ThenShowAsync(
                    context,
                    writer.DeleteAsync(context.GetCaller(), alertId, context.RequestAborted),
                    "rules"
                )
        );
        routes.MapForm(
            Address + "/webhooks",
            Permissions.AlertsWrite,
            (HttpContext context, [FromForm] IFormCollection form) =>
                SaveWebhookAsync(context, WebhookForm.Read(form, null))
        );
        routes.MapForm(
            Address + "/webhooks/{webhookId:guid}",
            Permissions.AlertsWrite,
            (Guid webhookId, HttpContext context, [FromForm] IFormCollection form) =>
                SaveWebhookAsync(context, WebhookForm.Read(form, webhookId))
        );
        routes.MapForm(
            Address + "/webhooks/{webhookId:guid}/delete",
            Permissions.AlertsWrite,
            (Guid webhookId, HttpContext context, WebhookWriter writer, [FromForm] IFormCollection _) =>
                ThenShowAsync(
                    context,
                    writer.DeleteAsync(context.GetCaller(), webhookId, context.RequestAborted),
                    "webhooks"
                )
        );
        routes.MapForm(
            Address + "/webhooks/{webhookId:guid}/rotate-secret",
            Permissions.AlertsWrite,
            async (Guid webhookId, HttpContext context, WebhookWriter writer, [FromForm] IFormCollection _) =>
                await ShowSecretAsync(
                    context,
                    await writer.RotateSecretAsync(context.GetCaller(), webhookId, context.RequestAborted),
                    null
                )
        );
        routes.MapForm(
            Address + "/webhooks/{webhookId:guid}/test",
            Permissions.AlertsWrite,
            (Guid webhookId, HttpContext context, DeliveryWriter writer, [FromForm] IFormCollection _) =>
                ThenShowAsync(
                    context,
                    writer.TestAsync(context.GetCaller(), webhookId, context.RequestAborted),
                    "deliveries"
                )
        );
        routes.MapForm(
            Address + "/deliveries/{deliveryId:guid}/resend",
            Permissions.AlertsWrite,
            (Guid deliveryId, HttpContext context, DeliveryWriter writer, [FromForm] IFormCollection _) =>
                ThenShowAsync(
                    context,
                    writer.ResendAsync(context.GetCaller(), deliveryId, context.RequestAborted),
                    "deliveries"
                )
        );
    }

    private static async Task<IResult> SaveRuleAsync(HttpContext context, AlertForm form)
    {
        AlertRuleWriter writer = context.RequestServices.GetRequiredService<AlertRuleWriter>();
        IResult saved = form.AlertId is { } id
            ? await writer.ChangeAsync(context.GetCaller(), id, form.Request, context.RequestAborted)
            : await writer.CreateAsync(context.GetCaller(), form.Request, context.RequestAborted);
        return saved is ProblemHttpResult problem
            ? await ShowAsync(context, new AlertsProblem("rules", problem), form, null)
            : Pages.SeeOther(context, Address + "#rules");
    }

    private static async Task<IResult> SaveWebhookAsync(HttpContext context, WebhookForm form)
    {
        WebhookWriter writer = context.RequestServices.GetRequiredService<WebhookWriter>();
        if (form.WebhookId is { } id)
        {
            IResult changed = await writer.ChangeAsync(context.GetCaller(), id, form.Request, context.RequestAborted);
            return changed is ProblemHttpResult problem
                ? await ShowAsync(context, new AlertsProblem("webhooks", problem), null, form)
                : Pages.SeeOther(context, Address + "#webhooks");
        }

        return await ShowSecretAsync(
            context,
            await writer.CreateAsync(context.GetCaller(), form.Request, context.RequestAborted),
            form
        );
    }

    // The secret is shown in the answer to the form and nowhere else.
    private static Task<IResult> ShowSecretAsync(HttpContext context, IResult result, WebhookForm? form)
    {
        context.Response.Headers.Remove(HeaderNames.CacheControl); // the page's own is as strict
        return result is ProblemHttpResult problem
            ? ShowAsync(context, new AlertsProblem("webhooks", problem), null, form)
            : ShowAsync(context, null, null, null, FormOutcome.Of<WebhookSecretResponse>(result).Value);
    }

    private static async Task<IResult> ThenShowAsync(HttpContext context, Task<IResult> act, string section) =>
        await act is ProblemHttpResult problem
            ? await ShowAsync(context, new AlertsProblem(section, problem), null, null)
            : Pages.SeeOther(context, $"{Address}#{section}");

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        AlertsProblem? problem,
        AlertForm? ruleForm,
        WebhookForm? webhookForm,
        WebhookSecretResponse? made = null
    )
    {
        IServiceProvider services = context.RequestServices;
        Caller caller = context.GetCaller();
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);

        // The address of a form has no filters.
        IQueryCollection query = HttpMethods.IsGet(context.Request.Method)
            ? context.Request.Query
            : QueryCollection.Empty;
        if (
            AlertDashboardEndpoints.Read(
                query["open"],
                query["severity"],
                query["feature"],
                out AlertEventFilter filter
            )
            is not null
        )
        {
            filter = new AlertEventFilter(null, null, null);
        }

        AlertRuleListResponse rules = await services
            .GetRequiredService<AlertRuleWriter>()
            .ListAsync(caller, Guid.Empty, AlertRuleWriter.RulesMax, context.RequestAborted);
        WebhookListResponse webhooks = await services
            .GetRequiredService<WebhookWriter>()
            .ListAsync(caller, Guid.Empty, Webhook.WebhooksMax, context.RequestAborted);
        return new RazorComponentResult<AlertsPage>(
            new
            {
                Alerts = await services
                    .GetRequiredService<AlertEventReader>()
                    .ListAsync(caller, filter, Id(query["before"]), AlertsShown, context.RequestAborted),
                Rules = rules.Alerts,
                Webhooks = webhooks.Webhooks,
                Deliveries = await services
                    .GetRequiredService<DeliveryReader>()
                    .ListAsync(
                        caller,
                        query["deliveries"] == DeliveryReader.FailedFilter ? DeliveryReader.FailedFilter : null,
                        Id(query["deliveriesBefore"]),
                        DeliveriesShown,
                        context.RequestAborted
                    ),
                filter.IsOpen,
                FailedOnly = query["deliveries"] == DeliveryReader.FailedFilter,
                RuleForm = ruleForm
                    ?? AlertForm.Of(rules.Alerts.FirstOrDefault(rule => rule.AlertId == Id(query["rule"]))),
                WebhookForm = webhookForm
                    ?? WebhookForm.Of(
                        webhooks.Webhooks.FirstOrDefault(webhook => webhook.WebhookId == Id(query["webhook"]))
                    ),
                Made = made,
                Problem = problem,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = problem?.StatusCode,
        };
    }

    private static Guid? Id(string? text) => Guid.TryParseExact(text, "D", out Guid id) ? id : null;
}

/// <summary>What went wrong in a section of the page, in words.</summary>
public sealed record AlertsProblem(string Section, string Text, int StatusCode)
{
    public AlertsProblem(string section, ProblemHttpResult problem)
        : this(section, AlertForm.Explain(FormOutcome.Sentence(problem)), problem.StatusCode) { }
}
