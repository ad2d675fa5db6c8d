using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>Mails that tell people what was done to their account, in the transaction of the act: who did it not, finds out.</summary>
internal sealed class AccountNotices(MailOutbox outbox, TimeProvider time)
{
    public const string PasswordChanged = "Your password was changed";
    public const string TotpAdded = "An authenticator app was set up";
    public const string TotpRemoved = "The authenticator app was removed";
    public const string PasskeyAdded = "A passkey was added";
    public const string PasskeyRemoved = "A passkey was removed";
    public const string RecoveryCodesReplaced = "New recovery codes were made";
    public const string RecoveryCodeUsed = "A recovery code was used to sign in";
    public const string FactorsReset = "Your second factors were removed by an administrator";
    public const string Guessed = "Somebody tried to get past your second factor";

    public Task SendAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        string email,
        string what,
        CancellationToken cancellationToken
    )
    {
        string when = TimeZoneInfo
            .ConvertTime(time.GetUtcNow(), enterprise.TimeZone)
            .ToString("yyyy-MM-dd HH:mm 'UTC'zzz", System.Globalization.CultureInfo.InvariantCulture);
        string text = $"""
            {what}.

            Account: {email}
            Time: {when}

            {Advice(what)}
            """;
        return outbox.EnqueueAsync(
            transaction,
            enterprise,
            new MailMessage(email, $"Usage Monitor: {what}", text.ReplaceLineEndings("\n")),
            cancellationToken
        );
    }

    private static string Advice(string what) =>
        what switch
        {
            Guessed =>
                "Whoever it was knows your password and gave ten wrong codes. If it was not you, change your password now.",
            FactorsReset => "You have been signed out everywhere. Sign in and set up a second factor again.",
            _ =>
                "If it was not you, sign in, change your password, sign out everywhere else, and tell your administrator.",
        };
}
