namespace UsageMonitor.Server.Identity.Access;

internal static class AccessServices
{
    public static IServiceCollection AddAccess(this IServiceCollection services) => services;
}
