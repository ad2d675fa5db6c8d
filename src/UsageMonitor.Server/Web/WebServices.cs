using Microsoft.AspNetCore.DataProtection;
using Microsoft.AspNetCore.ResponseCompression;

namespace UsageMonitor.Server.Web;

internal static class WebServices
{
    private const string FormCookieName = "um_form";

    /// <summary>What the pages need. <see cref="MasterKeyProtection"/> takes the place of ASP.NET's key ring.</summary>
    public static IServiceCollection AddWeb(this IServiceCollection services)
    {
        services.AddRazorComponents();
        services.AddAntiforgery(options =>
        {
            options.Cookie.Name = FormCookieName;
            options.Cookie.SameSite = SameSiteMode.Strict;
            options.Cookie.SecurePolicy = CookieSecurePolicy.SameAsRequest;
            options.FormFieldName = "_form";
            options.SuppressXFrameOptionsHeader = true; // SecurityHeaders says it for every answer
        });

        // Its only task is to load the key ring, which would put keys into a folder of this machine.
        foreach (ServiceDescriptor preload in services.Where(IsKeyRingPreload).ToArray())
        {
            services.Remove(preload);
        }

        services.AddSingleton<IDataProtectionProvider, MasterKeyProtection>();

        // Pages only. Their one secret, the form's token, is sealed with another nonce each time, so that the length of a
        // compressed page says nothing of it (BREACH).
        services.AddResponseCompression(options =>
        {
            options.EnableForHttps = true;
            options.MimeTypes = ["text/html"];
            options.Providers.Add<BrotliCompressionProvider>();
            options.Providers.Add<GzipCompressionProvider>();
        });
        services.AddSingleton<PageAssets>();
        return services;
    }

    private static bool IsKeyRingPreload(ServiceDescriptor service) =>
        service.ServiceType == typeof(IHostedService)
        && service.ImplementationType?.Assembly == typeof(DataProtectionOptions).Assembly;
}
