using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Web;

/// <summary>Light, dark or as the system has it; kept in a cookie, so that the first byte of a page has the right colours.</summary>
internal static class Theme
{
    public const string CookieName = "theme";
    private static readonly TimeSpan s_cookieAge = TimeSpan.FromDays(365);

    public static readonly IReadOnlyList<(string Name, string Label)> All =
    [
        ("light", "Light"),
        ("dark", "Dark"),
        ("auto", "System"),
    ];

    public static string Of(HttpRequest request) => Known(request.Cookies[CookieName]);

    public static void Map(IEndpointRouteBuilder routes) =>
        routes.MapForm(
            "/theme",
            Permissions.Anonymous,
            (HttpContext context, [FromForm] string? theme, [FromForm] string? returnUrl) =>
            {
                // Not HttpOnly: with JavaScript the page sets it itself, without a round trip.
                context.Response.Cookies.Append(
                    CookieName,
                    Known(theme),
                    new CookieOptions
                    {
                        MaxAge = s_cookieAge,
                        SameSite = SameSiteMode.Lax,
                        Secure = context.Request.IsHttps,
                        IsEssential = true,
                    }
                );
                return Pages.SeeOther(context, returnUrl);
            }
        );

    private static string Known(string? theme) => theme is "light" or "dark" ? theme : "auto";
}
