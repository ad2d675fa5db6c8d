using System.Text.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Ingestion.Admission.Reservations;

/// <summary><c>/v1/usage/reservations</c>: for acts that must be paid for before they are done.</summary>
internal static class ReservationEndpoints
{
    public const int ExpiresInSecondsDefault = 60;

    /// <summary>Redis remembers the ids of uses no longer.</summary>
    public const int ExpiresInSecondsMax = CounterStore.IdsKeptMinutes * 60;

    private static readonly CommitReservationRequest s_asReserved = new();

    public static void MapReservations(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/usage/reservations")
            .WithTags("Usage")
            .NotAudited("usage has its own ledger", hasScope: false)
            .RequirePermission(Permissions.UsageWrite)
            .CountsAsEvent();
        group
            .MapPost("", ReserveAsync)
            .WithName("ReserveUsage")
            .WithSummary("Holds one use of a feature for a user until it is committed, released or expires")
            .Produces<ReserveResponse>(201)
            .Produces<CheckResponse>(403)
            .Produces<CheckResponse>(429)
            .ProducesProblem(403)
            .ProducesProblem(429)
            .ProducesProblem(400)
            .ProducesProblem(503);
        group
            .MapPost("/{reservationId:guid}/commit", CommitAsync)
            .WithName("CommitReservation")
            .WithSummary("What was held is done: its event is durable when this is answered; repeating it is safe")
            .Produces<IngestResponse>(202)
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409)
            .ProducesProblem(503);
        group
            .MapPost("/{reservationId:guid}/release", ReleaseAsync)
            .WithName("ReleaseReservation")
            .WithSummary("Gives up what is held; repeating it is safe")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
    }

    private static async Task<IResult> ReserveAsync(
        JsonBody<ReserveRequest> body,
        HttpContext context,
        Reserving reserving,
        LimitCounters counters,
        EnterpriseDirectory enterprises,
        PolicySets sets,
        Database database,
        MonthPartitions months,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (WhatIsWrong(body.Value) is { } wrong)
        {
            return Problems.Problem(400, "invalid_request", wrong);
        }

        ReserveRequest request = body.Value;
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        Caller caller = context.GetCaller();
        DateTimeOffset now = time.GetUtcNow();
        long microseconds = EventTimestamp.FromInstant(now);
        DateTime createdAt = DateTime.UnixEpoch.AddTicks(microseconds * TimeSpan.TicksPerMicrosecond);
        Guid userId = UserIds.Resolve(enterprise.EnterpriseId, request.UserId!, out string? externalId);
        var reservation = new Reservation(
            Guid.CreateVersion7(now),
            userId,
            externalId,
            request.FeatureName!,
            request.EventType ?? EventText.EventTypeDefault,
            Reservation.Held,
            createdAt,
            createdAt.AddSeconds(request.ExpiresInSeconds ?? ExpiresInSecondsDefault),
            null
        );
        try
        {
            PolicySet policies = await sets.FindAsync(enterprise, cancellationToken);
            PolicyDecision decision = policies.Decide(
                new PolicyQuestion(
                    userId,
                    caller.ApiKeyId,
                    reservation.FeatureName,
                    PolicyActions.Record,
                    reservation.EventType,
                    microseconds,
                    ClientAddress.Of(context.Connection.RemoteIpAddress)
                )
            );
            var refused = new RefusedCheck(
                ReceiptIds.Create(now),
                userId,
                externalId,
                reservation.FeatureName,
                reservation.EventType,
                decision
            );
            if (!decision.IsAllowed)
            {
                await RecordAsync(database, months, enterprise, caller, refused, cancellationToken);
                return Results.Json(
                    new CheckResponse(false, decision.Code, null, null, null, null, refused.ReceiptId),
                    statusCode: 403
                );
            }

            ReserveOutcome outcome = await reserving.ReserveAsync(
                enterprise,
                reservation,
                caller.ApiKeyId,
                cancellationToken
            );
            var local = new LocalTime(enterprise.TimeZone);
            if (!outcome.IsHeld)
            {
                CheckResponse answer = Refusal(outcome, local, refused.ReceiptId, ref refused);
                await RecordAsync(database, months, enterprise, caller, refused, cancellationToken);
                return Results.Json(answer, statusCode: 429);
            }

            CheckResponse? limit = null;
            if (outcome.Verdict is not null)
            {
                long[]? used = await counters.ReadAsync(outcome.Plan, cancellationToken);
                limit = used is null ? null : CheckAnswers.Of(outcome.Plan, outcome.Plan.Uses[0], used, local);
            }

            return Results.Json(
                new ReserveResponse(
                    reservation.ReservationId,
                    true,
                    limit?.Limit,
                    limit?.Used,
                    limit?.Remaining,
                    limit?.ResetsAt,
                    local.Show(reservation.ExpiresAt)
                )
                {
                    LimitsUncounted = outcome.IsUncounted ? true : null,
                },
                statusCode: 201
            );
        }
        catch (PoliciesUnavailableException unavailable)
        {
            return Problems.Problem(503, "policies_unavailable", unavailable.Message);
        }
        catch (Exception exception)
            when (exception is NpgsqlException or EventLogUnavailableException or LimitsUnavailableException)
        {
            return Problems.Problem(
                503,
                "limits_unavailable",
                "Nothing could be reserved at the moment. Ask again later; what was perhaps held expires."
            );
        }
    }

    private static CheckResponse Refusal(
        ReserveOutcome outcome,
        LocalTime local,
        Guid receiptId,
        ref RefusedCheck refused
    )
    {
        if (outcome.Verdict is not { } verdict)
        {
            refused = refused with { Code = DecisionCodes.LimitUncounted };
            return new CheckResponse(false, refused.Code, null, null, null, null, receiptId);
        }

        Limits.LimitRefusal limit = outcome.Plan.RefusalOf(outcome.Plan.Uses[0], verdict);
        refused = refused with
        {
            Code = DecisionCodes.LimitReached,
            Limit = new RefusingLimit(
                limit.LimitId,
                limit.LimitVersion,
                limit.LimitValue,
                limit.Used,
                limit.Window.Start,
                limit.Window.End
            ),
        };
        return new CheckResponse(
            false,
            refused.Code,
            limit.LimitValue,
            limit.Used,
            Math.Max(0, limit.LimitValue - limit.Used),
            local.Show(limit.Window.End),
            receiptId
        )
        {
            LimitId = limit.LimitId,
        };
    }

    private static async Task<IResult> CommitAsync(
        Guid reservationId,
        OptionalJsonBody<CommitReservationRequest> body,
        HttpContext context,
        GroupCommit commit,
        PropertyRuleSets propertyRules,
        EnterpriseDirectory enterprises,
        Database database,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        DateTimeOffset now = time.GetUtcNow();
        ParsedBatch batch;
        await using (
            ScopedTransaction own = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken)
        )
        {
            if (
                await ReservationStore.LockAsync(own, enterprise, reservationId, cancellationToken)
                is not { } reservation
            )
            {
                return NotFound();
            }

            if (WhyEnded(reservation, now.UtcDateTime) is { } ended)
            {
                return ended;
            }

            ParseOutcome parsed = Event(enterprise, reservation, body.Value ?? s_asReserved, now);
            if (parsed.Batch is not { Rejected.Count: 0 } one)
            {
                string detail = parsed.Batch?.Rejected[0].Detail ?? parsed.Problem!.Detail;
                return Problems.Problem(400, "invalid_request", detail);
            }

            batch = one;
            batch.Accepted[0] = batch.Accepted[0] with { TimestampMicroseconds = reservation.TimestampMicroseconds };
            if (reservation.State == Reservation.Held)
            {
                await ReservationStore.CommitAsync(
                    own,
                    enterprise.EnterpriseId,
                    reservationId,
                    now.UtcDateTime,
                    cancellationToken
                );
                await own.CommitAsync(cancellationToken);
            }
        }

        try
        {
            (await propertyRules.FindAsync(enterprise.EnterpriseId, cancellationToken)).Apply(batch);
            await commit.CommitAsync(enterprise, batch);
        }
        catch (PropertyRulesUnavailableException exception)
        {
            return Problems.Problem(503, "property_rules_unavailable", exception.Message);
        }
        catch (EventLogUnavailableException exception)
        {
            return Problems.Problem(503, "log_unavailable", exception.Message + " Commit again: it is counted once.");
        }

        return Results.Json(new IngestResponse(1, 1, []), statusCode: 202);
    }

    // Checked as any event is: its properties will be read by the same readers.
    private static ParseOutcome Event(
        EnterpriseInfo enterprise,
        Reservation reservation,
        CommitReservationRequest request,
        DateTimeOffset now
    )
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            writer.WriteStartObject();
            writer.WriteString("userId", reservation.ExternalId ?? reservation.UserId.ToString());
            writer.WriteString("featureName", reservation.FeatureName);
            writer.WriteString("eventId", reservation.ReservationId);
            writer.WriteString("eventType", request.EventType ?? reservation.EventType);
            if (request.Properties is { ValueKind: not JsonValueKind.Null } properties)
            {
                writer.WritePropertyName("properties");
                writer.WriteRawValue(properties.GetRawText());
            }

            writer.WriteEndObject();
        }

        return EventParser.Parse(stream.ToArray(), false, enterprise.EnterpriseId, now, mayBackfill: false);
    }

    private static IResult? WhyEnded(Reservation reservation, DateTime now) =>
        reservation.State switch
        {
            Reservation.Held when now < reservation.ExpiresAt => null,
            Reservation.Committed when now - reservation.EndedAt < CounterBase.CommitTimeMax => null,
            Reservation.Committed => Problems.Problem(
                409,
                "reservation_expired",
                "The reservation was committed too long ago to be committed again."
            ),
            _ when reservation.IsGivenUp => Problems.Problem(
                409,
                "reservation_released",
                "The reservation was released."
            ),
            _ => Problems.Problem(409, "reservation_expired", "The reservation has expired. Reserve again."),
        };

    private static async Task<IResult> ReleaseAsync(
        Guid reservationId,
        HttpContext context,
        Reserving reserving,
        EnterpriseDirectory enterprises,
        Database database,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        Reservation? reservation;
        await using (
            ScopedTransaction own = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken)
        )
        {
            reservation = await ReservationStore.LockAsync(own, enterprise, reservationId, cancellationToken);
            if (reservation is null)
            {
                return NotFound();
            }

            if (reservation.State == Reservation.Committed)
            {
                return Problems.Problem(409, "reservation_committed", "The reservation was committed.");
            }

            if (reservation.State != Reservation.Held)
            {
                return Results.NoContent();
            }

            await ReservationStore.GiveUpAsync(own, enterprise.EnterpriseId, reservationId, cancellationToken);
            await own.CommitAsync(cancellationToken);
        }

        await reserving.EndAsync(enterprise, reservation, cancellationToken);
        return Results.NoContent();
    }

    private static async Task RecordAsync(
        Database database,
        MonthPartitions months,
        EnterpriseInfo enterprise,
        Caller caller,
        RefusedCheck refused,
        CancellationToken cancellationToken
    )
    {
        DateTimeOffset decidedAt = ReceiptIds.InstantOf(refused.ReceiptId)!.Value;
        await months.EnsureAsync("decisions", MonthPartitions.MonthOf(decidedAt), cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await DecisionStore.InsertAsync(own, enterprise, decidedAt, caller.ApiKeyId, [refused], cancellationToken);
        await own.CommitAsync(cancellationToken);
    }

    private static IResult NotFound() =>
        Problems.Problem(404, "not_found", "Your enterprise has no reservation of this id.");

    private static string? WhatIsWrong(ReserveRequest request) =>
        Fault(request.UserId, EventText.UserIdCharactersMax) is { } user ? $"userId: {user}."
        : Fault(request.FeatureName, EventText.NameCharactersMax) is { } feature ? $"featureName: {feature}."
        : request.EventType is { } type && Fault(type, EventText.NameCharactersMax) is { } fault
            ? $"eventType: {fault}."
        : request.ExpiresInSeconds is < 1 or > ExpiresInSecondsMax
            ? $"expiresInSeconds: must be 1 to {ExpiresInSecondsMax}."
        : null;

    private static string? Fault(string? text, int charactersMax) =>
        text is null ? "is missing" : EventText.Fault(text, charactersMax);
}
