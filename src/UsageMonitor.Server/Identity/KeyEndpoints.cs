namespace UsageMonitor.Server.Identity;

internal static class KeyEndpoints
{
    public static IEndpointRouteBuilder MapKeyEndpoints(this IEndpointRouteBuilder routes) => routes;
}
