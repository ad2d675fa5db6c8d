namespace UsageMonitor.Server.Limits;

internal static class LimitServices
{
    public static IServiceCollection AddLimits(this IServiceCollection services) =>
        services
            .AddSingleton<LimitSets>()
            .AddSingleton<LimitWriter>()
            .AddSingleton<LimitStates>()
            .AddSingleton<LimitBacktest>();
}
