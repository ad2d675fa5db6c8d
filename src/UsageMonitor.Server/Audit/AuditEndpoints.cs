using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary><c>/v1/audit</c>: who did what. Operators see the platform's own chain there, everybody else that of their enterprise.</summary>
internal static class AuditEndpoints
{
    private const int TextCharactersMax = 300;

    public static IEndpointRouteBuilder MapAuditEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/audit").WithTags("Audit");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.AuditRead)
            .WithName("ListAuditEntries")
            .WithSummary("Lists who did what, newest first, by time, actor, action, target and outcome")
            .Produces<AuditListResponse>()
            .ProducesProblem(400);
        group
            .MapGet("/{sequence}", GetAsync)
            .RequirePermission(Permissions.AuditRead)
            .WithName("GetAuditEntry")
            .WithSummary("An entry of the audit log, with what was before and after")
            .Produces<AuditEntryResponse>()
            .ProducesProblem(404);
        group
            .MapGet("/export", ExportAsync)
            .RequirePermission(Permissions.AuditExport)
            .AuditedRead("audit.exported", "audit_log")
            .WithName("ExportAuditLog")
            .WithSummary("The audit log as NDJSON that can be verified offline, or as CSV or CEF")
            .Produces<string>(200, "application/x-ndjson", "text/csv", "text/plain")
            .ProducesProblem(400);
        group
            .MapGet("/checkpoints", CheckpointsAsync)
            .RequirePermission(Permissions.AuditRead)
            .WithName("ListAuditCheckpoints")
            .WithSummary("Lists signed checkpoints, newest first; keep them elsewhere")
            .Produces<AuditCheckpointListResponse>()
            .ProducesProblem(400);
        group
            .MapPost("/checkpoints", SignAsync)
            .RequirePermission(Permissions.AuditWrite)
            .WithName("SignAuditCheckpoint")
            .WithSummary("Signs how far the chain goes now")
            .Produces<AuditCheckpointResponse>(201);
        group
            .MapGet("/keys", KeysAsync)
            .RequirePermission(Permissions.AuditRead)
            .WithName("ListAuditKeys")
            .WithSummary("The public keys of all checkpoints, as a JSON Web Key Set (RFC 7517)")
            .Produces<AuditKeysResponse>();
        group
            .MapPost("/verify", VerifyAsync)
            .RequirePermission(Permissions.AuditRead)
            .NotAudited("looks, and changes nothing")
            .WithName("VerifyAuditLog")
            .WithSummary($"Checks up to {AuditCheckpoints.VerifiedMax} entries of the chain")
            .Produces<AuditVerifyResponse>()
            .ProducesProblem(400);
        DestinationEndpoints.Map(group);
        return routes;
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        string? from,
        string? to,
        string? action,
        string? actorId,
        string? targetKind,
        string? targetId,
        string? outcome,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("after", null, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        if (Read(from, to, action, actorId, targetKind, targetId, outcome, before, out string wrong) is not { } filter)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        List<AuditRecord> found = await AuditReader.ListAsync(
            own,
            enterprise,
            filter,
            page.Limit + 1,
            cancellationToken
        );
        bool hasMore = found.Count > page.Limit;
        return Results.Ok(
            new AuditListResponse(
                [.. found.Take(page.Limit).Select(Answer)],
                hasMore ? found[page.Limit - 1].Sequence : null
            )
        );
    }

    /// <summary>Reads a filter as it is asked for; null: something is wrong with it.</summary>
    internal static AuditFilter? Read(
        string? from,
        string? to,
        string? action,
        string? actorId,
        string? targetKind,
        string? targetId,
        string? outcome,
        string? before,
        out string wrong
    )
    {
        wrong = "";
        if (!TryInstant(from, out DateTimeOffset? first) || !TryInstant(to, out DateTimeOffset? last))
        {
            wrong = "from, to: must be instants such as 2026-03-10T12:00:00Z.";
            return null;
        }

        Guid? actor = null;
        if (!string.IsNullOrEmpty(actorId))
        {
            if (!Guid.TryParseExact(actorId, "D", out Guid given))
            {
                wrong = "actorId: must be a UUID.";
                return null;
            }

            actor = given;
        }

        if (outcome is not (null or "" or AuditEntry.Done or AuditEntry.Failed or AuditEntry.Refused))
        {
            wrong = "outcome: must be one of DONE, FAILED, REFUSED.";
            return null;
        }

        if (!TrySequence(before, out long? sequence))
        {
            wrong = "before: must be what `next` has given.";
            return null;
        }

        foreach (string? text in new[] { action, targetKind, targetId })
        {
            if (text?.Length > TextCharactersMax || text?.Contains('\0', StringComparison.Ordinal) == true)
            {
                wrong = $"action, targetKind, targetId: must have {TextCharactersMax} characters at most.";
                return null;
            }
        }

        return new AuditFilter
        {
            From = first,
            To = last,
            Action = Given(action),
            ActorId = actor,
            TargetKind = Given(targetKind),
            TargetId = Given(targetId),
            Outcome = Given(outcome),
            Before = sequence,
        };
    }

    private static string? Given(string? text) => string.IsNullOrEmpty(text) ? null : text;

