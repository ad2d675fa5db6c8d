namespace UsageMonitor.Server.Identity.Access;

internal static class RoleEndpoints
{
    public static IEndpointRouteBuilder MapRoleEndpoints(this IEndpointRouteBuilder routes) => routes;
}
