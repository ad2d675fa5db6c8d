namespace UsageMonitor.Server.Web;

internal static class PolicyPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
