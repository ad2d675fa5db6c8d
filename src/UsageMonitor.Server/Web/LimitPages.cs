namespace UsageMonitor.Server.Web;

internal static class LimitPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
