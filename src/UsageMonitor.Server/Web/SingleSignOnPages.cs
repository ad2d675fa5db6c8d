namespace UsageMonitor.Server.Web;

internal static class SingleSignOnPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
