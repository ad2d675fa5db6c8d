using System.Net.Sockets;

namespace UsageMonitor.Bench;

/// <summary>Sends until acknowledged, as a good client does, and counts what it met.</summary>
internal sealed class Generator(int port, IReadOnlyList<BenchEnterprise> enterprises)
{
    private const int BrokenMax = 1_000;
    private long _busy;
    private long _broken;
    private long _rejected;
    private long _accepted;

    /// <summary>Answers 429 and 503; each was waited for as long as it asked.</summary>
    public long Busy => Interlocked.Read(ref _busy);

    /// <summary>Connections that broke; their request was sent again with the same event ids.</summary>
    public long Broken => Interlocked.Read(ref _broken);

    public long Rejected => Interlocked.Read(ref _rejected);

    /// <summary>Events acknowledged since the platform began.</summary>
    public long Accepted => Interlocked.Read(ref _accepted);

    public HttpConnection Connect() => new(port);

    public async ValueTask SendAsync(HttpConnection connection, EventBatch batch)
    {
        while (true)
        {
            HttpAnswer answer;
            try
            {
                answer = await connection.SendAsync(batch.Request);
            }
            catch (SocketException) when (Interlocked.Increment(ref _broken) < BrokenMax)
            {
                continue;
            }

            if (answer.Status is 429 or 503)
            {
                Interlocked.Increment(ref _busy);
                await Task.Delay(TimeSpan.FromSeconds(Math.Max(answer.RetryAfterSeconds, 0.05)));
                continue;
            }

            if (answer.Status != 202 || answer.Number("\"accepted\":"u8) is not { } accepted)
            {
                string text = System.Text.Encoding.UTF8.GetString(answer.Body.Span);
                throw new BenchException($"POST /v1/usage/events answered {answer.Status}: {text}");
            }

            Interlocked.Add(ref _accepted, accepted);
            Interlocked.Add(ref _rejected, batch.Events - accepted);
            enterprises[batch.Enterprise].AddSent(accepted);
            return;
        }
    }
}
