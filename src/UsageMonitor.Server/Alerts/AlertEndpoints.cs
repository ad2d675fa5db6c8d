using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary><c>/v1/admin/alerts</c>, its deliveries, and <c>/v1/admin/webhooks</c>.</summary>
internal static class AlertEndpoints
{
    public static void MapAlertEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/alerts").WithTags("Alerts");
        group
            .MapPost(
                "",
                (
                    JsonBody<AlertRuleRequest> body,
                    HttpContext context,
                    AlertRuleWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.CreateAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("CreateAlert")
            .WithSummary("Makes an alert rule: who is told when a threshold is reached")
            .Produces<AlertRuleResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.AlertsRead)
            .WithName("ListAlerts")
            .WithSummary("Lists the alert rules as they were made")
            .Produces<AlertRuleListResponse>()
            .ProducesProblem(400);
        group
            .MapGet(
                "/{alertId:guid}",
                (Guid alertId, HttpContext context, AlertRuleWriter writer, CancellationToken cancel) =>
                    writer.GetAsync(context.GetCaller(), alertId, cancel)
            )
            .RequirePermission(Permissions.AlertsRead)
            .WithName("GetAlert")
            .WithSummary("An alert rule")
            .Produces<AlertRuleResponse>()
            .ProducesProblem(404);
        group
            .MapPut(
                "/{alertId:guid}",
                (
                    Guid alertId,
                    JsonBody<AlertRuleRequest> body,
                    HttpContext context,
                    AlertRuleWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.ChangeAsync(context.GetCaller(), alertId, body.Value, cancel)
            )
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("ChangeAlert")
            .WithSummary("Changes an alert rule as a whole")
            .Produces<AlertRuleResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete(
                "/{alertId:guid}",
                (Guid alertId, HttpContext context, AlertRuleWriter writer, CancellationToken cancel) =>
                    writer.DeleteAsync(context.GetCaller(), alertId, cancel)
            )
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("DeleteAlert")
            .WithSummary("Ends an alert rule; its alerts stay")
            .Produces(204)
            .ProducesProblem(404);
        group
            .MapGet("/deliveries", DeliveriesAsync)
            .RequirePermission(Permissions.AlertsRead)
            .WithName("ListAlertDeliveries")
            .WithSummary("The delivery log, the newest first, with each attempt")
            .Produces<DeliveryListResponse>()
            .ProducesProblem(400);
        group
            .MapPost(
                "/deliveries/{deliveryId:guid}/resend",
                (Guid deliveryId, HttpContext context, DeliveryWriter writer, CancellationToken cancel) =>
                    writer.ResendAsync(context.GetCaller(), deliveryId, cancel)
            )
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("ResendAlertDelivery")
            .WithSummary("Sends what was delivered or given up again, as a new delivery")
            .Produces<DeliveryAcceptedResponse>(202)
            .ProducesProblem(404)
            .ProducesProblem(409)
            .ProducesProblem(429);
        WebhookEndpoints.Map(routes);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        AlertRuleWriter writer,
        string? after,
        string? limit,
        CancellationToken cancellationToken
    ) =>
        PageQuery.Read("after", after, limit, out PageQuery page) is { } problem
            ? problem
            : Results.Ok(
                await writer.ListAsync(context.GetCaller(), page.Beyond ?? Guid.Empty, page.Limit, cancellationToken)
            );

    private static async Task<IResult> DeliveriesAsync(
        HttpContext context,
        DeliveryReader reader,
        string? state,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("before", before, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        return
            state
                is null
                    or DeliveryReader.Pending
                    or DeliveryReader.Delivered
                    or DeliveryReader.GivenUp
                    or DeliveryReader.FailedFilter
            ? Results.Ok(await reader.ListAsync(context.GetCaller(), state, page.Beyond, page.Limit, cancellationToken))
            : Problems.Problem(
                400,
                "invalid_request",
                "state: must be one of PENDING, DELIVERED, GIVEN_UP, FAILED (given up or failed so far)."
            );
    }
}
