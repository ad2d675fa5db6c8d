namespace UsageMonitor.Server.Identity.SingleSignOn;

internal static class SingleSignOnServices
{
    public static IServiceCollection AddSingleSignOn(this IServiceCollection services) => services;
}
