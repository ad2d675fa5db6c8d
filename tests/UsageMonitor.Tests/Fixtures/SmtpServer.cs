using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.RegularExpressions;
using MimeKit;
using Xunit;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>A real mail server, Debian's <c>python3-aiosmtpd</c> as <c>./test</c> installs it: what it is sent lies in a folder.</summary>
internal sealed partial class SmtpServer : IAsyncDisposable
{
    public const string User = "usage-monitor";
    public const string Password = "the mail server's password";

    // A file "answer" in the folder makes it answer that to every recipient.
    private const string Program = """
        import asyncio, os, ssl, sys, uuid
        from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
        folder, port, certificate, key, user, password = sys.argv[1:7]
        class Handler:
            async def handle_RCPT(self, server, session, envelope, address, options):
                answer = os.path.join(folder, "answer")
                if os.path.exists(answer):
                    return open(answer).read()
                envelope.rcpt_tos.append(address)
                return "250 OK"
            async def handle_DATA(self, server, session, envelope):
                name = os.path.join(folder, str(uuid.uuid4()))
                with open(name + ".part", "wb") as file:
                    file.write(envelope.content)
                os.rename(name + ".part", name + ".eml")
                return "250 taken"
        def authenticate(server, session, envelope, mechanism, data):
            good = isinstance(data, LoginPassword) and data.login == user.encode() and data.password == password.encode()
            return AuthResult(success=good)
        async def main():
            options = dict(enable_SMTPUTF8=True, hostname="localhost")
            if certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate, key)
                options |= dict(tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate)
            server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler(), **options), "127.0.0.1", int(port))
            print(server.sockets[0].getsockname()[1], flush=True)
            await server.serve_forever()
        asyncio.run(main())
        """;

    private readonly string _folder;
    private readonly bool _isSecure;
    private Process? _process;

    private SmtpServer(string folder, bool isSecure) => (_folder, _isSecure) = (folder, isSecure);

    public int Port { get; private set; }

    /// <summary>The authority that vouches for it, as a PEM file.</summary>
    public string AuthorityFile => Path.Combine(_folder, "authority.pem");

    /// <summary>The server's settings to reach it.</summary>
    public (string Key, string Value)[] Settings =>
        [
            ("Smtp:Host", _isSecure ? "localhost" : "127.0.0.1"),
            ("Smtp:Port", Port.ToString(CultureInfo.InvariantCulture)),
            ("Smtp:From", "Usage Monitor <usage@usage-monitor.example>"),
            ("Smtp:Security", _isSecure ? "StartTls" : "None"),
            .. _isSecure ? new[] { ("Smtp:User", User), ("Smtp:Password", Password) } : [],
            .. _isSecure ? new[] { ("Smtp:CertificateAuthority", AuthorityFile) } : [],
            ("PublicUrl", "https://usage.example"),
        ];

    /// <param name="isSecure">Whether it demands STARTTLS and AUTH.</param>
    public static async Task<SmtpServer> StartAsync(bool isSecure = false)
    {
        var server = new SmtpServer(Directory.CreateTempSubdirectory("um-smtp-").FullName, isSecure);
        if (isSecure)
        {
            server.WriteCertificates();
        }

        await server.StartAgainAsync();
        return server;
    }

    /// <summary>Starts it where it was before.</summary>
    public async Task StartAgainAsync()
    {
        string certificate = _isSecure ? Path.Combine(_folder, "server.pem") : "";
        string key = _isSecure ? Path.Combine(_folder, "server.key") : "";
        string[] arguments =
        [
            "-c",
            Program,
            _folder,
            Port.ToString(CultureInfo.InvariantCulture),
            certificate,
            key,
            User,
            Password,
        ];
        _process = Process.Start(
            new ProcessStartInfo("/usr/bin/python3", arguments) { RedirectStandardOutput = true }
        )!;
        string? line = await _process.StandardOutput.ReadLineAsync();
        Port = int.Parse(
            line ?? throw new InvalidOperationException("aiosmtpd does not start: is python3-aiosmtpd installed?"),
            CultureInfo.InvariantCulture
        );
    }

    public async Task StopAsync()
    {
        if (_process is { } process)
        {
            process.Kill();
            await process.WaitForExitAsync();
            process.Dispose();
            _process = null;
        }
    }

    /// <summary>Answers this to every recipient, such as <c>451 later</c>; null: takes the mail again.</summary>
    public void Answer(string? answer)
    {
        string file = Path.Combine(_folder, "answer");
        File.Delete(file);
        if (answer is not null)
        {
            File.WriteAllText(file + ".part", answer);
            File.Move(file + ".part", file);
        }
    }

    /// <summary>The mails to an address so far.</summary>
    public IReadOnlyList<MimeMessage> MailsTo(string address) =>
        [
            .. Directory
                .GetFiles(_folder, "*.eml")
                .Order(StringComparer.Ordinal)
                .Select(file => MimeMessage.Load(file))
                .Where(mail => mail.To.Mailboxes.Single().Address == address)
                .OrderBy(mail => mail.Date),
        ];

    /// <summary>Waits for the n-th mail to an address whose subject has a word.</summary>
    public async Task<MimeMessage> MailAsync(string address, string word, int number = 1)
    {
        MimeMessage[] Found() =>
            [.. MailsTo(address).Where(mail => mail.Subject!.Contains(word, StringComparison.OrdinalIgnoreCase))];
        await Eventually.TrueAsync(() => Found().Length >= number, $"mail {number} about {word} to {address}");
        return Found()[number - 1];
    }

    /// <summary>The token in a mail's link.</summary>
    public static string TokenIn(MimeMessage mail) => TokenIn(mail.TextBody!);

    public static string TokenIn(string text) => LinkToken().Match(text).Groups[1].Value;

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private void WriteCertificates()
    {
        DateTimeOffset now = TimeProvider.System.GetUtcNow();
        using var authorityKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var authorityRequest = new CertificateRequest("CN=Test authority", authorityKey, HashAlgorithmName.SHA256);
        authorityRequest.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using X509Certificate2 authority = authorityRequest.CreateSelfSigned(now.AddDays(-1), now.AddDays(2));
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        using X509Certificate2 certificate = request.Create(authority, now.AddDays(-1), now.AddDays(1), [1, 2, 3]);
        File.WriteAllText(AuthorityFile, authority.ExportCertificatePem());
        File.WriteAllText(Path.Combine(_folder, "server.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(_folder, "server.key"), key.ExportPkcs8PrivateKeyPem());
    }

    [GeneratedRegex("token=([A-Za-z0-9_-]{43})")]
    private static partial Regex LinkToken();
}

/// <summary>A server that sends its mail to a real mail server.</summary>
public sealed class MailingServerFixture(Engines engines) : IAsyncLifetime
{
    internal SmtpServer Mail { get; private set; } = null!;

    internal RunningServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Mail = await SmtpServer.StartAsync();
        Server = await RunningServer.StartAsync(engines, Mail.Settings);
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        await Mail.DisposeAsync();
    }
}
