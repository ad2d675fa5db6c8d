namespace UsageMonitor.Server.Web;

internal static class AnomalyPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
