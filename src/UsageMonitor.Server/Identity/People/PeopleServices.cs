namespace UsageMonitor.Server.Identity.People;

internal static class PeopleServices
{
    public static IServiceCollection AddPeople(this IServiceCollection services) => services;
}
