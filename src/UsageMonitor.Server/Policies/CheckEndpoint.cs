namespace UsageMonitor.Server.Policies;

internal static class CheckEndpoint
{
    public static IEndpointRouteBuilder MapCheckEndpoint(this IEndpointRouteBuilder routes) => routes;
}
