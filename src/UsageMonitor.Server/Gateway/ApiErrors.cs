using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway;

/// <summary>What no endpoint expected is answered as a problem like every other error: 503 while a store is away, else 500.</summary>
internal sealed partial class ApiErrors(RequestDelegate next, ILogger<ApiErrors> logger)
{
    private const string RetryAfterSeconds = "2";

    public async Task InvokeAsync(HttpContext context)
    {
        try
        {
            await next(context);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // Nobody waits for an answer.
        }
#pragma warning disable CA1031 // Whatever it is, the caller gets an answer and the log the reason.
        catch (Exception exception) when (!context.Response.HasStarted)
#pragma warning restore CA1031
        {
            context.Response.Clear();
            if (exception is BadHttpRequestException bad)
            {
                await context.WriteProblemAsync(bad.StatusCode, "invalid_request", bad.Message);
                return;
            }

            // The one character that JSON and addresses can carry and PostgreSQL's text cannot: NUL. It came from the caller.
            if (exception is PostgresException { SqlState: PostgresErrorCodes.CharacterNotInRepertoire })
            {
                await context.WriteProblemAsync(400, "invalid_request", "A text has a NUL character in it.");
                return;
            }

            if (IsAway(exception))
            {
                LogStoreAway(exception, context.Request.Method, context.Request.Path);
                context.Response.Headers.RetryAfter = RetryAfterSeconds;
                await context.WriteProblemAsync(
                    503,
                    "unavailable",
                    "The database does not answer at the moment. Retry."
                );
                return;
            }

            LogFailed(exception, context.Request.Method, context.Request.Path);
            await context.WriteProblemAsync(500, "internal_error", "The server failed; its log says why.");
        }
    }

    // PostgreSQL's own errors are ours unless it says that they pass.
    private static bool IsAway(Exception exception) =>
        exception is TimeoutException or NpgsqlException { IsTransient: true }
        || (exception is NpgsqlException and not PostgresException);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Method} {Path} could not be answered: the database is away")]
    private partial void LogStoreAway(Exception exception, string method, string path);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Method} {Path} failed")]
    private partial void LogFailed(Exception exception, string method, string path);
}
