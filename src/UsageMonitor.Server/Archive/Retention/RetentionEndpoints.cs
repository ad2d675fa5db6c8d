using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive.Retention;

/// <summary><c>/v1/admin/privacy/retention</c>: how long what is kept, and the proof of what was deleted.</summary>
internal static class RetentionEndpoints
{
    /// <summary>A hundred years.</summary>
    public const int DaysMax = 36_525;

    /// <summary>UTF-16 code units.</summary>
    public const int ReasonCharactersMax = 500;

    public static void MapRetentionEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/privacy/retention").WithTags("Privacy");
        group
            .MapGet("", ReadAsync)
            .RequirePermission(Permissions.PrivacyRead)
            .WithName("GetRetention")
            .WithSummary("Answers how long what is kept, what is left of it, and what is archived")
            .Produces<RetentionResponse>();
        group
            .MapPut("", WriteAsync)
            .RequirePermission(Permissions.PrivacyWrite)
            .WithName("UpdateRetention")
            .WithSummary("Sets how long what is kept, and the legal hold")
            .Produces<RetentionResponse>()
            .ProducesProblem(400);
        group
            .MapGet("/runs", ListRunsAsync)
            .RequirePermission(Permissions.PrivacyRead)
            .WithName("ListRetentionRuns")
            .WithSummary("Lists what was deleted when, the newest first")
            .Produces<RetentionRunsResponse>()
            .ProducesProblem(400);
    }

    private static async Task<IResult> ReadAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ArchiveSettings settings,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        return Results.Ok(await RetentionStore.ReadAsync(own, enterprise, settings.AfterDays, cancellationToken));
    }

    private static async Task<IResult> WriteAsync(
        JsonBody<RetentionRequest> body,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ArchiveSettings settings,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (Check(body.Value, settings) is { } error)
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        Caller caller = context.GetCaller();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await RetentionStore.WriteAsync(
            own,
            enterprise,
            body.Value,
            caller.UserId ?? caller.ApiKeyId ?? Guid.Empty,
            time.GetUtcNow().UtcDateTime,
            cancellationToken
        );
        RetentionResponse now = await RetentionStore.ReadAsync(own, enterprise, settings.AfterDays, cancellationToken);
        await own.CommitAsync(cancellationToken);
        return Results.Ok(now);
    }

    private static async Task<IResult> ListRunsAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("before", before, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<RetentionRunSummary> runs = await RetentionStore.ListRunsAsync(
            own,
            enterprise,
            page.Beyond,
            page.Limit + 1,
            cancellationToken
        );
        bool hasMore = runs.Count > page.Limit;
        return Results.Ok(
            new RetentionRunsResponse([.. runs.Take(page.Limit)], hasMore ? runs[page.Limit - 1].RunId : null)
        );
    }

    private static string? Check(RetentionRequest asked, ArchiveSettings settings)
    {
        if (asked is not { Archive: { } archive, LegalHold: { } hold })
        {
            return "archive and legalHold are required.";
        }

        int?[] days =
        [
            asked.EventsDays,
            asked.UserAggregatesDays,
            asked.AggregatesDays,
            asked.AuditDays,
            asked.DecisionsDays,
        ];
        if (Array.Exists(days, one => one is < 1 or > DaysMax))
        {
            return $"Days must be 1 to {DaysMax}, or null to keep for ever.";
        }

        if (asked.AuditDays < AuditTrim.DaysMin)
        {
            return $"auditDays: must be at least {AuditTrim.DaysMin}.";
        }

        if (archive && asked.EventsDays <= settings.AfterDays)
        {
            return $"eventsDays: must be more than {settings.AfterDays}, when days are archived; or set archive to false.";
        }

        // What is left to archive or to look through is found by the aggregates.
        if (asked.AggregatesDays is { } aggregates && (asked.EventsDays is not { } events || aggregates < events))
        {
            return "aggregatesDays: must be no shorter than eventsDays.";
        }

        if (hold && string.IsNullOrWhiteSpace(asked.LegalHoldReason))
        {
            return "legalHoldReason: a legal hold needs a reason.";
        }

        return asked.LegalHoldReason?.Length > ReasonCharactersMax
            ? $"legalHoldReason: at most {ReasonCharactersMax} characters."
            : null;
    }
}
