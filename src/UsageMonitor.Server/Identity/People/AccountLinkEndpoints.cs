namespace UsageMonitor.Server.Identity.People;

internal static class AccountLinkEndpoints
{
    public static IEndpointRouteBuilder MapAccountLinkEndpoints(this IEndpointRouteBuilder routes) => routes;
}
