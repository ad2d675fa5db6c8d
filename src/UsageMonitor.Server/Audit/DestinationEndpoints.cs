using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Audit;

/// <summary><c>/v1/audit/destinations</c>: where the audit log is streamed to.</summary>
internal static class DestinationEndpoints
{
    public static void Map(RouteGroupBuilder audit)
    {
        RouteGroupBuilder group = audit.MapGroup("/destinations");
        group
            .MapGet(
                "",
                (HttpContext context, DestinationWriter writer, CancellationToken cancel) =>
                    writer.ListAsync(context.GetCaller(), cancel)
            )
            .RequirePermission(Permissions.AuditRead)
            .WithName("ListAuditDestinations")
            .WithSummary("Lists where the audit log is streamed to, and how far each has come")
            .Produces<AuditDestinationListResponse>();
        group
            .MapPost(
                "",
                (
                    JsonBody<AuditDestinationRequest> body,
                    HttpContext context,
                    DestinationWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.CreateAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.AuditWrite)
            .WithName("CreateAuditDestination")
            .WithSummary("Streams the audit log to a webhook or a syslog receiver; the answer shows the secret once")
            .Produces<AuditDestinationSecretResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapPut(
                "/{destinationId:guid}",
                (
                    Guid destinationId,
                    JsonBody<AuditDestinationRequest> body,
                    HttpContext context,
                    DestinationWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.ChangeAsync(context.GetCaller(), destinationId, body.Value, cancel)
            )
            .RequirePermission(Permissions.AuditWrite)
            .WithName("ChangeAuditDestination")
            .WithSummary("Changes a destination as a whole; its cursor and its secret stay")
            .Produces<AuditDestinationResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404);
        group
            .MapDelete(
                "/{destinationId:guid}",
                (Guid destinationId, HttpContext context, DestinationWriter writer, CancellationToken cancel) =>
                    writer.DeleteAsync(context.GetCaller(), destinationId, cancel)
            )
            .RequirePermission(Permissions.AuditWrite)
            .WithName("DeleteAuditDestination")
            .WithSummary("Streams to a destination no more")
            .Produces(204)
            .ProducesProblem(404);
        group
            .MapPost(
                "/{destinationId:guid}/replay",
                (
                    Guid destinationId,
                    JsonBody<AuditReplayRequest> body,
                    HttpContext context,
                    DestinationWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.ReplayAsync(context.GetCaller(), destinationId, body.Value, cancel)
            )
            .RequirePermission(Permissions.AuditWrite)
            .WithName("ReplayAuditDestination")
            .WithSummary("Sends a destination everything from an entry on again")
            .Produces<AuditDestinationResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404);
    }
}
