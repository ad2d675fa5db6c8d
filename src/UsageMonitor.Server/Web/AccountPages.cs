namespace UsageMonitor.Server.Web;

internal static class AccountPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