    private static bool TryInstant(string? text, out DateTimeOffset? instant)
    {
        instant = null;
        if (string.IsNullOrEmpty(text))
        {
            return true;
        }

        bool isInstant = DateTimeOffset.TryParse(
            text,
            CultureInfo.InvariantCulture,
            DateTimeStyles.AssumeUniversal,
            out DateTimeOffset given
        );
        instant = isInstant ? given.ToUniversalTime() : null;
        return isInstant;
    }

    private static bool TrySequence(string? text, out long? sequence)
    {
        sequence = null;
        if (string.IsNullOrEmpty(text))
        {
            return true;
        }

        bool isNumber = long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long given);
        sequence = given;
        return isNumber && given > 0;
    }

    private static async Task<IResult> GetAsync(
        string sequence,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        return
            TrySequence(sequence, out long? number)
            && await AuditReader.FindAsync(own, enterprise, number ?? 0, cancellationToken) is { } record
            ? Results.Ok(Answer(record))
            : Problems.Problem(404, "not_found", "Your enterprise has no such entry.");
    }

    private static async Task<IResult> ExportAsync(
        HttpContext context,
        AuditExport export,
        EnterpriseDirectory enterprises,
        string? format,
        string? fromSequence,
        string? toSequence,
        CancellationToken cancellationToken
    )
    {
        format = string.IsNullOrEmpty(format) ? AuditExport.NdJson : format;
        if (AuditExport.MediaTypeOf(format) is not { } mediaType)
        {
            return Problems.Problem(400, "invalid_request", "format: must be one of ndjson, csv, cef.");
        }

        if (!TrySequence(fromSequence, out long? from) || !TrySequence(toSequence, out long? to))
        {
            return Problems.Problem(400, "invalid_request", "fromSequence, toSequence: must be 1 or more.");
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        return Results.Stream(
            stream => export.WriteAsync(stream, enterprise, format, from ?? 1, to, context.RequestAborted),
            mediaType,
            $"audit-log.{format}"
        );
    }

    private static async Task<IResult> CheckpointsAsync(
        HttpContext context,
        Database database,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("after", null, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        if (!TrySequence(before, out long? sequence))
        {
            return Problems.Problem(400, "invalid_request", "before: must be what `next` has given.");
        }

        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        List<Checkpoint> found = await AuditCheckpoints.ListAsync(
            own,
            enterpriseId,
            sequence ?? long.MaxValue,
            0,
            page.Limit + 1,
            cancellationToken
        );
        bool hasMore = found.Count > page.Limit;
        return Results.Ok(
            new AuditCheckpointListResponse(
                [.. found.Take(page.Limit).Select(Answer)],
                hasMore ? found[page.Limit - 1].Sequence : null
            )
        );
    }

    private static async Task<IResult> SignAsync(
        HttpContext context,
        AuditCheckpoints checkpoints,
        AuditTrail trail,
        CancellationToken cancellationToken
    )
    {
        // Its own entry first, so that it is within what is signed; there is a chain then.
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await trail.RecordAsync(
            enterpriseId,
            new AuditEntry("audit.checkpoint_signed", "audit_log"),
            cancellationToken
        );
        Checkpoint signed = (await checkpoints.SignAsync(enterpriseId, cancellationToken))!;
        return Results.Json(Answer(signed), statusCode: StatusCodes.Status201Created);
    }

    private static async Task<AuditKeysResponse> KeysAsync(
        HttpContext context,
        Database database,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            context.GetCaller().EnterpriseId,
            cancellationToken
        );
        return new AuditKeysResponse([.. (await AuditCheckpoints.KeysAsync(own, cancellationToken)).Values]);
    }

    private static async Task<IResult> VerifyAsync(
        JsonBody<AuditVerifyRequest> body,
        HttpContext context,
        AuditCheckpoints checkpoints,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        long from = body.Value.FromSequence ?? 1;
        if (from < 1 || body.Value.ToSequence < from)
        {
            return Problems.Problem(
                400,
                "invalid_request",
                "fromSequence must be 1 or more, and toSequence not below it."
            );
        }

        (AuditVerdict verdict, long? next) = await checkpoints.VerifyAsync(
            context.GetCaller().EnterpriseId,
            from,
            body.Value.ToSequence,
            cancellationToken
        );
        return Results.Ok(
            new AuditVerifyResponse(
                verdict.Fault is null,
                verdict.Entries,
                verdict.First,
                verdict.Last,
                verdict.AnchoredTo,
                verdict.Fault is { } fault ? new AuditFaultResponse(fault.Kind, fault.Sequence, fault.Detail) : null,
                next
            )
        );
    }

    private static AuditCheckpointResponse Answer(Checkpoint checkpoint) =>
        new(
            checkpoint.Sequence,
            Convert.ToHexStringLower(checkpoint.Hash),
            checkpoint.SignedAt,
            checkpoint.KeyId,
            checkpoint.Jws
        );

    internal static AuditEntryResponse Answer(AuditRecord record) =>
        new(
            record.Sequence,
            DateTimeOffset.Parse(record.Columns.OccurredAt, CultureInfo.InvariantCulture),
            record.Columns.Action,
            record.Columns.Outcome,
            record.Columns.ActorKind,
            record.Columns.ActorId,
            record.Columns.TargetKind,
            record.Columns.TargetId,
            record.Columns.RequestId,
            record.Columns.TraceId,
            Convert.ToHexStringLower(record.PreviousHash),
            Convert.ToHexStringLower(record.Hash),
            record.Content is "" ? null : record.Members
        );
}
