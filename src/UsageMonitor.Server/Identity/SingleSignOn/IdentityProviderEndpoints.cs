namespace UsageMonitor.Server.Identity.SingleSignOn;

internal static class IdentityProviderEndpoints
{
    public static IEndpointRouteBuilder MapIdentityProviderEndpoints(this IEndpointRouteBuilder routes) => routes;
}
