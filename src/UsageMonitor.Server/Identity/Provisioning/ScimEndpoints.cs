namespace UsageMonitor.Server.Identity.Provisioning;

internal static class ScimEndpoints
{
    public static IEndpointRouteBuilder MapScimEndpoints(this IEndpointRouteBuilder routes) => routes;
}
