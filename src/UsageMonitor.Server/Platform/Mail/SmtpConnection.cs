using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using MailKit;
using MailKit.Net.Smtp;
using MimeKit;
using MimeKit.Text;

namespace UsageMonitor.Server.Platform.Mail;

/// <summary>A connection to the mail server, opened with the first mail it carries.</summary>
internal sealed class SmtpConnection(SmtpSettings settings) : IDisposable
{
    /// <summary>For each thing the server is asked, less than the shortest time until a mail is tried again.</summary>
    private const int ReplyMilliseconds = 10_000;

    private readonly SmtpClient _client = new() { Timeout = ReplyMilliseconds };

    /// <returns>When the server has taken responsibility for the mail (RFC 5321, 4.2.5).</returns>
    public async Task SendAsync(MailMessage message, Guid mailId, CancellationToken cancellationToken)
    {
        using MimeMessage mime = Compose(message, mailId);
        if (!_client.IsConnected)
        {
            if (settings.CertificateAuthority is { } file)
            {
                _client.ServerCertificateValidationCallback = (_, certificate, _, errors) =>
                    IsOf(file, certificate, errors);
            }

            await _client.ConnectAsync(settings.Host, settings.Port, settings.Security, cancellationToken);
            if (settings.User is { } user)
            {
                await _client.AuthenticateAsync(user, settings.Password!, cancellationToken);
            }
        }

        await _client.SendAsync(mime, cancellationToken);
    }

    /// <summary>Whether the server is still there after a pause: many close a connection that says nothing.</summary>
    public async Task<bool> IsAliveAsync(CancellationToken cancellationToken)
    {
        try
        {
            await _client.NoOpAsync(cancellationToken);
            return true;
        }
        catch (Exception exception)
            when (exception is CommandException or ProtocolException or ServiceNotConnectedException or IOException)
        {
            return false;
        }
    }

    /// <summary>Whether mail can be sent to an address at all.</summary>
    public static bool IsAddress(string address) =>
        !address.Any(char.IsControl)
        && MailboxAddress.TryParse(StrictOptions, address, out MailboxAddress? parsed)
        && parsed.Address == address;

    /// <summary>Says goodbye; mail that was taken is safe whether or not it arrives.</summary>
    public async Task CloseAsync(CancellationToken cancellationToken)
    {
        if (_client.IsConnected)
        {
            await _client.DisconnectAsync(quit: true, cancellationToken);
        }
    }

    public void Dispose() => _client.Dispose();

    /// <summary>Header fields are encoded by MimeKit; an address or subject that would be more than one is refused here.</summary>
    /// <exception cref="FormatException">The recipient or the subject cannot stand in a header.</exception>
    public MimeMessage Compose(MailMessage message, Guid mailId)
    {
        if (
            !IsAddress(message.To)
            || message.Subject.Any(char.IsControl)
            || !MailboxAddress.TryParse(StrictOptions, message.To, out MailboxAddress? to)
        )
        {
            throw new FormatException("A mail needs one address and a subject of one line.");
        }

        return new MimeMessage
        {
            From = { settings.From },
            To = { to },
            Subject = message.Subject,
            MessageId = $"{mailId:N}@{settings.From.Domain}", // the same if it is sent twice, so that the reader's program can tell
            Headers = { { "Auto-Submitted", "auto-generated" } }, // RFC 3834: no out-of-office answers
            Body = new TextPart(TextFormat.Plain) { Text = message.Text },
        };
    }

    private static ParserOptions StrictOptions { get; } =
        new() { AddressParserComplianceMode = RfcComplianceMode.Strict, AllowUnquotedCommasInAddresses = false };

    // The chain must end at the named authority, and the name must be the server's.
    private static bool IsOf(string file, X509Certificate? certificate, SslPolicyErrors errors)
    {
        if (
            certificate is not X509Certificate2 presented
            || (errors & ~SslPolicyErrors.RemoteCertificateChainErrors) != SslPolicyErrors.None
        )
        {
            return false;
        }

        using var authority = X509CertificateLoader.LoadCertificateFromFile(file);
        using var chain = new X509Chain
        {
            ChainPolicy =
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                CustomTrustStore = { authority },
                RevocationMode = X509RevocationMode.NoCheck, // an authority of one's own publishes no list
            },
        };
        return chain.Build(presented);
    }
}
