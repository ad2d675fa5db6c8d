namespace UsageMonitor.Server.Identity.SingleSignOn;

internal static class SingleSignOnServices
{
    public static IServiceCollection AddSingleSignOn(this IServiceCollection services) =>
        services
            .AddSingleton<ProviderConnections>()
            .AddSingleton<ProviderMetadata>()
            .AddSingleton<ProviderCheck>()
            .AddSingleton<CodeExchange>()
            .AddSingleton<IdTokens>()
            .AddSingleton<SignOnAddresses>()
            .AddSingleton<SignOnStates>()
            .AddSingleton<SignOnPeople>()
            .AddSingleton<SingleSignOn>()
            .AddSingleton<IdentityProviderRules>();
}
