using System.Diagnostics.CodeAnalysis;
using Microsoft.AspNetCore.Antiforgery;
using Microsoft.AspNetCore.DataProtection;

namespace UsageMonitor.Server.Web;

/// <summary>
/// The antiforgery tokens of forms, whose cookie has the prefix <c>__Host-</c> over https: a browser takes such a cookie only
/// from this very host over https, so no other host of the domain and nobody on the network can plant one.
/// </summary>
/// <remarks>ASP.NET's has one cookie name for all requests; the prefix would make browsers drop it over http.</remarks>
internal sealed class FormTokens(IDataProtectionProvider protection, ILoggerFactory loggers)
    : IAntiforgery,
        IAsyncDisposable
{
    public const string FieldName = "_form";
    private const string CookieName = "um_form";
    private const string HostOnly = "__Host-";

    private readonly ServiceProvider _plain = Build(protection, loggers, CookieName, CookieSecurePolicy.None);
    private readonly ServiceProvider _secure = Build(
        protection,
        loggers,
        HostOnly + CookieName,
        CookieSecurePolicy.Always
    );

    public AntiforgeryTokenSet GetAndStoreTokens(HttpContext httpContext) =>
        Of(httpContext).GetAndStoreTokens(httpContext);

    public AntiforgeryTokenSet GetTokens(HttpContext httpContext) => Of(httpContext).GetTokens(httpContext);

    public Task<bool> IsRequestValidAsync(HttpContext httpContext) => Of(httpContext).IsRequestValidAsync(httpContext);

    public Task ValidateRequestAsync(HttpContext httpContext) => Of(httpContext).ValidateRequestAsync(httpContext);

    public void SetCookieTokenAndHeader(HttpContext httpContext) =>
        Of(httpContext).SetCookieTokenAndHeader(httpContext);

    public async ValueTask DisposeAsync()
    {
        await _plain.DisposeAsync();
        await _secure.DisposeAsync();
    }

    private IAntiforgery Of(HttpContext context) =>
        (context.Request.IsHttps ? _secure : _plain).GetRequiredService<IAntiforgery>();

    [SuppressMessage("Reliability", "CA2000", Justification = "disposed with this")]
    private static ServiceProvider Build(
        IDataProtectionProvider protection,
        ILoggerFactory loggers,
        string cookieName,
        CookieSecurePolicy secure
    ) =>
        new ServiceCollection()
            .AddSingleton(loggers)
            .AddLogging()
            .AddAntiforgery(options =>
            {
                options.Cookie.Name = cookieName;
                options.Cookie.Path = "/";
                options.Cookie.SameSite = SameSiteMode.Strict;
                options.Cookie.SecurePolicy = secure;
                options.FormFieldName = FieldName;
                options.SuppressXFrameOptionsHeader = true; // SecurityHeaders says it for every answer
            })
            .AddSingleton(protection)
            .BuildServiceProvider();
}
