namespace UsageMonitor.Server.Web;

internal static class AlertPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
