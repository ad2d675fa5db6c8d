namespace UsageMonitor.Server.Identity.Access;

internal static class GroupEndpoints
{
    public static IEndpointRouteBuilder MapGroupEndpoints(this IEndpointRouteBuilder routes) => routes;
}
