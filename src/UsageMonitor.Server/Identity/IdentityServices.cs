using UsageMonitor.Server.Identity.Access;
using UsageMonitor.Server.Identity.People;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

internal static class IdentityServices
{
    /// <summary>
    /// Everything about who calls. The host registers <see cref="Database"/>, <see cref="MasterKey"/>,
    /// <see cref="ServerSettings"/> and <see cref="TimeProvider"/>.
    /// </summary>
    public static IServiceCollection AddIdentityServices(this IServiceCollection services) =>
        services
            .AddEnterpriseDirectory()
            .AddSingleton<RedisCalls>()
            .AddSingleton<SharedCache>()
            .AddSingleton<Passwords>()
            .AddSingleton<Users>()
            .AddSingleton<Enterprises>()
            .AddSingleton<LocalThrottle>()
            .AddSingleton<SignInThrottle>()
            .AddSingleton<PasswordSignIn>()
            .AddSingleton<SigningKeys>()
            .AddHostedService<SigningKeyRotation>()
            .AddSingleton<AccessTokens>()
            .AddSingleton<Sessions>()
            .AddSingleton<CredentialStore>()
            .AddSingleton<CredentialCache>()
            .AddSingleton<BrowserSessions>()
            .AddSingleton<OperatorBootstrap>()
            .AddPeople()
            .AddSecondFactors()
            .AddAccess()
            .AddSingleSignOn();
}
