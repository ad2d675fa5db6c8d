namespace UsageMonitor.Server.Alerts;

internal static class AlertServices
{
    /// <summary>Rules, webhooks, outbox and log, for every role.</summary>
    public static IServiceCollection AddAlerts(this IServiceCollection services) =>
        services
            .AddSingleton<AlertRuleSets>()
            .AddSingleton<DeliverySignal>()
            .AddSingleton<WebhookConnections>()
            .AddSingleton<AlertRuleWriter>()
            .AddSingleton<WebhookWriter>()
            .AddSingleton<DeliveryWriter>()
            .AddSingleton<DeliveryReader>()
            .AddSingleton<AlertEventReader>();

    /// <summary>The sending of what is due, for the role that processes.</summary>
    public static IServiceCollection AddAlertDelivery(this IServiceCollection services) =>
        services.AddSingleton<DeliveryClaims>().AddHostedService<DeliverySender>();
}
