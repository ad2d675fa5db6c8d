using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Gateway;

internal static class GatewayServices
{
    public static IServiceCollection AddGatewayServices(this IServiceCollection services) =>
        services
            .AddSingleton<SharedBuckets>()
            .AddSingleton<RateLimiter>()
            .AddHostedService(provider => provider.GetRequiredService<AuditRefusals>());

    /// <summary>Guards every endpoint, and answers for what they throw. Comes after <c>UseRouting</c> and before any that runs endpoints.</summary>
    public static IApplicationBuilder UseGuard(this IApplicationBuilder app) =>
        app.UseMiddleware<ApiErrors>().UseMiddleware<Guard>();
}
