using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Identity.People;

/// <summary>Where links lead, and what the mails around accounts say.</summary>
/// <remarks>
/// Mails lead to <c>PublicUrl</c> and nowhere else: a request's Host header is whatever the sender of the request likes. It
/// is used only in an answer to an admin who is signed in, on a platform that sends no mail.
/// </remarks>
internal sealed class AccountMails(ServerSettings settings)
{
    public const string InvitationPath = "/invitation";
    public const string ResetPath = "/reset-password";
    private const string SignInPath = "/sign-in";

    /// <summary>The link as an admin hands it over.</summary>
    /// <param name="request">The admin's.</param>
    /// <param name="purpose">What it is for.</param>
    /// <param name="token">Its secret.</param>
    public string LinkFor(HttpRequest request, LinkPurpose purpose, string token) =>
        Link(settings.PublicUrl ?? $"{request.Scheme}://{request.Host}{request.PathBase}", purpose, token);

    public MailMessage Invitation(string email, string enterpriseName, string? invitedBy, MadeLink link) =>
        new(
            email,
            $"You are invited to {OneLine(enterpriseName)} on Usage Monitor",
            $"""
            {(invitedBy is null ? "You are invited" : $"{invitedBy} invites you")} to {OneLine(
                enterpriseName
            )} on Usage Monitor.

            Choose a password and sign in:
            {Link(PublicUrl, LinkPurpose.Invitation, link.Token)}

            The link works once, until {Instant(
                link.ExpiresAt
            )}. If you did not expect it, ignore this mail: without the link nobody becomes a member.

            """
        );

    public MailMessage InvitationToSingleSignOn(string email, string enterpriseName) =>
        new(
            email,
            $"You are invited to {OneLine(enterpriseName)} on Usage Monitor",
            $"""
            You are invited to {OneLine(enterpriseName)} on Usage Monitor.

            Sign in with your enterprise's single sign-on:
            {PublicUrl}{SignInPath}

            """
        );

    public MailMessage PasswordReset(string email, MadeLink link) =>
        new(
            email,
            "Choose a new password for Usage Monitor",
            $"""
            Somebody asked for a new password for {email} on Usage Monitor. If that was you, choose it here:
            {Link(PublicUrl, LinkPurpose.PasswordReset, link.Token)}

            The link works once, until {Instant(
                link.ExpiresAt
            )}. If it was not you, ignore this mail: your password stays as it is.

            """
        );

    public MailMessage PasswordChanged(string email) =>
        new(
            email,
            "Your password for Usage Monitor was changed",
            $"""
            The password of {email} on Usage Monitor was changed just now, and every other session was signed out.

            If that was not you, choose a new one at {PublicUrl}/forgot-password and tell your administrator.

            """
        );

    // Read only for mails that are sent, and then it is set: see ServerSettings.
    private string PublicUrl => settings.PublicUrl ?? "";

    private static string Link(string site, LinkPurpose purpose, string token) =>
        $"{site}{(purpose == LinkPurpose.Invitation ? InvitationPath : ResetPath)}?token={token}";

    private static string Instant(DateTimeOffset instant) =>
        instant.UtcDateTime.ToString("yyyy-MM-dd HH:mm 'UTC'", System.Globalization.CultureInfo.InvariantCulture);

    private static string OneLine(string text) =>
        string.Concat(text.Select(character => char.IsControl(character) ? ' ' : character));
}
