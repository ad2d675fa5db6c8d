using MailKit.Security;
using MimeKit;

namespace UsageMonitor.Server.Platform.Mail;

/// <summary>How mail leaves: <c>Smtp:Host, Port, Security, User, Password, From</c>.</summary>
/// <param name="Host">The mail server.</param>
/// <param name="Port">587, 465 with <c>Tls</c>, 25 with <c>None</c>, unless told.</param>
/// <param name="Security"><c>StartTls</c> unless told, <c>Tls</c>, or <c>None</c> (for a server on this machine).</param>
/// <param name="User">With <paramref name="Password"/>, or null: the server asks for neither.</param>
/// <param name="Password">Never logged.</param>
/// <param name="From">Who mail is from, such as <c>Usage Monitor &lt;usage@example.com&gt;</c>.</param>
internal sealed record SmtpSettings(
    string Host,
    int Port,
    SecureSocketOptions Security,
    string? User,
    string? Password,
    MailboxAddress From
)
{
    /// <summary>A certificate authority of one's own, as a PEM file (<c>Smtp:CertificateAuthority</c>), or null: those of the system.</summary>
    public string? CertificateAuthority { get; init; }

    /// <returns>Null when no host is named, or something is wrong.</returns>
    public static SmtpSettings? Load(IConfiguration section, List<string> errors)
    {
        if (Text("Host") is not { } host)
        {
            return null;
        }

        SecureSocketOptions? security = Text("Security")?.ToUpperInvariant() switch
        {
            null or "STARTTLS" => SecureSocketOptions.StartTls,
            "TLS" => SecureSocketOptions.SslOnConnect,
            "NONE" => SecureSocketOptions.None,
            _ => null,
        };
        int usualPort = security switch
        {
            SecureSocketOptions.SslOnConnect => 465,
            SecureSocketOptions.None => 25,
            _ => 587,
        };
        int before = errors.Count;
        int port = ServerSettings.Number(section, "Port", usualPort, 1, ushort.MaxValue, errors);
        if (security is null)
        {
            errors.Add("Smtp:Security: must be StartTls, Tls or None.");
        }

        string? fromText = Text("From");
        if (!MailboxAddress.TryParse(fromText ?? "", out MailboxAddress? from) || from.Domain.Length == 0)
        {
            errors.Add("Smtp:From: must be the address that mail is from, such as usage@example.com.");
        }

        (string? user, string? password) = (Text("User"), Text("Password"));
        if (user is null != password is null)
        {
            errors.Add("Smtp:User and Smtp:Password: give both or neither.");
        }

        if (user is not null && security == SecureSocketOptions.None)
        {
            errors.Add("Smtp:Security: None would send Smtp:Password in clear; use StartTls or Tls.");
        }

        string? authority = Text("CertificateAuthority");
        if (authority is not null && !File.Exists(authority))
        {
            errors.Add($"Smtp:CertificateAuthority: there is no file '{authority}'.");
        }

        return errors.Count > before
            ? null
            : new SmtpSettings(host, port, security!.Value, user, password, from!) { CertificateAuthority = authority };

        string? Text(string key) => section[key] is { } value && !string.IsNullOrWhiteSpace(value) ? value : null;
    }

    // A record would print it.
    public override string ToString() => $"{Host}:{Port}";
}
