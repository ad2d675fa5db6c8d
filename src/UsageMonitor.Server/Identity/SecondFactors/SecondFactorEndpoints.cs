namespace UsageMonitor.Server.Identity.SecondFactors;

internal static class SecondFactorEndpoints
{
    public static IEndpointRouteBuilder MapSecondFactorEndpoints(this IEndpointRouteBuilder routes) => routes;
}
