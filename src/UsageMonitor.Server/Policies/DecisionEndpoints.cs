using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary><c>/v1/admin/decisions</c>: what was refused, and why.</summary>
internal static class DecisionEndpoints
{
    /// <summary>Days of one list.</summary>
    public const int RangeDaysMax = 31;

    public static void Map(IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/admin/decisions")
            .WithTags("Policies")
            .RequirePermission(Permissions.DecisionsRead);
        group
            .MapGet("", ListAsync)
            .WithName("ListDecisions")
            .WithSummary("Lists refusals, newest first, by user and feature, of at most 31 local days")
            .Produces<DecisionListResponse>()
            .ProducesProblem(400);
        group
            .MapGet("/{receiptId:guid}", GetAsync)
            .WithName("GetDecision")
            .WithSummary("Who was refused what and when, why in words, and the policy as it was then")
            .Produces<DecisionResponse>()
            .ProducesProblem(404);
    }

    private static async Task<IResult> GetAsync(
        Guid receiptId,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        return await AnswerAsync(enterprise, receiptId, database, cancellationToken);
    }

    /// <summary>A refusal with its explanation, or that the enterprise has none of this receipt.</summary>
    public static async Task<IResult> AnswerAsync(
        EnterpriseInfo enterprise,
        Guid receiptId,
        Database database,
        CancellationToken cancellationToken
    )
    {
        if (ReceiptIds.InstantOf(receiptId) is not { } decidedAt)
        {
            return NotFound();
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        if (
            await DecisionStore.FindAsync(own, enterprise, receiptId, decidedAt, cancellationToken)
            is not
            (DecisionSummary decision, var found)
        )
        {
            return NotFound();
        }

        PolicyResponse? policy = found is null ? null : PolicyAnswers.Of(found, enterprise);
        PolicyNames names = await PolicyNames.ReadAsync(
            own,
            enterprise.EnterpriseId,
            policy is null ? [] : [policy],
            cancellationToken
        );
        decision = decision with
        {
            DecidedAt = new LocalTime(enterprise.TimeZone).Show(decision.DecidedAt.UtcDateTime),
        };
        return Results.Ok(new DecisionResponse(decision, PolicyWords.Explain(decision, policy, names), policy));
    }

    public static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        string? user,
        string? feature,
        string? from,
        string? to,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("before", before, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        if (page.Beyond is { } receipt && ReceiptIds.InstantOf(receipt) is null)
        {
            return Problems.Problem(400, "invalid_request", "before: must be what `next` has given.");
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (LocalDays.Parse(from, to, enterprise, time.GetUtcNow(), out string error, RangeDaysMax) is not { } range)
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        var local = new LocalTime(enterprise.TimeZone);
        var filter = new DecisionFilter(
            local.DayStart(range.From),
            local.DayStart(range.To),
            string.IsNullOrEmpty(user) ? null : UserIds.Resolve(enterprise.EnterpriseId, user, out _),
            string.IsNullOrEmpty(feature) ? null : feature,
            page.Beyond
        );
        int wanted = page.Limit;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<DecisionSummary> found = await DecisionStore.ListAsync(
            own,
            enterprise,
            filter,
            wanted + 1,
            cancellationToken
        );
        bool hasMore = found.Count > wanted;
        return Results.Ok(
            new DecisionListResponse(
                [
                    .. found
                        .Take(wanted)
                        .Select(decision => decision with { DecidedAt = local.Show(decision.DecidedAt.UtcDateTime) }),
                ],
                hasMore ? found[wanted - 1].ReceiptId : null
            )
        );
    }

    private static IResult NotFound() =>
        Problems.Problem(404, "not_found", "Your enterprise has no refusal of this receipt.");
}
