using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary><c>POST /v1/usage/check</c>: a program asks before it lets a user do something.</summary>
internal static class CheckEndpoint
{
    /// <summary>Questions of one request.</summary>
    public const int ChecksMax = 100;

    public static IEndpointRouteBuilder MapCheckEndpoint(this IEndpointRouteBuilder routes)
    {
        routes
            .MapPost("/v1/usage/check", HandleAsync)
            .NotAudited("a refusal is kept as a decision", hasScope: false)
            .RequirePermission(Permissions.UsageCheck)
            .CountsAsEvent()
            .WithTags("Usage")
            .WithName("CheckUsage")
            .WithSummary("Asks whether a user may use a feature now; with `checks`, up to 100 at once")
            .WithDescription(
                "With `checks` the answer is `{\"results\":[…]}` in their order. A refusal is on record when it is answered."
            )
            .Produces<CheckResponse>()
            .ProducesProblem(400)
            .ProducesProblem(503);
        return routes;
    }

    private static async Task<IResult> HandleAsync(
        JsonBody<CheckRequest> body,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        PolicySets sets,
        LimitSets limitSets,
        LimitCounters counters,
        MonthPartitions months,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        CheckRequest request = body.Value;
        bool isMany = request.Checks is not null;
        IReadOnlyList<CheckQuestion> questions =
            request.Checks ?? [new CheckQuestion(request.UserId, request.FeatureName, request.EventType)];
        if (WhatIsWrong(request, questions) is { } wrong)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        PolicySet policies;
        LimitSet limits;
        try
        {
            policies = await sets.FindAsync(enterprise, cancellationToken);
            limits = await limitSets.FindAsync(enterprise.EnterpriseId, cancellationToken);
        }
        catch (PoliciesUnavailableException unavailable)
        {
            return Problems.Problem(503, "policies_unavailable", unavailable.Message);
        }
        catch (NpgsqlException)
        {
            return LimitsUnavailable();
        }

        Caller caller = context.GetCaller();
        DateTimeOffset now = time.GetUtcNow();
        long nowMicroseconds = EventTimestamp.FromInstant(now);
        var asked = new List<AskedUse>(questions.Count);
        var plan = new AdmissionPlan(enterprise, limits);
        var address = ClientAddress.Of(context.Connection.RemoteIpAddress);
        foreach (CheckQuestion question in questions)
        {
            Guid userId = UserIds.Resolve(enterprise.EnterpriseId, question.UserId!, out string? externalId);
            string eventType = question.EventType ?? EventText.EventTypeDefault;
            PolicyDecision decision = policies.Decide(
                new PolicyQuestion(
                    userId,
                    caller.ApiKeyId,
                    question.FeatureName!,
                    PolicyActions.Check,
                    eventType,
                    nowMicroseconds,
                    address
                )
            );
            if (decision.IsAllowed && limits.HasBlocking)
            {
                plan.Add(asked.Count, Guid.Empty, userId, question.FeatureName!, nowMicroseconds);
            }

            asked.Add(new AskedUse(userId, externalId, question.FeatureName!, eventType, decision));
        }

        long[]? used = [];
        if (plan.Uses.Count > 0)
        {
            try
            {
                used = await counters.ReadAsync(plan, cancellationToken);
            }
            catch (Exception exception) when (exception is NpgsqlException or EventLogUnavailableException)
            {
                return LimitsUnavailable();
            }
        }

        var local = new LocalTime(enterprise.TimeZone);
        Dictionary<int, PlannedUse> planned = plan.Uses.ToDictionary(use => use.Index);
        var refused = new List<RefusedCheck>();
        var answers = new List<CheckResponse>(questions.Count);
        for (int i = 0; i < asked.Count; i++)
        {
            CheckResponse answer = planned.TryGetValue(i, out PlannedUse use)
                ? CheckAnswers.Of(plan, use, used, local)
                : new CheckResponse(asked[i].Decision.IsAllowed, asked[i].Decision.Code, null, null, null, null, null);
            if (!answer.Allowed)
            {
                answer = answer with { ReceiptId = ReceiptIds.Create(now) };
                refused.Add(
                    new RefusedCheck(
                        answer.ReceiptId.Value,
                        asked[i].UserId,
                        asked[i].ExternalId,
                        asked[i].FeatureName,
                        asked[i].EventType,
                        asked[i].Decision
                    )
                    {
                        Code = answer.Reason,
                        Limit = planned.ContainsKey(i) ? CheckAnswers.RefusalOf(plan, use, used) : null,
                    }
                );
            }

            answers.Add(answer);
        }

        if (refused.Count > 0)
        {
            // Before the answer: who holds a receipt can look it up.
            await months.EnsureAsync("decisions", MonthPartitions.MonthOf(now), cancellationToken);
            await using ScopedTransaction own = await database.OpenEnterpriseAsync(
                enterprise.EnterpriseId,
                cancellationToken
            );
            await DecisionStore.InsertAsync(
                own,
                enterprise,
                ReceiptIds.InstantOf(refused[0].ReceiptId)!.Value,
                caller.ApiKeyId,
                refused,
                cancellationToken
            );
            await own.CommitAsync(cancellationToken);
        }

        return isMany ? Results.Ok(new CheckResultsResponse(answers)) : Results.Ok(answers[0]);
    }

    private readonly record struct AskedUse(
        Guid UserId,
        string? ExternalId,
        string FeatureName,
        string EventType,
        PolicyDecision Decision
    );

    private static IResult LimitsUnavailable() =>
        Problems.Problem(503, "limits_unavailable", "The usage limits cannot be asked at the moment. Ask again later.");

    private static string? WhatIsWrong(CheckRequest request, IReadOnlyList<CheckQuestion> questions)
    {
        if (request.Checks is { } checks)
        {
            if (request.UserId is not null || request.FeatureName is not null || request.EventType is not null)
            {
                return "checks: give either checks or userId and featureName.";
            }

            if (checks.Count is 0 or > ChecksMax)
            {
                return $"checks: must be 1 to {ChecksMax}.";
            }
        }

        for (int i = 0; i < questions.Count; i++)
        {
            string where = request.Checks is null ? "" : $"checks[{i}].";
            if (questions[i] is not { } question)
            {
                return $"checks[{i}]: must be an object.";
            }

            if (Fault(question.UserId, EventText.UserIdCharactersMax) is { } user)
            {
                return $"{where}userId: {user}.";
            }

            if (Fault(question.FeatureName, EventText.NameCharactersMax) is { } feature)
            {
                return $"{where}featureName: {feature}.";
            }

            if (question.EventType is { } type && Fault(type, EventText.NameCharactersMax) is { } eventType)
            {
                return $"{where}eventType: {eventType}.";
            }
        }

        return null;
    }

    private static string? Fault(string? text, int charactersMax) =>
        text is null ? "is missing" : EventText.Fault(text, charactersMax);
}
