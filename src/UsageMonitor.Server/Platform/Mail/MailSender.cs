using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text.Json;
using MailKit;
using MailKit.Net.Smtp;
using MailKit.Security;
using Npgsql;

namespace UsageMonitor.Server.Platform.Mail;

/// <summary>
/// Sends what is due in the outbox, from any number of instances. Each mail leaves at least once: it is taken by moving its
/// next attempt ahead, and closed after the mail server has it; who dies between the two leaves it to the next attempt.
/// </summary>
internal sealed partial class MailSender(
    Database database,
    EnterpriseDirectory enterprises,
    ServerSettings settings,
    TimeProvider time,
    ILogger<MailSender> logger
) : BackgroundService
{
    private const int MailsAtOnceMax = 50;
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>Doubled with each attempt; longer than an attempt can take, so that two instances never have the same mail.</summary>
    public static readonly TimeSpan FirstDelay = TimeSpan.FromMinutes(1);
    public static readonly TimeSpan DelayMax = TimeSpan.FromHours(1);
    public static readonly TimeSpan GivenUpAfter = TimeSpan.FromHours(24);
    private static readonly TimeSpan AttemptMax = TimeSpan.FromSeconds(45);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (settings.Smtp is null)
        {
            return; // the outbox closes what is written to it; what is due is left to instances that can send
        }

        using var timer = new PeriodicTimer(Interval, time);
        do
        {
            try
            {
                await SendDueAsync(stoppingToken);
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
            {
                OutboxAway(exception);
            }
        } while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private const string FindDue = """
        SELECT enterprise_id, mail_id FROM mail_outbox WHERE next_attempt_at <= $1 ORDER BY next_attempt_at LIMIT $2
        """;

    /// <summary>Tries everything that is due once; stops early when the mail server cannot be reached.</summary>
    public async Task SendDueAsync(CancellationToken cancellationToken)
    {
        List<(Guid EnterpriseId, Guid MailId)> due = [];
        await using (NpgsqlCommand command = database.Pipeline.CreateCommand(FindDue))
        {
            command.Parameters.Add(new NpgsqlParameter<DateTimeOffset> { TypedValue = time.GetUtcNow() });
            command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = MailsAtOnceMax });
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                due.Add((reader.GetGuid(0), reader.GetGuid(1)));
            }
        }

        if (due.Count == 0)
        {
            return;
        }

        using var connection = new SmtpConnection(settings.Smtp!);
        foreach ((Guid enterpriseId, Guid mailId) in due)
        {
            if (!await SendAsync(connection, enterpriseId, mailId, cancellationToken))
            {
                return; // the others are due again at the next tick, and one of them tries then
            }
        }

        try
        {
            await connection.CloseAsync(cancellationToken);
        }
        catch (Exception exception) when (IsDeliveryFailure(exception))
        {
            // Everything it carried has been answered for.
        }
    }

    /// <returns>False: the server cannot be talked to at the moment.</returns>
    private async Task<bool> SendAsync(
        SmtpConnection connection,
        Guid enterpriseId,
        Guid mailId,
        CancellationToken cancellationToken
    )
    {
        if (
            await enterprises.FindAsync(enterpriseId, cancellationToken) is not { } enterprise
            || await TakeAsync(enterprise, mailId, cancellationToken) is not { } taken
        )
        {
            return true;
        }

        try
        {
            MailMessage message = JsonSerializer.Deserialize<MailMessage>(
                Sealing.Open(enterprise.DataKey, taken.Message, MailOutbox.Context(enterpriseId, mailId))
            )!;
            using var attempt = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            attempt.CancelAfter(AttemptMax);
            await connection.SendAsync(message, mailId, attempt.Token);
        }
        catch (Exception exception) when (IsDeliveryFailure(exception) && !cancellationToken.IsCancellationRequested)
        {
            bool lost = taken.GivenUp || IsFinal(exception);
            await CloseAsync(lost ? GiveUp : KeepForLater, enterpriseId, mailId, Word(exception), cancellationToken);
            if (lost)
            {
                GaveUp(mailId, Word(exception));
            }
            else
            {
                Failed(mailId, Word(exception));
            }

            return exception is SmtpCommandException || IsUnreadable(exception);
        }

        // Not cancelled by a stop: the mail server has it, and nobody should get it twice for that.
        await CloseAsync(Sent, enterpriseId, mailId, null, CancellationToken.None);
        return true;
    }

    // The delay is 1, 2, 4 … minutes, and no attempt comes after a day.
    private const string Take = """
        UPDATE mail_outbox SET attempts = attempts + 1, next_attempt_at = $3 + least($4 * power(2, least(attempts, 16)), $5)
        WHERE enterprise_id = $1 AND mail_id = $2 AND next_attempt_at <= $3 AND message IS NOT NULL
        RETURNING message, next_attempt_at > created_at + $6
        """;

    private async Task<(byte[] Message, bool GivenUp)?> TakeAsync(
        EnterpriseInfo enterprise,
        Guid mailId,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        (byte[], bool) taken;
        await using (
            NpgsqlCommand command = own.Command(
                Take,
                enterprise.EnterpriseId,
                mailId,
                time.GetUtcNow(),
                FirstDelay,
                DelayMax,
                GivenUpAfter
            )
        )
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return null; // another instance has it
            }

            taken = (reader.GetFieldValue<byte[]>(0), reader.GetBoolean(1));
        }

        await own.CommitAsync(cancellationToken);
        return taken;
    }

    private const string Sent = """
        UPDATE mail_outbox SET sent_at = $3, message = NULL, next_attempt_at = NULL, last_error = $4
        WHERE enterprise_id = $1 AND mail_id = $2
        """;

    private const string KeepForLater = """
        UPDATE mail_outbox SET last_error = $4 WHERE enterprise_id = $1 AND mail_id = $2 AND $3::timestamptz IS NOT NULL
        """;

    private const string GiveUp = """
        UPDATE mail_outbox SET message = NULL, next_attempt_at = NULL, last_error = $4
        WHERE enterprise_id = $1 AND mail_id = $2 AND $3::timestamptz IS NOT NULL
        """;

    private async Task CloseAsync(
        string how,
        Guid enterpriseId,
        Guid mailId,
        string? error,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await own.ExecuteAsync(how, [enterpriseId, mailId, time.GetUtcNow(), error], cancellationToken);
        await own.CommitAsync(cancellationToken);
    }

    internal static bool IsDeliveryFailure(Exception exception) =>
        exception
            is SmtpCommandException
                or ProtocolException
                or ServiceNotConnectedException
                or ServiceNotAuthenticatedException
                or AuthenticationException
                or SslHandshakeException
                or NotSupportedException // no STARTTLS there
                or SocketException
                or IOException
                or TimeoutException
                or OperationCanceledException
                or FormatException
                or JsonException
                or CryptographicException;

    // The server says that the same mail will fail again (RFC 5321, 4.2.1).
    internal static bool IsFinal(Exception exception) =>
        exception is SmtpCommandException { StatusCode: >= (SmtpStatusCode)500 } || IsUnreadable(exception);

    // Nothing that waiting would mend: it cannot be put into a mail, or the key that sealed it is gone.
    private static bool IsUnreadable(Exception exception) =>
        exception is FormatException or JsonException or CryptographicException;

    // Kept and logged in clear: what the server wrote may name the recipient.
    internal static string Word(Exception exception) =>
        exception is SmtpCommandException command
            ? $"SMTP {(int)command.StatusCode} {command.ErrorCode}"
            : exception.GetType().Name;

    [LoggerMessage(Level = LogLevel.Warning, Message = "Mail {MailId} could not be sent ({Error}); it is tried again.")]
    private partial void Failed(Guid mailId, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "Mail {MailId} could not be sent ({Error}) and is given up.")]
    private partial void GaveUp(Guid mailId, string error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The outbox cannot be read; mail waits.")]
    private partial void OutboxAway(Exception exception);
}
