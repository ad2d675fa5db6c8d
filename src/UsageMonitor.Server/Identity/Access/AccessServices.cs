using UsageMonitor.Server.Identity.Provisioning;

namespace UsageMonitor.Server.Identity.Access;

internal static class AccessServices
{
    public static IServiceCollection AddAccess(this IServiceCollection services) =>
        services
            .AddSingleton<ScimUsers>()
            .AddSingleton<ScimGroups>()
            .AddSingleton<ApiKeys>()
            .AddSingleton<ApiKeyUses>()
            .AddSingleton<ApiKeyUseWriter>()
            .AddHostedService(provider => provider.GetRequiredService<ApiKeyUseWriter>());
}
