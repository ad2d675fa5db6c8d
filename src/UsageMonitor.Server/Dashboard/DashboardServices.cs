namespace UsageMonitor.Server.Dashboard;

internal static class DashboardServices
{
    public static IServiceCollection AddDashboard(this IServiceCollection services) =>
        services.AddSingleton<DashboardReader>().AddSingleton<LedgerReader>();
}
