using System.Collections.Concurrent;
using System.Text;
using Npgsql;

namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>Puts requests into the scope of their audit: who calls, from where, and what they do.</summary>
internal sealed partial class AuditRequests(AuditTrail trail, AuditRefusals refusals, ILogger<AuditRequests> logger)
{
    private static readonly ConcurrentDictionary<string, string> s_names = new();

    /// <summary>
    /// Whether what the endpoint does may be an act. A page or a number that a known caller reads is none, unless it says so; what
    /// anybody may ask for can be one, as the way back from an identity provider.
    /// </summary>
    public static bool IsAudited(HttpRequest request, Endpoint endpoint, bool isAnonymous) =>
        IsRead(request)
            ? isAnonymous || endpoint.Metadata.GetMetadata<AuditedReadMetadata>() is not null
            : endpoint.Metadata.GetMetadata<NotAuditedMetadata>() is not { HasScope: false };

    /// <summary>Runs an endpoint in its scope. An entry of what is shown is written first: what cannot be audited is not shown.</summary>
    public async Task RunAsync(HttpContext context, Endpoint endpoint, Caller? caller, RequestDelegate next)
    {
        AuditScope.Current = Begin(context, endpoint, caller);
        if (caller is not null && endpoint.Metadata.GetMetadata<AuditedReadMetadata>() is { } read)
        {
            await trail.RecordAsync(
                caller.EnterpriseId,
                new AuditEntry(read.Action, read.TargetKind, TargetOf(context, caller, read)),
                context.RequestAborted
            );
        }

        await next(context);
        if (caller is not null && context.Response.StatusCode == StatusCodes.Status403Forbidden)
        {
            await RefusedAsync(context, endpoint, caller, "refused");
        }
    }

    /// <summary>A caller was refused. The first time in a minute it is written at once, then counted and told when the minute is over.</summary>
    /// <param name="context">The request.</param>
    /// <param name="endpoint">What was asked for.</param>
    /// <param name="caller">By whom.</param>
    /// <param name="code">Why, as the answer's problem says.</param>
    public async Task RefusedAsync(HttpContext context, Endpoint endpoint, Caller caller, string code)
    {
        var refusal = new Refusal(
            caller.EnterpriseId,
            AuditActor.Of(caller),
            NameOf(context.Request, endpoint),
            code,
            context.Connection.RemoteIpAddress?.ToString()
        );
        if (!refusals.IsFirst(refusal))
        {
            return;
        }

        AuditScope? before = AuditScope.Current;
        AuditScope.Current = Begin(context, endpoint, caller);
        try
        {
            await trail.RecordAsync(refusal.EnterpriseId, refusal.Entry(times: 1), CancellationToken.None);
        }
        catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
        {
            // Nothing was done that could be undone; refused it stays.
            NotWritten(exception);
        }
        finally
        {
            AuditScope.Current = before;
        }
    }

    private static bool IsRead(HttpRequest request) =>
        HttpMethods.IsGet(request.Method) || HttpMethods.IsHead(request.Method);

    /// <summary>The scope of a request.</summary>
    private AuditScope Begin(HttpContext context, Endpoint endpoint, Caller? caller) =>
        new(trail, caller is null ? AuditActor.Anonymous : AuditActor.Of(caller))
        {
            Address = context.Connection.RemoteIpAddress?.ToString(),
            RequestId = context.TraceIdentifier,
            Otherwise =
                IsRead(context.Request) || endpoint.Metadata.GetMetadata<NotAuditedMetadata>() is not null
                    ? null
                    : new AuditEntry(NameOf(context.Request, endpoint), null, TargetOf(context, caller, null)),
        };

    /// <summary>What an endpoint is called in the audit log: <c>CreateApiKey</c> is <c>create_api_key</c>.</summary>
    public static string NameOf(HttpRequest request, Endpoint endpoint) =>
        endpoint.Metadata.GetMetadata<IEndpointNameMetadata>()?.EndpointName is { } name
            ? s_names.GetOrAdd(name, SnakeCase)
            : $"{request.Method} {(endpoint as RouteEndpoint)?.RoutePattern.RawText}";

    // Whom the caller calls by an address or a name is told by their internal id.
    private static string? TargetOf(HttpContext context, Caller? caller, AuditedReadMetadata? read)
    {
        string? named = context.Request.RouteValues.LastOrDefault(value => value.Value is string).Value as string;
        return named is not null && caller is not null && read?.TargetKind == "user"
            ? UserIds.Resolve(caller.EnterpriseId, named, out _).ToString()
            : named;
    }

    private static string SnakeCase(string name)
    {
        var snake = new StringBuilder();
        foreach (char c in name)
        {
            if (char.IsAsciiLetterUpper(c) && snake.Length > 0)
            {
                snake.Append('_');
            }

            snake.Append(char.ToLowerInvariant(c));
        }

        return snake.ToString();
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "A refusal could not be written to the audit log.")]
    private partial void NotWritten(Exception exception);
}
