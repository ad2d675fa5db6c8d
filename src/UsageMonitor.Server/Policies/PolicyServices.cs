namespace UsageMonitor.Server.Policies;

internal static class PolicyServices
{
    public static IServiceCollection AddPolicies(this IServiceCollection services) =>
        services.AddSingleton<PolicySets>().AddSingleton<PolicyWriter>().AddSingleton<PolicyReplay>();
}
