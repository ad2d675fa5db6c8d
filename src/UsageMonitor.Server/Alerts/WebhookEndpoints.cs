using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary><c>/v1/admin/webhooks</c>.</summary>
internal static class WebhookEndpoints
{
    public static void Map(IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/webhooks").WithTags("Webhooks");
        group
            .MapPost("", CreateAsync)
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("CreateWebhook")
            .WithSummary("Makes a webhook; its secret is in this answer only")
            .Produces<WebhookSecretResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.AlertsRead)
            .WithName("ListWebhooks")
            .WithSummary("Lists the webhooks as they were made")
            .Produces<WebhookListResponse>()
            .ProducesProblem(400);
        group
            .MapGet(
                "/{webhookId:guid}",
                (Guid webhookId, HttpContext context, WebhookWriter writer, CancellationToken cancel) =>
                    writer.GetAsync(context.GetCaller(), webhookId, cancel)
            )
            .RequirePermission(Permissions.AlertsRead)
            .WithName("GetWebhook")
            .WithSummary("A webhook")
            .Produces<WebhookResponse>()
            .ProducesProblem(404);
        group
            .MapPut(
                "/{webhookId:guid}",
                (
                    Guid webhookId,
                    JsonBody<WebhookRequest> body,
                    HttpContext context,
                    WebhookWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.ChangeAsync(context.GetCaller(), webhookId, body.Value, cancel)
            )
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("ChangeWebhook")
            .WithSummary("Changes a webhook as a whole; its secret stays")
            .Produces<WebhookResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete(
                "/{webhookId:guid}",
                (Guid webhookId, HttpContext context, WebhookWriter writer, CancellationToken cancel) =>
                    writer.DeleteAsync(context.GetCaller(), webhookId, cancel)
            )
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("DeleteWebhook")
            .WithSummary("Deletes a webhook that no alert rule names")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapPost("/{webhookId:guid}/rotate-secret", RotateAsync)
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("RotateWebhookSecret")
            .WithSummary("Makes a new secret; for 24 hours deliveries are signed with the old one too")
            .Produces<WebhookSecretResponse>()
            .ProducesProblem(404);
        group
            .MapPost(
                "/{webhookId:guid}/test",
                (Guid webhookId, HttpContext context, DeliveryWriter writer, CancellationToken cancel) =>
                    writer.TestAsync(context.GetCaller(), webhookId, cancel)
            )
            .RequirePermission(Permissions.AlertsWrite)
            .WithName("TestWebhook")
            .WithSummary("Sends a test; the delivery log tells what became of it")
            .Produces<DeliveryAcceptedResponse>(202)
            .ProducesProblem(404)
            .ProducesProblem(409)
            .ProducesProblem(429);
    }

    private static Task<IResult> CreateAsync(
        JsonBody<WebhookRequest> body,
        HttpContext context,
        WebhookWriter writer,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return Task.FromResult(problem);
        }

        context.Response.Headers.CacheControl = "no-store"; // it holds a secret
        return writer.CreateAsync(context.GetCaller(), body.Value, cancellationToken);
    }

    private static Task<IResult> RotateAsync(
        Guid webhookId,
        HttpContext context,
        WebhookWriter writer,
        CancellationToken cancellationToken
    )
    {
        context.Response.Headers.CacheControl = "no-store";
        return writer.RotateSecretAsync(context.GetCaller(), webhookId, cancellationToken);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        WebhookWriter writer,
        string? after,
        string? limit,
        CancellationToken cancellationToken
    ) =>
        PageQuery.Read("after", after, limit, out PageQuery page) is { } problem
            ? problem
            : Results.Ok(
                await writer.ListAsync(context.GetCaller(), page.Beyond ?? Guid.Empty, page.Limit, cancellationToken)
            );
}
