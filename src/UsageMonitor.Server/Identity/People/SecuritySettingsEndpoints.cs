namespace UsageMonitor.Server.Identity.People;

internal static class SecuritySettingsEndpoints
{
    public static IEndpointRouteBuilder MapSecuritySettingsEndpoints(this IEndpointRouteBuilder routes) => routes;
}
