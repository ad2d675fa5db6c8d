using System.Diagnostics;

namespace UsageMonitor.Bench;

/// <summary>Follows <c>GET /health/pipeline</c>: how many events the log has taken and how many are processed.</summary>
internal sealed class PipelineWatch(HttpConnection connection, ReadOnlyMemory<byte> request, TimeSpan patience)
    : IDisposable
{
    private const int PollMilliseconds = 5;

    public void Dispose() => connection.Dispose();

    public async Task<(long Appended, long Processed)> ReadAsync()
    {
        HttpAnswer answer = await connection.SendAsync(request);
        return
            answer.Status == 200
            && answer.Number("\"appendedEvents\":"u8) is { } appended
            && answer.Number("\"processedEvents\":"u8) is { } processed
            ? (appended, processed)
            : throw new BenchException($"GET /health/pipeline answered {answer.Status} without its two numbers.");
    }

    /// <summary>Returns when so many events have been processed since the platform began.</summary>
    public async Task WaitUntilProcessedAsync(long events)
    {
        long started = Stopwatch.GetTimestamp();
        while (true)
        {
            (long appended, long processed) = await ReadAsync();
            if (processed >= events)
            {
                return;
            }

            if (Stopwatch.GetElapsedTime(started) > patience)
            {
                throw new BenchException(
                    $"After {patience.TotalSeconds:N0} s {processed} of {events} events are processed; the log has {appended}."
                );
            }

            await Task.Delay(PollMilliseconds);
        }
    }
}
