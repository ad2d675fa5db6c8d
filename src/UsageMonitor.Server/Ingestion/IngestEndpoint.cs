using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

/// <summary><c>POST /v1/usage/events</c>: read, parse, admit, make durable, answer; each step's refusal has its own code.</summary>
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
                    + "Sending an event again with the same eventId is safe: it is counted once."
            )
            .Produces<IngestResponse>(StatusCodes.Status202Accepted)
            .ProducesProblem(StatusCodes.Status400BadRequest)
            .ProducesProblem(StatusCodes.Status413PayloadTooLarge)
            .ProducesProblem(StatusCodes.Status415UnsupportedMediaType)
            .ProducesProblem(StatusCodes.Status429TooManyRequests)
            .ProducesProblem(StatusCodes.Status503ServiceUnavailable)
            .AddOpenApiOperationTransformer(IngestContract.DescribeAsync)
            .CountsItsEvents()
            .RequirePermission(Permissions.UsageWrite);

    private static async Task HandleAsync(
        HttpContext context,
        [FromServices] EnterpriseDirectory enterprises,
        [FromServices] RateLimiter limiter,
        [FromServices] Backlog backlog,
        [FromServices] GroupCommit commit,
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
            ParseOutcome parsed = EventParser.Parse(
                body.Bytes,
                body.NewlineDelimited,
                caller.EnterpriseId,
                time.GetUtcNow(),
                caller.May(Permissions.UsageBackfill)
            );
            // A body that cannot be read counts as one event: it must not be free to send.
            int received = parsed.Batch is { } events ? events.Accepted.Count + events.Rejected.Count : 0;
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

            if (received > 0 && !await TryCommitAsync(context, enterprises, commit, caller.EnterpriseId, batch))
            {
                return;
            }

            await WriteAcceptedAsync(context, batch, received);
        }
    }

    private static async Task<bool> TryCommitAsync(
        HttpContext context,
        EnterpriseDirectory enterprises,
        GroupCommit commit,
        Guid enterpriseId,
        ParsedBatch batch
    )
    {
        try
        {
            EnterpriseInfo enterprise =
                await enterprises.FindAsync(enterpriseId, context.RequestAborted)
                ?? throw new InvalidOperationException("The caller's enterprise does not exist.");
            long started = Stopwatch.GetTimestamp();
            await commit.CommitAsync(enterprise, batch);
            Telemetry.CommitSeconds.Record(Stopwatch.GetElapsedTime(started).TotalSeconds);
            return true;
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

    private static Task WriteAcceptedAsync(HttpContext context, ParsedBatch batch, int received)
    {
        Telemetry.ReceivedEvents.Add(received);
        context.Response.StatusCode = StatusCodes.Status202Accepted;
        context.Response.ContentType = "application/json; charset=utf-8";
        if (batch.Rejected.Count == 0)
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
        var response = new IngestResponse(received, batch.Accepted.Count, batch.Rejected);
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
