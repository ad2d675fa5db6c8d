using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;

namespace UsageMonitor.Bench;

/// <param name="At">As of <see cref="Stopwatch.GetTimestamp"/>: when the server had the whole mail, before it said that it took it.</param>
/// <param name="Recipient">Whom it is to.</param>
/// <param name="MessageId">The same when a mail is repeated.</param>
internal readonly record struct ReceivedMail(long At, string Recipient, string MessageId);

/// <summary>A real mail server (Debian's <c>python3-aiosmtpd</c>) in a process of its own, which tells when each mail came.</summary>
internal sealed class MailServer : IAsyncDisposable
{
    private const string Python = "/usr/bin/python3";
    private const string From = "usage@bench.example";

    // Python's monotonic clock is that of Stopwatch: CLOCK_MONOTONIC, in nanoseconds.
    private const string Program = """
        import asyncio, time
        from aiosmtpd.smtp import SMTP
        class Handler:
            async def handle_DATA(self, server, session, envelope):
                at = time.monotonic_ns()
                head = envelope.content.split(b"\r\n\r\n", 1)[0].decode("ascii", "replace")
                ids = [line[11:].strip() for line in head.split("\r\n") if line.lower().startswith("message-id:")]
                for recipient in envelope.rcpt_tos:
                    print(at, recipient, ids[0] if ids else "-", flush=True)
                return "250 taken"
        async def main():
            server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler(), hostname="localhost"), "127.0.0.1", 0)
            print(server.sockets[0].getsockname()[1], flush=True)
            await server.serve_forever()
        asyncio.run(main())
        """;

    private readonly Process _process;
    private readonly ConcurrentQueue<ReceivedMail> _mails = new();
    private readonly Task _reading;
    private int _disposed;

    private MailServer(Process process, int port)
    {
        (_process, Port) = (process, port);
        _reading = Task.Run(ReadAsync);
        Ending.Add(this);
    }

    public int Port { get; }

    /// <summary>In the order of their arrival.</summary>
    public IReadOnlyCollection<ReceivedMail> Mails => _mails;

    /// <summary>The platform's settings to reach it.</summary>
    public Dictionary<string, string> Settings =>
        new()
        {
            ["Smtp__Host"] = "127.0.0.1",
            ["Smtp__Port"] = Port.ToString(CultureInfo.InvariantCulture),
            ["Smtp__From"] = From,
            ["Smtp__Security"] = "None",
            ["PublicUrl"] = "https://usage.bench.example",
        };

    public static async Task<MailServer> StartAsync()
    {
        if (!File.Exists(Python))
        {
            throw new BenchException($"The mail server of this measurement needs {Python} with aiosmtpd.");
        }

        var process = Process.Start(
            new ProcessStartInfo(Python, ["-c", Program])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        if (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            process.ErrorDataReceived += static (_, _) => { }; // a full pipe would stop it
            process.BeginErrorReadLine();
            return new MailServer(process, int.Parse(line, CultureInfo.InvariantCulture));
        }

        string error = await process.StandardError.ReadToEndAsync();
        process.Dispose();
        throw new BenchException(
            $"The mail server does not start: is python3-aiosmtpd installed (./test does)?\n{error}"
        );
    }

    public async ValueTask DisposeAsync()
    {
        Ending.Remove(this);
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _process.Kill();
            await _reading;
            _process.Dispose();
        }
    }

    private async Task ReadAsync()
    {
        while (await _process.StandardOutput.ReadLineAsync() is { } line)
        {
            if (line.Split(' ') is [var at, var recipient, var messageId])
            {
                _mails.Enqueue(new ReceivedMail(long.Parse(at, CultureInfo.InvariantCulture), recipient, messageId));
            }
        }
    }
}
