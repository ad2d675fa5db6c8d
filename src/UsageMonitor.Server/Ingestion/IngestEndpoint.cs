using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Ingestion;

/// <summary><c>POST /v1/usage/events</c>: read, parse, admit, decide, make durable, answer; each step's refusal has its own code.</summary>
internal static class IngestEndpoint
{
    /// <summary>What a caller is told to wait when the log is down or the queue full.</summary>
    public const int RetryAfterSeconds = 2;

    public static void MapIngestion(this IEndpointRouteBuilder routes) =>
        routes
            .MapPost("/v1/usage/events", HandleAsync)
            .WithTags("Usage")
            .WithName("PostUsageEvents")
            .WithSummary(
                "Sends usage events: one object, an array, {\"events\":[…]} or NDJSON; gzip and brotli accepted"
            )
            .WithDescription(
                "Answers 202 only after the accepted events are durable. A bad event is reported in `rejected` and spoils nothing else. "
                    + "Sending an event again with the same eventId is safe: it is counted once. An event that the enterprise's policies refuse, "
                    + "or that finds a BLOCK limit used up, is reported in `blocked` and kept as an attempt; a request of one event is then answered "
                    + "403 (policy) or 429 (limit) with the same body."
            )
            .Produces<IngestResponse>(StatusCodes.Status202Accepted)
            .Produces<IngestResponse>(StatusCodes.Status403Forbidden)
            .Produces<IngestResponse>(StatusCodes.Status429TooManyRequests)
            .ProducesProblem(StatusCodes.Status400BadRequest)
            .ProducesProblem(StatusCodes.Status413PayloadTooLarge)
            .ProducesProblem(StatusCodes.Status415UnsupportedMediaType)
            .ProducesProblem(StatusCodes.Status429TooManyRequests)
            .ProducesProblem(StatusCodes.Status503ServiceUnavailable)
            .AddOpenApiOperationTransformer(IngestContract.DescribeAsync)
            .CountsItsEvents()
            .NotAudited("usage has its own ledger", hasScope: false)
            .RequirePermission(Permissions.UsageWrite);

    private static async Task HandleAsync(
        HttpContext context,
        [FromServices] EnterpriseDirectory enterprises,
        [FromServices] RateLimiter limiter,
        [FromServices] Backlog backlog,
        [FromServices] EventAdmission admission,
        [FromServices] TimeProvider time
    )
    {
        Caller caller = context.GetCaller();
        if (backlog.IsTooLong)
        {
            await RetryLaterAsync(
                context,
                StatusCodes.Status503ServiceUnavailable,
                "log_behind",
                RetryAfterSeconds,
                "Processing is too far behind to take more events. Send them again later."
            );
            return;
        }

        BodyResult read = await RequestBody.ReadAsync(context.Request, context.RequestAborted);
        if (read.Body is not { } body)
        {
            await WriteProblemAsync(context, read.Problem!);
            return;
        }

        using (body)
        {
            DateTimeOffset now = time.GetUtcNow();
            ParseOutcome parsed = EventParser.Parse(
                body.Bytes,
                body.NewlineDelimited,
                caller.EnterpriseId,
                now,
                caller.May(Permissions.UsageBackfill)
            );
            // A body that cannot be read counts as one event: it must not be free to send.
            int received = parsed.Batch?.Received ?? 0;
            RateDecision rate = await limiter.TakeAsync(caller, RateUnit.Events, Math.Max(1, received));
            rate.WriteHeaders(context.Response);
            if (!rate.Allowed)
            {
                await context.WriteProblemAsync(
                    StatusCodes.Status429TooManyRequests,
                    "rate_limited",
                    "You, or your enterprise, send more events a second than you may. Send them again later."
                );
                return;
            }

            if (parsed.Batch is not { } batch)
            {
                await WriteProblemAsync(context, parsed.Problem!);
                return;
            }

            if (
                received > 0
                && !await TryCommitAsync(
                    context,
                    await enterprises.OfCallerAsync(context, context.RequestAborted),
                    admission,
                    batch,
                    now
                )
            )
            {
                return;
            }

            await WriteAnswerAsync(context, batch, received);
        }
    }

