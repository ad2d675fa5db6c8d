namespace UsageMonitor.Server.Identity;

/// <summary>
/// Tells whether a page of this server sent a request: a browser attaches the cookie to other sites' requests too.
/// </summary>
internal static class SameOrigin
{
    /// <summary>Methods that change nothing (RFC 9110, 9.2.1); they need no proof.</summary>
    public static bool IsSafe(string method) =>
        HttpMethods.IsGet(method)
        || HttpMethods.IsHead(method)
        || HttpMethods.IsOptions(method)
        || HttpMethods.IsTrace(method);

    /// <summary>
    /// <c>Sec-Fetch-Site</c> decides where the browser sends it (a secure context); elsewhere <c>Origin</c> must be ours.
    /// Neither means no.
    /// </summary>
    public static bool Sent(HttpRequest request)
    {
        string? site = request.Headers["Sec-Fetch-Site"];
        if (site is not null)
        {
            return site == "same-origin";
        }

        string? origin = request.Headers.Origin;
        return origin is not null
            && string.Equals(origin, $"{request.Scheme}://{request.Host.Value}", StringComparison.OrdinalIgnoreCase);
    }
}
