using Microsoft.AspNetCore.Antiforgery;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.AspNetCore.ResponseCompression;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace UsageMonitor.Server.Web;

internal static class WebServices
{
    /// <summary>What the pages need. <see cref="MasterKeyProtection"/> takes the place of ASP.NET's key ring.</summary>
    public static IServiceCollection AddWeb(this IServiceCollection services)
    {
        services.AddRazorComponents();
        services.AddAntiforgery(options => options.FormFieldName = FormTokens.FieldName);
        services.Replace(ServiceDescriptor.Singleton<IAntiforgery, FormTokens>());

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
