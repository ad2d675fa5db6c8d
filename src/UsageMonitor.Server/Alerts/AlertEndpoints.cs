namespace UsageMonitor.Server.Alerts;

/// <summary><c>/v1/admin/alerts</c> and <c>/v1/admin/webhooks</c>.</summary>
internal static class AlertEndpoints
{
    public static void MapAlertEndpoints(this IEndpointRouteBuilder routes) => _ = routes;
}
