using Microsoft.Extensions.DependencyInjection.Extensions;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Identity.SecondFactors;

internal static class SecondFactorServices
{
    public static IServiceCollection AddSecondFactors(this IServiceCollection services)
    {
        services.TryAddSingleton<MailOutbox>();
        return services
            .AddSingleton<Challenges>()
            .AddSingleton<ProofLimit>()
            .AddSingleton<RecoveryCodes>()
            .AddSingleton<TotpSetup>()
            .AddSingleton<Passkeys>()
            .AddSingleton<FactorProofs>()
            .AddSingleton<AccountNotices>()
            .AddSingleton<SecondFactorSignIn>()
            .AddSingleton<RecentProof>()
            .AddSingleton<OwnFactors>()
            .AddSingleton<OwnSessions>();
    }
}
