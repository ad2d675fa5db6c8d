namespace UsageMonitor.Server.Web;

internal static class PeoplePages
{
    public static void Map(IEndpointRouteBuilder routes) => _ = routes;
}
