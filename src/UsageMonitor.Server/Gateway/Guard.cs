using Npgsql;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;
using IPAddress = System.Net.IPAddress;
using IPNetwork = System.Net.IPNetwork;

namespace UsageMonitor.Server.Gateway;

/// <summary>
/// Stands between routing and the endpoints: nobody reaches one without the permission it names, or faster than the limits
/// allow, and one that names none is reached by nobody. Who calls is in <see cref="PermissionExtensions.GetCaller"/> afterwards.
/// </summary>
internal sealed partial class Guard(
    RequestDelegate next,
    CredentialCache credentials,
    RateLimiter limiter,
    AuditRequests audit,
    ILogger<Guard> logger
)
{
    private const string SignInPath = "/sign-in";
    private const string SetUpPath = "/account/second-factor";
    private const string ApiPath = "/v1";
    private const string RetryAfterSeconds = "1";

    // What needs a permission is for the one who has it, not for caches on the way. (Antiforgery warns of anything but no-cache.)
    private const string NotKept = "no-cache, no-store";

    // Not async: a caller who is known passes without a state machine.
    public Task InvokeAsync(HttpContext context)
    {
        Endpoint? endpoint = context.GetEndpoint();
        if (endpoint is null)
        {
            return context.Request.Path.StartsWithSegments(ApiPath, StringComparison.Ordinal)
                ? context.WriteProblemAsync(404, "not_found", "The API has nothing at this address.")
                : next(context);
        }

        if (IsRoutingsRefusal(endpoint))
        {
            return ExplainAsync(context);
        }

        string? permission = endpoint.Metadata.GetMetadata<PermissionMetadata>()?.Permission;
        if (permission is null)
        {
            EndpointWithoutPermission(endpoint.DisplayName);
            return context.WriteProblemAsync(403, "forbidden", "Nobody may call this: it names no permission.");
        }

        if (permission == Permissions.Anonymous)
        {
            return AuditRequests.IsAudited(context.Request, endpoint, isAnonymous: true)
                ? audit.RunAsync(context, endpoint, caller: null, next)
                : next(context);
        }

        context.Response.Headers.CacheControl = NotKept;
        PresentedCredential presented = PresentedCredential.Of(context.Request);
        return credentials.TryGet(presented, out Credential? credential)
            ? Admit(context, endpoint, permission, presented, credential)
            : LookUpAsync(context, endpoint, permission, presented);
    }

    private async Task LookUpAsync(
        HttpContext context,
        Endpoint endpoint,
        string permission,
        PresentedCredential presented
    )
    {
        Credential? credential;
        try
        {
            credential = await credentials.FindAsync(presented, context.RequestAborted);
        }
        catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
        {
            LookUpFailed(exception);
            context.Response.Headers.RetryAfter = RetryAfterSeconds;
            await context.WriteProblemAsync(503, "unavailable", "Who you are cannot be checked at the moment. Retry.");
            return;
        }

        await Admit(context, endpoint, permission, presented, credential);
    }

    private Task Admit(
        HttpContext context,
        Endpoint endpoint,
        string permission,
        in PresentedCredential presented,
        Credential? credential
    )
    {
        if (credential is null)
        {
            return RefuseUnknown(context, presented.Kind);
        }

        if (credential.IsSuspended)
        {
            return context.WriteProblemAsync(403, "enterprise_suspended", "Your enterprise is suspended.");
        }

        if (credential.Networks is { } networks && !IsFrom(networks, context.Connection.RemoteIpAddress))
        {
            return RefuseAsync(
                context,
                credential.Caller,
                "address_not_allowed",
                "This key may not be used from your address."
            );
        }

        // Before the permission: whoever may not, may not ask without end either.
        RateLimitMetadata? counted = endpoint.Metadata.GetMetadata<RateLimitMetadata>();
        if (counted is { ByEndpoint: true } && credential.Caller.May(permission))
        {
            return Decide(context, permission, credential);
        }

        ValueTask<RateDecision> rate = limiter.TakeAsync(
            credential.Caller,
            counted is { ByEndpoint: false } ? counted.Unit : RateUnit.Requests,
            1
        );
        return rate.IsCompletedSuccessfully
            ? Limit(context, permission, credential, rate.Result)
            : AwaitAsync(this, context, permission, credential, rate);

        static async Task AwaitAsync(
            Guard guard,
            HttpContext context,
            string permission,
            Credential credential,
            ValueTask<RateDecision> rate
        ) => await guard.Limit(context, permission, credential, await rate);
    }

    private Task Limit(HttpContext context, string permission, Credential credential, in RateDecision rate)
    {
        rate.WriteHeaders(context.Response);
        return rate.Allowed
            ? Decide(context, permission, credential)
            : context.WriteProblemAsync(429, "rate_limited", "You ask more often than you may. Wait, then ask again.");
    }

    private Task Decide(HttpContext context, string permission, Credential credential)
    {
        if (!credential.Caller.May(permission))
        {
            if (IsSettingUp(credential.Caller))
            {
                return RefuseUntilSetUp(context);
            }

            return RefuseAsync(context, credential.Caller, "forbidden", $"This needs the permission {permission}.");
        }

        if (
            credential.Kind == CredentialKind.Cookie
            && !SameOrigin.IsSafe(context.Request.Method)
            && !SameOrigin.Sent(context.Request)
        )
        {
            return RefuseAsync(context, credential.Caller, "cross_site", "A page of another site sent this request.");
        }

        credential.Use?.Note();
        context.Features.Set(credential.Caller);
        Endpoint endpoint = context.GetEndpoint()!;
        return AuditRequests.IsAudited(context.Request, endpoint, isAnonymous: false)
            ? audit.RunAsync(context, endpoint, credential.Caller, next)
            : next(context);
    }

    private async Task RefuseAsync(HttpContext context, Caller caller, string code, string detail)
    {
        await audit.RefusedAsync(context, context.GetEndpoint()!, caller, code);
        await context.WriteProblemAsync(403, code, detail);
    }

    private static bool IsFrom(IReadOnlyList<IPNetwork> networks, IPAddress? address)
    {
        if (address is { IsIPv4MappedToIPv6: true })
        {
            address = address.MapToIPv4();
        }

        return address is not null && networks.Any(network => network.Contains(address));
    }

    private static bool IsSettingUp(Caller caller) =>
        caller.May(Permissions.SettingUp) && !caller.May(Permissions.Person);

    private static Task RefuseUntilSetUp(HttpContext context)
    {
        if (WantsPage(context.Request))
        {
            context.Response.StatusCode = StatusCodes.Status303SeeOther;
            context.Response.Headers.Location = context.Request.PathBase + SetUpPath;
            return Task.CompletedTask;
        }

        return context.WriteProblemAsync(
            403,
            "second_factor_required",
            "Your enterprise asks for a second factor. Set one up first."
        );
    }

    private static Task RefuseUnknown(HttpContext context, CredentialKind kind)
    {
        HttpRequest request = context.Request;
        if (kind is CredentialKind.None or CredentialKind.Cookie && WantsPage(request))
        {
            string returnUrl = Uri.EscapeDataString(request.PathBase + request.Path + request.QueryString);
            context.Response.StatusCode = StatusCodes.Status303SeeOther;
            context.Response.Headers.Location = $"{request.PathBase}{SignInPath}?returnUrl={returnUrl}";
            return Task.CompletedTask;
        }

        if (kind == CredentialKind.None)
        {
            context.Response.Headers.WWWAuthenticate = "Bearer";
            return context.WriteProblemAsync(401, "unauthenticated", "Send Authorization: Bearer with a token or key.");
        }

        context.Response.Headers.WWWAuthenticate = "Bearer error=\"invalid_token\"";
        return context.WriteProblemAsync(401, "invalid_token", "The token or key is unknown, expired or revoked.");
    }

    // Routing says no without a word; an error has a body with a code.
    private async Task ExplainAsync(HttpContext context)
    {
        await next(context);
        if (context.Response is { HasStarted: false, StatusCode: 405 })
        {
            await context.WriteProblemAsync(
                405,
                "method_not_allowed",
                "See the header Allow for what this address takes."
            );
        }
        else if (context.Response is { HasStarted: false, StatusCode: 415 })
        {
            await context.WriteProblemAsync(
                415,
                "unsupported_media_type",
                "The Content-Type must be application/json."
            );
        }
    }

    private static bool WantsPage(HttpRequest request) =>
        !request.Path.StartsWithSegments(ApiPath, StringComparison.Ordinal)
        && request.Headers.Accept.ToString().Contains("text/html", StringComparison.OrdinalIgnoreCase);

    // Routing answers a wrong method (405) or media type (415) by endpoints of its own that do nothing else.
    private static bool IsRoutingsRefusal(Endpoint endpoint) =>
        endpoint is not RouteEndpoint
        && endpoint.Metadata.Count == 0
        && endpoint.DisplayName is "405 HTTP Method Not Supported" or "415 HTTP Unsupported Media Type";

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The endpoint {Endpoint} names no permission and is refused to all."
    )]
    private partial void EndpointWithoutPermission(string? endpoint);

    [LoggerMessage(Level = LogLevel.Error, Message = "A credential could not be looked up.")]
    private partial void LookUpFailed(Exception exception);
}
