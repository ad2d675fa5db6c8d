namespace UsageMonitor.Server.Limits;

/// <summary><c>/v1/admin/usage/limits</c>.</summary>
internal static class LimitEndpoints
{
    public static void MapLimitEndpoints(this IEndpointRouteBuilder routes) => _ = routes;
}
