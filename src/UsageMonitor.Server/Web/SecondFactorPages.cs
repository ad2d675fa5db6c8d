namespace UsageMonitor.Server.Web;

internal static class SecondFactorPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
