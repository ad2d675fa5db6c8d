using Microsoft.Net.Http.Headers;

namespace UsageMonitor.Server.Web;

/// <summary>What browsers are told not to do with an answer, whichever endpoint it comes from.</summary>
internal static class SecurityHeaders
{
    // No 'unsafe-inline' anywhere: the charts set their styles through the CSSOM, which the policy lets pass.
    // data: is for the pictures inside the style sheet (the arrow of a select, the tick of a checkbox).
    private const string ContentSecurityPolicy =
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        + "form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

    // Only over https: RFC 6797, 7.2. A year, as browsers' preload lists ask for.
    private const string StrictTransportSecurity = "max-age=31536000; includeSubDomains";

    /// <summary>Comes first: every answer of every role has them, errors and refusals too.</summary>
    public static IApplicationBuilder UseSecurityHeaders(this IApplicationBuilder app) =>
        app.Use(
            (context, next) =>
            {
                // When the answer starts, because an error clears the headers that were set before it; and only what is
                // not there yet, because a service behind a gateway has said it already.
                context.Response.OnStarting(s_addMissing, context.Response);
                return next(context);
            }
        );

    private static readonly (string Name, string Value)[] s_headers =
    [
        (HeaderNames.ContentSecurityPolicy, ContentSecurityPolicy),
        (HeaderNames.XContentTypeOptions, "nosniff"),
        (HeaderNames.XFrameOptions, "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ];

    private static readonly Func<object, Task> s_addMissing = static response =>
    {
        HttpContext context = ((HttpResponse)response).HttpContext;
        IHeaderDictionary headers = context.Response.Headers;
        foreach ((string name, string value) in s_headers)
        {
            headers.TryAdd(name, value);
        }

        if (context.Request.IsHttps)
        {
            headers.TryAdd(HeaderNames.StrictTransportSecurity, StrictTransportSecurity);
        }

        return Task.CompletedTask;
    };
}
