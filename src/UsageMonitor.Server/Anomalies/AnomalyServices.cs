namespace UsageMonitor.Server.Anomalies;

internal static class AnomalyServices
{
    /// <summary>What processing needs to look for abnormal behaviour.</summary>
    public static IServiceCollection AddAnomalies(this IServiceCollection services) =>
        services
            .AddSingleton<AnomalyNotices>()
            .AddSingleton<EnterpriseStep>()
            .AddSingleton<AnomalyPass>()
            .AddHostedService<AnomalyService>();
}
