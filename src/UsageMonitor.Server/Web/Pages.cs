using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Web;

/// <summary>Marks an endpoint whose answers are for people: a refusal is a page or the way to sign in, not problem details.</summary>
internal sealed record PageMetadata;

/// <summary>How a page becomes an endpoint.</summary>
internal static class Pages
{
    /// <summary>Maps a page; it demands a permission like any other endpoint, and there is no way to leave that out.</summary>
    public static RouteHandlerBuilder MapPage(
        this IEndpointRouteBuilder routes,
        string pattern,
        string permission,
        Delegate handler
    ) => routes.MapGet(pattern, handler).AsPage(permission);

    /// <summary>Maps where a page's form goes; an antiforgery token is demanded because it binds a form.</summary>
    public static RouteHandlerBuilder MapForm(
        this IEndpointRouteBuilder routes,
        string pattern,
        string permission,
        Delegate handler
    ) => routes.MapPost(pattern, handler).AsPage(permission);

    /// <summary>Sends the browser on after a form, but never to another site.</summary>
    public static IResult SeeOther(HttpContext context, string? returnUrl)
    {
        context.Response.Headers.Location = LocalOrHome(returnUrl);
        return TypedResults.StatusCode(StatusCodes.Status303SeeOther);
    }

    /// <summary>An address on this site, or the first page.</summary>
    /// <remarks>
    /// Browsers read <c>//host</c> and <c>/\host</c> as another site, and drop control characters before they look. An
    /// address a page was asked by is ASCII, and so is a header.
    /// </remarks>
    public static string LocalOrHome(string? address) =>
        address is ['/', ..]
        && address is not ['/', '/' or '\\', ..]
        && address.All(character => character is > ' ' and < (char)127)
            ? address
            : "/";

    private static RouteHandlerBuilder AsPage(this RouteHandlerBuilder builder, string permission) =>
        builder.WithMetadata(new PageMetadata()).RequirePermission(permission).ExcludeFromDescription();
}
