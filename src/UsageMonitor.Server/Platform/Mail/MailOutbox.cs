using System.Text.Json;

namespace UsageMonitor.Server.Platform.Mail;

/// <summary>A mail to one person, as text.</summary>
/// <param name="To">One address.</param>
/// <param name="Subject">One line.</param>
/// <param name="Text">Plain text; lines end with \n.</param>
internal sealed record MailMessage(string To, string Subject, string Text);

/// <summary>
/// Mail is written in the transaction of what it tells of, sealed with the enterprise's key, and sent afterwards: no act
/// without its mail, no mail without its act.
/// </summary>
internal sealed class MailOutbox(ServerSettings settings, TimeProvider time)
{
    /// <summary>Why a mail was never sent on a platform that sends none.</summary>
    public const string NotSetUp = "mail is not set up";

    /// <summary>Whether this platform sends mail at all (<c>Smtp:Host</c>). If not, whoever acts must be told what the mail would have said.</summary>
    public bool IsSetUp => settings.Smtp is not null;

    private const string InsertMail = """
        INSERT INTO mail_outbox (enterprise_id, mail_id, message, created_at, next_attempt_at, last_error)
        VALUES ($1, $2, $3, $4, $5, $6)
        """;

    /// <param name="transaction">In the enterprise's scope; the mail is sent only if it commits.</param>
    /// <param name="enterprise">Whose key seals it.</param>
    /// <param name="message">The mail.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public Task EnqueueAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        MailMessage message,
        CancellationToken cancellationToken
    )
    {
        DateTimeOffset now = time.GetUtcNow();
        var mailId = Guid.CreateVersion7(now);

        // What will never be sent is closed at once and not kept: it may hold a link that is good for days.
        byte[]? sealedMessage = IsSetUp
            ? Sealing.Seal(
                enterprise.DataKey,
                JsonSerializer.SerializeToUtf8Bytes(message),
                Context(enterprise.EnterpriseId, mailId)
            )
            : null;
        object?[] row =
        [
            enterprise.EnterpriseId,
            mailId,
            sealedMessage,
            now,
            IsSetUp ? now : null,
            IsSetUp ? null : NotSetUp,
        ];
        return transaction.ExecuteAsync(InsertMail, row, cancellationToken);
    }

    /// <summary>What seals a mail to its row.</summary>
    public static byte[] Context(Guid enterpriseId, Guid mailId) =>
        [.. enterpriseId.ToByteArray(), .. mailId.ToByteArray(), .. "mail"u8];
}
