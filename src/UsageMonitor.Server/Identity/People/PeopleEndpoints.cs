namespace UsageMonitor.Server.Identity.People;

internal static class PeopleEndpoints
{
    public static IEndpointRouteBuilder MapPeopleEndpoints(this IEndpointRouteBuilder routes) => routes;
}
