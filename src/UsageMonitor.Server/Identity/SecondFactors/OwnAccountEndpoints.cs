namespace UsageMonitor.Server.Identity.SecondFactors;

internal static class OwnAccountEndpoints
{
    public static IEndpointRouteBuilder MapOwnAccountEndpoints(this IEndpointRouteBuilder routes) => routes;
}
