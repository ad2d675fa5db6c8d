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
internal sealed class MailOutbox(TimeProvider time)
{
    private const string InsertMail = """
        INSERT INTO mail_outbox (enterprise_id, mail_id, message, created_at, next_attempt_at) VALUES ($1, $2, $3, $4, $4)
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
        var mailId = Guid.CreateVersion7(time.GetUtcNow());
        byte[] sealedMessage = Sealing.Seal(
            enterprise.DataKey,
            JsonSerializer.SerializeToUtf8Bytes(message),
            Context(enterprise.EnterpriseId, mailId)
        );
        object?[] row = [enterprise.EnterpriseId, mailId, sealedMessage, time.GetUtcNow()];
        return transaction.ExecuteAsync(InsertMail, row, cancellationToken);
    }

    /// <summary>What seals a mail to its row.</summary>
    public static byte[] Context(Guid enterpriseId, Guid mailId) =>
        [.. enterpriseId.ToByteArray(), .. mailId.ToByteArray(), .. "mail"u8];
}
