namespace UsageMonitor.Server.Policies;

internal static class PolicyEndpoints
{
    public static IEndpointRouteBuilder MapPolicyEndpoints(this IEndpointRouteBuilder routes) => routes;
}
