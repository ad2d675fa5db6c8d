namespace UsageMonitor.Server.Alerts;

internal static class AlertServices
{
    /// <summary>Rules and outbox, for every role.</summary>
    public static IServiceCollection AddAlerts(this IServiceCollection services) =>
        services.AddSingleton<AlertRuleSets>().AddSingleton<DeliverySignal>();

    /// <summary>The sending of what is due, for the role that processes.</summary>
    public static IServiceCollection AddAlertDelivery(this IServiceCollection services) => services;
}