    private static async Task<bool> TryCommitAsync(
        HttpContext context,
        EnterpriseInfo enterprise,
        EventAdmission admission,
        ParsedBatch batch,
        DateTimeOffset now
    )
    {
        try
        {
            long started = Stopwatch.GetTimestamp();
            await admission.CommitAsync(
                enterprise,
                batch,
                new EventSender(context.GetCaller().ApiKeyId, context.Connection.RemoteIpAddress),
                now,
                context.RequestAborted
            );
            Telemetry.CommitSeconds.Record(Stopwatch.GetElapsedTime(started).TotalSeconds);
            return true;
        }
        catch (PropertyRulesUnavailableException exception)
        {
            await RetryLaterAsync(
                context,
                StatusCodes.Status503ServiceUnavailable,
                "property_rules_unavailable",
                RetryAfterSeconds,
                exception.Message
            );
            return false;
        }
        catch (PoliciesUnavailableException exception)
        {
            await RetryLaterAsync(
                context,
                StatusCodes.Status503ServiceUnavailable,
                "policies_unavailable",
                RetryAfterSeconds,
                exception.Message
            );
            return false;
        }
        catch (LimitsUnavailableException exception)
        {
            await RetryLaterAsync(
                context,
                StatusCodes.Status503ServiceUnavailable,
                "limits_unavailable",
                RetryAfterSeconds,
                exception.Message
            );
            return false;
        }
        catch (EventLogUnavailableException exception)
        {
            await RetryLaterAsync(
                context,
                StatusCodes.Status503ServiceUnavailable,
                "log_unavailable",
                RetryAfterSeconds,
                exception.Message + " Send the events again, with the same event ids: none is counted twice."
            );
            return false;
        }
    }

    private static Task WriteAnswerAsync(HttpContext context, ParsedBatch batch, int received)
    {
        Telemetry.ReceivedEvents.Add(received);
        context.Response.StatusCode = StatusCodes.Status202Accepted;
        context.Response.ContentType = "application/json; charset=utf-8";
        if (batch.Rejected.Count + batch.Blocked.Count == 0 && !batch.IsUncounted)
        {
            // By far the most frequent answer, without a serializer.
            Span<byte> answer = context.Response.BodyWriter.GetSpan(128);
            System.Text.Unicode.Utf8.TryWrite(
                answer,
                CultureInfo.InvariantCulture,
                $"{{\"received\":{received},\"accepted\":{batch.Accepted.Count},\"rejected\":[]}}",
                out int written
            );
            context.Response.ContentLength = written;
            context.Response.BodyWriter.Advance(written);
            return Task.CompletedTask;
        }

        Telemetry.RejectedEvents.Add(batch.Rejected.Count);
        Telemetry.BlockedEvents.Add(batch.Blocked.Count);
        if (batch.IsSingle && batch.Blocked.Count > 0)
        {
            BlockedAttempt only = batch.Blocked[0];
            context.Response.StatusCode = only.Code is DecisionCodes.LimitReached or DecisionCodes.LimitUncounted
                ? StatusCodes.Status429TooManyRequests
                : StatusCodes.Status403Forbidden;
        }

        List<BlockedEvent>? blocked =
            batch.Blocked.Count == 0
                ? null
                : batch.Blocked.ConvertAll(attempt => new BlockedEvent(
                    attempt.Index,
                    attempt.Code,
                    attempt.PolicyId,
                    attempt.PolicyVersion,
                    attempt.ReceiptId
                )
                {
                    LimitId = attempt.Limit?.LimitId,
                    LimitVersion = attempt.Limit?.LimitVersion,
                    ResetsAt = attempt.Limit?.Window.End,
                });
        var response = new IngestResponse(received, batch.Accepted.Count, batch.Rejected, blocked)
        {
            LimitsUncounted = batch.IsUncounted ? true : null,
        };
        return JsonSerializer.SerializeAsync(
            context.Response.BodyWriter,
            response,
            IngestJson.Default.IngestResponse,
            context.RequestAborted
        );
    }

    private static Task WriteProblemAsync(HttpContext context, IngestProblem problem) =>
        context.WriteProblemAsync(problem.Status, problem.Code, problem.Detail);

    private static Task RetryLaterAsync(HttpContext context, int status, string code, int seconds, string detail)
    {
        context.Response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
        return context.WriteProblemAsync(status, code, detail);
    }
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(IngestResponse))]
internal sealed partial class IngestJson : JsonSerializerContext;
