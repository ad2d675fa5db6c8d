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

    public static IApplicationBuilder UseSecurityHeaders(this IApplicationBuilder app) =>
        app.Use(
            (context, next) =>
            {
                IHeaderDictionary headers = context.Response.Headers;
                headers.ContentSecurityPolicy = ContentSecurityPolicy;
                headers.XContentTypeOptions = "nosniff";
                headers.XFrameOptions = "DENY";
                headers["Referrer-Policy"] = "same-origin";
                headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), payment=(), usb=()";
                headers["Cross-Origin-Opener-Policy"] = "same-origin";
                headers["Cross-Origin-Resource-Policy"] = "same-origin";
                if (context.Request.IsHttps)
                {
                    headers.StrictTransportSecurity = StrictTransportSecurity;
                }

                return next(context);
            }
        );
}
