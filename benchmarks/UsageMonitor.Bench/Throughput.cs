using System.Diagnostics;

namespace UsageMonitor.Bench;

/// <param name="EventsPerSecond">Acknowledged and processed.</param>
/// <param name="AcknowledgedPerSecond">Acknowledged alone: processing may still have been behind.</param>
/// <param name="Used">Processor seconds until all were processed.</param>
/// <param name="Seconds">Until all were processed.</param>
internal sealed record ThroughputRound(
    double EventsPerSecond,
    double AcknowledgedPerSecond,
    ProcessorSeconds Used,
    double Seconds
);

/// <summary>As fast as it goes: a fixed number of connections, each sending its next request when the last is acknowledged.</summary>
internal sealed class Throughput(Generator generator, PipelineWatch pipeline, ProcessUsage usage)
{
    public const int BatchConnections = 16;
    public const int SingleConnections = 64;
    public const int SinglesOfConnection = 256;

    /// <summary>All batches once, with new ids.</summary>
    public async Task<ThroughputRound> SendBatchesAsync(EventBatch[] batches, Random redraw)
    {
        var ids = new UniqueIds();
        foreach (EventBatch batch in batches)
        {
            batch.Renew(ids, redraw);
        }

        int next = -1;
        return await MeasureAsync(
            BatchConnections,
            async (connection, _) =>
            {
                for (int at; (at = Interlocked.Increment(ref next)) < batches.Length; )
                {
                    await generator.SendAsync(connection, batches[at]);
                }
            }
        );
    }

    /// <summary>One event a request for a time; the rate counts events, which here are requests.</summary>
    public Task<ThroughputRound> SendSinglesAsync(EventBatch[] singles, TimeSpan duration)
    {
        long started = Stopwatch.GetTimestamp();
        return MeasureAsync(
            SingleConnections,
            async (connection, lane) =>
            {
                var ids = new UniqueIds();
                for (int at = 0; Stopwatch.GetElapsedTime(started) < duration; at++)
                {
                    EventBatch single = singles[(lane * SinglesOfConnection) + (at % SinglesOfConnection)];
                    single.Renew(ids);
                    await generator.SendAsync(connection, single);
                }
            }
        );
    }

    private async Task<ThroughputRound> MeasureAsync(int connections, Func<HttpConnection, int, Task> work)
    {
        HttpConnection[] lanes = [.. Enumerable.Range(0, connections).Select(_ => generator.Connect())];
        try
        {
            long acceptedBefore = generator.Accepted;
            ProcessorSeconds usedBefore = usage.Read();
            long started = Stopwatch.GetTimestamp();
            await Task.WhenAll(lanes.Select((connection, lane) => Task.Run(() => work(connection, lane))));
            double acknowledgedSeconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
            await pipeline.WaitUntilProcessedAsync(generator.Accepted);
            double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
            long events = generator.Accepted - acceptedBefore;
            return new ThroughputRound(
                events / seconds,
                events / acknowledgedSeconds,
                usage.Read() - usedBefore,
                seconds
            );
        }
        finally
        {
            Array.ForEach(lanes, connection => connection.Dispose());
        }
    }
}
