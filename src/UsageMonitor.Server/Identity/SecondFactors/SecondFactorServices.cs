namespace UsageMonitor.Server.Identity.SecondFactors;

internal static class SecondFactorServices
{
    public static IServiceCollection AddSecondFactors(this IServiceCollection services) => services;
}
