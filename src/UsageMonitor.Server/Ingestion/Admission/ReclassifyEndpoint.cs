using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary><c>POST /v1/admin/decisions/{receiptId}/reclassify</c>: a refused event counts after all.</summary>
internal static class ReclassifyEndpoint
{
    public static void MapReclassifyEndpoint(this IEndpointRouteBuilder routes) =>
        routes
            .MapPost("/v1/admin/decisions/{receiptId:guid}/reclassify", ReclassifyAsync)
            .WithTags("Policies")
            .RequirePermission(Permissions.DecisionsWrite)
            .WithName("ReclassifyDecision")
            .WithSummary(
                "Makes a refused event count as usage, for a reason that is kept; it counts once, however often it is asked for"
            )
            .Produces<DecisionResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409)
            .ProducesProblem(503);

    private static async Task<IResult> ReclassifyAsync(
        Guid receiptId,
        JsonBody<ReclassifyRequest> body,
        HttpContext context,
        Reclassifying reclassifying,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        return await reclassifying.TryAsync(
                enterprise,
                context.GetCaller(),
                receiptId,
                body.Value.Reason,
                cancellationToken
            ) ?? await DecisionEndpoints.AnswerAsync(enterprise, receiptId, database, cancellationToken);
    }
}
