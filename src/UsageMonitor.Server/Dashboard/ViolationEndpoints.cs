namespace UsageMonitor.Server.Dashboard;

/// <summary><c>/v1/dashboard/violations</c>.</summary>
internal static class ViolationEndpoints
{
    public static void MapViolationEndpoints(this IEndpointRouteBuilder routes) => _ = routes;
}
