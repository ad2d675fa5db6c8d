namespace UsageMonitor.Server.Anomalies;

/// <summary><c>/v1/dashboard/anomalies</c>.</summary>
internal static class AnomalyEndpoints
{
    public static void MapAnomalyEndpoints(this IEndpointRouteBuilder routes) => _ = routes;
}
