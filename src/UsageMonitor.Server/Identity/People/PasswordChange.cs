using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Identity.People;

/// <summary>
/// What a new password means, wherever it is set: the old one's sessions and links end, and the person is told by mail, so
/// that somebody else's doing does not go unnoticed (NIST SP 800-63B-4, 4.6).
/// </summary>
internal sealed class PasswordChange(AccountLinks links, AccountMails mails, MailOutbox outbox, TimeProvider time)
{
    private const string SetPassword = """
        UPDATE users SET password_hash = $3, password_changed_at = $4, updated_at = $4
        WHERE enterprise_id = $1 AND user_id = $2 AND email_hash IS NOT NULL AND deactivated_at IS NULL
        """;

    /// <summary>Sets it; commit with <see cref="IdentityVersion.CommitAsync"/>. False: the person has no sign-in any more.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterprise">The enterprise.</param>
    /// <param name="userId">The person.</param>
    /// <param name="email">Who is told.</param>
    /// <param name="hash">By <see cref="Passwords.Hash"/>, of one that <see cref="PasswordRules"/> accept.</param>
    /// <param name="keptSessionId">The session in which the person changed it themselves, or null: all end.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<bool> ApplyAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        string email,
        string hash,
        Guid? keptSessionId,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        DateTimeOffset now = time.GetUtcNow();
        if (await transaction.ExecuteAsync(SetPassword, [enterpriseId, userId, hash, now], cancellationToken) == 0)
        {
            return false;
        }

        await PersonSessions.EndAllAsync(transaction, enterpriseId, userId, keptSessionId, now, cancellationToken);
        await links.EndAsync(transaction, enterpriseId, userId, purpose: null, cancellationToken);
        await outbox.EnqueueAsync(transaction, enterprise, mails.PasswordChanged(email), cancellationToken);
        return true;
    }
}
