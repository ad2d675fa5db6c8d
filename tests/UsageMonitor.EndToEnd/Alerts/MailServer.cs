using System.Globalization;
using System.Text.Json;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Alerts;

/// <summary>A mail as it came.</summary>
/// <param name="Id"><c>Message-ID</c> without the domain.</param>
/// <param name="To">Its recipient.</param>
/// <param name="Subject">Decoded.</param>
/// <param name="Hash">Of its subject and text, and not of when it was sent.</param>
internal sealed record ArrivedMail(string Id, string To, string Subject, string Hash);

/// <summary>
/// A real mail server (Debian's <c>python3-aiosmtpd</c>) that is never killed. It takes a moment between having a mail and
/// saying so, in which whoever sends it may die.
/// </summary>
internal sealed class MailServer : IAsyncDisposable
{
    private const string Program = """
        import asyncio, email, email.policy, hashlib, json, random, sys
        from aiosmtpd.smtp import SMTP
        class Handler:
            async def handle_DATA(self, server, session, envelope):
                mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
                content = (mail["subject"] + "\n" + mail.get_content()).encode()
                print(json.dumps(dict(id=mail["message-id"].strip("<> ").split("@")[0], to=envelope.rcpt_tos[0], subject=mail["subject"],
                                      hash=hashlib.sha256(content).hexdigest())), flush=True)
                await asyncio.sleep(random.random() * 0.05)
                return "250 taken"
        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: SMTP(Handler(), hostname="localhost"), "127.0.0.1", int(sys.argv[1]))
            print("ready", flush=True)
            await server.serve_forever()
        asyncio.run(main())
        """;

    private readonly ChildProcess _process;
    private readonly int _port;

    private MailServer(ChildProcess process, int port) => (_process, _port) = (process, port);

    /// <summary>The server's settings to reach it.</summary>
    public Dictionary<string, string> Settings =>
        new()
        {
            ["Smtp__Host"] = "127.0.0.1",
            ["Smtp__Port"] = _port.ToString(CultureInfo.InvariantCulture),
            ["Smtp__From"] = "usage@usage-monitor.example",
            ["Smtp__Security"] = "None",
            ["PublicUrl"] = "https://usage.example",
        };

    public static async Task<MailServer> StartAsync()
    {
        int port = Ports.Free();
        var process = ChildProcess.Start(
            "/usr/bin/python3",
            ["-c", Program, port.ToString(CultureInfo.InvariantCulture)]
        );
        var server = new MailServer(process, port);
        await Eventually.TrueAsync(
            () => Task.FromResult(process.HasExited || process.Output.Contains("ready", StringComparison.Ordinal)),
            () => "the mail server is ready"
        );
        return process.HasExited
            ? throw new InvalidOperationException($"Is python3-aiosmtpd installed? It said:\n{process.Output}")
            : server;
    }

    /// <summary>In the order of their arrival, repeats included.</summary>
    public IReadOnlyList<ArrivedMail> Mails =>
        [
            .. _process
                .Output.Split('\n')
                .Where(line => line.StartsWith('{'))
                .Select(line => JsonSerializer.Deserialize<ArrivedMail>(line, JsonSerializerOptions.Web)!),
        ];

    public ValueTask DisposeAsync() => _process.DisposeAsync();
}
