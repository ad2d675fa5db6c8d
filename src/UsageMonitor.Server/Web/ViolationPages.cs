namespace UsageMonitor.Server.Web;

internal static class ViolationPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
