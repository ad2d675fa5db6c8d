using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary><c>POST /v1/admin/policies/simulate</c>: who would have been refused.</summary>
internal static class SimulateEndpoint
{
    private const string RetryAfterSeconds = "10";

    public static void Map(RouteGroupBuilder group) =>
        group
            .MapPost(
                "/simulate",
                (
                    JsonBody<SimulateRequest> body,
                    HttpContext context,
                    Database database,
                    EnterpriseDirectory enterprises,
                    PolicyReplay replay,
                    TimeProvider time,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : HandleAsync(body.Value, context, database, enterprises, replay, time, cancel)
            )
            .RequirePermission(Permissions.PoliciesRead)
            .WithName("SimulatePolicy")
            .WithSummary("Replays a policy over recorded usage and says who would have been refused; changes nothing")
            .WithDescription(
                "Of at most 31 local days and 5,000,000 events. Networks and API keys are not recorded with events: such "
                    + "conditions are taken as met and named in `notReplayed`."
            )
            .Produces<SimulateResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(429);

    /// <summary>Also the web page's.</summary>
    internal static async Task<IResult> HandleAsync(
        SimulateRequest request,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        PolicyReplay replay,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (request.Policy is null)
        {
            return Problems.Problem(400, "invalid_request", "policy: is missing.");
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (
            LocalDays.Parse(
                request.From,
                request.To,
                enterprise,
                time.GetUtcNow(),
                out string error,
                PolicyReplay.RangeDaysMax
            )
            is not { } range
        )
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        PolicyDraft? draft;
        await using (
            ScopedTransaction own = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken)
        )
        {
            if (
                request.Replaces is { } replaced
                && !await PolicyStore.ExistsAsync(own, enterprise.EnterpriseId, replaced, cancellationToken)
            )
            {
                return Problems.Problem(404, "not_found", "Your enterprise has no such policy to replace.");
            }

            (draft, error) = await PolicyDraft.ReadAsync(request.Policy, enterprise, own, cancellationToken);
        }

        if (draft is null)
        {
            return Problems.Problem(400, "invalid_request", "policy." + error);
        }

        try
        {
            if (await replay.RunAsync(enterprise, draft, request.Replaces, range, cancellationToken) is { } simulated)
            {
                return Results.Ok(simulated);
            }
        }
        catch (ReplayTooLargeException tooLarge)
        {
            return Problems.Problem(400, "range_too_large", "The range " + tooLarge.Message);
        }

        context.Response.Headers.RetryAfter = RetryAfterSeconds;
        return Problems.Problem(429, "busy", "Other policies are being simulated. Try again in some seconds.");
    }
}
