namespace UsageMonitor.Server.Web;

internal static class AccountLinkPages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
