using Microsoft.Extensions.DependencyInjection.Extensions;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Identity.People;

internal static class PeopleServices
{
    public static IServiceCollection AddPeople(this IServiceCollection services)
    {
        services.TryAddSingleton<MailOutbox>();
        return services
            .AddSingleton<AccountLinks>()
            .AddSingleton<AccountMails>()
            .AddSingleton<PasswordChange>()
            .AddSingleton<LinkedAccounts>()
            .AddSingleton<Invitations>()
            .AddSingleton<PeopleChanges>()
            .AddSingleton<PeopleList>()
            .AddSingleton<PasswordResets>()
            .AddHostedService(provider => provider.GetRequiredService<PasswordResets>())
            .AddHostedService<MailSender>()
            .AddHostedService<ExpiredCredentials>();
    }
}
