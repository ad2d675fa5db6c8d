using System.Diagnostics;

namespace UsageMonitor.Bench;

/// <summary>
/// A steady load as an open loop: requests are due by a schedule, whatever became of those before. Beside it something else
/// is measured.
/// </summary>
/// <param name="generator">Sends.</param>
/// <param name="batches">Sent in turn with new ids; all of one size, and more than <see cref="Connections"/> of them.</param>
/// <param name="eventsPerSecond">What is due.</param>
internal sealed class PacedLoad(Generator generator, EventBatch[] batches, double eventsPerSecond)
{
    public const int Connections = 32;
    private long _acknowledged;
    private long _lastAt;

    /// <summary>Sends until told to stop.</summary>
    /// <returns>Events acknowledged a second, from the first that was due to the last answer.</returns>
    public async Task<double> RunAsync(CancellationToken stop)
    {
        long before = Interlocked.Read(ref _acknowledged);
        long started = Stopwatch.GetTimestamp();
        await Task.WhenAll(
            Enumerable.Range(0, Connections).Select(lane => Task.Run(() => SendLaneAsync(lane, started, stop), stop))
        );
        return (Interlocked.Read(ref _acknowledged) - before)
            / Stopwatch.GetElapsedTime(started, Interlocked.Read(ref _lastAt)).TotalSeconds;
    }

    private async Task SendLaneAsync(int lane, long started, CancellationToken stop)
    {
        var ids = new UniqueIds();
        var redraw = new Random(lane);
        using HttpConnection connection = generator.Connect();
        double milliseconds = 1_000 * batches[0].Events / eventsPerSecond;
        for (int request = lane; !stop.IsCancellationRequested; request += Connections)
        {
            EventBatch batch = batches[request % batches.Length];
            batch.Renew(ids, redraw);
            double left = (request * milliseconds) - Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            if (left > 0)
            {
                await Task.Delay((int)Math.Ceiling(left), CancellationToken.None);
            }

            if (!stop.IsCancellationRequested)
            {
                await generator.SendAsync(connection, batch);
                Interlocked.Add(ref _acknowledged, batch.Events);
                Interlocked.Exchange(ref _lastAt, Stopwatch.GetTimestamp());
            }
        }
    }
}
