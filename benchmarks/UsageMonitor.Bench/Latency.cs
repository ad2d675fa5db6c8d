using System.Diagnostics;

namespace UsageMonitor.Bench;

/// <summary>Milliseconds: acknowledgements, event → dashboard, and how late the generator itself was.</summary>
internal sealed record LatencyRound(
    double[] Acknowledged,
    double[] Visible,
    double[] SentLate,
    double EventsPerSecond,
    ProcessorSeconds Used,
    double Seconds,
    double ServerMegabytes,
    double PostgresMegabytes
);

/// <summary>
/// An open loop at the mission's peak: requests are due by a schedule, whatever became of those before, and each is timed
/// from when it was due, so that a stall is charged with all it delays. Beside it a probe enterprise gets an event now and
/// then, and its dashboard is asked until it shows it.
/// </summary>
internal sealed class Latency(Generator generator, ProcessUsage usage)
{
    public const int EventsPerSecond = 6_600;
    public const int RequestEvents = 10;
    public const int ProbeMilliseconds = 100;
    public const int PollMilliseconds = 20;
    public const int Connections = 64;
    private const int VisibleSecondsMax = 30;
    private const double RequestsPerSecond = (double)EventsPerSecond / RequestEvents;

    public async Task<LatencyRound> MeasureAsync(
        EventBatch[] batches,
        EventBatch probe,
        ReadOnlyMemory<byte> summaryRequest,
        TimeSpan duration
    )
    {
        int requests = (int)(duration.TotalSeconds * RequestsPerSecond);
        double[] acknowledged = new double[requests];
        double[] late = new double[requests];
        double[] visible = new double[(int)(duration.TotalMilliseconds / ProbeMilliseconds)];
        using HttpConnection dashboard = generator.Connect();
        long shownBefore = await ShownAsync(dashboard, summaryRequest);
        ProcessorSeconds usedBefore = usage.Read();
        long started = Stopwatch.GetTimestamp();

        Task watching = Task.Run(() => WatchAsync(dashboard, summaryRequest, shownBefore, started, visible));
        Task probing = Task.Run(() => ProbeAsync(probe, started, visible.Length));
        await Task.WhenAll(
            Enumerable
                .Range(0, Connections)
                .Select(lane => Task.Run(() => SendLaneAsync(lane, batches, started, acknowledged, late)))
        );
        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        ProcessorSeconds used = usage.Read() - usedBefore;
        await Task.WhenAll(probing, watching);
        return new LatencyRound(
            Sorted(acknowledged),
            Sorted(visible),
            Sorted(late),
            requests * RequestEvents / seconds,
            used,
            seconds,
            usage.ServerMegabytes(),
            usage.PostgresMegabytes()
        );
    }

    /// <summary>Nearest rank.</summary>
    public static double Percentile(double[] sorted, double percent) =>
        sorted[Math.Clamp((int)Math.Ceiling(percent / 100 * sorted.Length) - 1, 0, sorted.Length - 1)];

    private static double[] Sorted(double[] values)
    {
        Array.Sort(values);
        return values;
    }

    /// <summary>Every 64th request is this connection's; at the rate of the schedule it is long free again when one is due.</summary>
    private async Task SendLaneAsync(int lane, EventBatch[] batches, long started, double[] acknowledged, double[] late)
    {
        var ids = new UniqueIds();
        using HttpConnection connection = generator.Connect();
        for (int request = lane; request < acknowledged.Length; request += Connections)
        {
            double due = request * 1_000 / RequestsPerSecond;
            EventBatch batch = batches[request % batches.Length];
            batch.Renew(ids);
            await UntilAsync(started, due);
            late[request] = Since(started) - due;
            await generator.SendAsync(connection, batch);
            acknowledged[request] = Since(started) - due;
        }
    }

    private async Task ProbeAsync(EventBatch probe, long started, int events)
    {
        var ids = new UniqueIds();
        using HttpConnection connection = generator.Connect();
        for (int sent = 0; sent < events; sent++)
        {
            probe.Renew(ids);
            await UntilAsync(started, sent * ProbeMilliseconds);
            await generator.SendAsync(connection, probe);
        }
    }

    private static async Task WatchAsync(
        HttpConnection dashboard,
        ReadOnlyMemory<byte> summaryRequest,
        long shownBefore,
        long started,
        double[] visible
    )
    {
        int seen = 0;
        while (seen < visible.Length)
        {
            // After a slow answer the missed polls are not made up for: that would be a burst no reader makes.
            double polls = Math.Floor(Since(started) / PollMilliseconds) + 1;
            await UntilAsync(started, polls * PollMilliseconds);
            long shown = await ShownAsync(dashboard, summaryRequest) - shownBefore;
            double now = Since(started);
            for (; seen < Math.Min(shown, visible.Length); seen++)
            {
                visible[seen] = now - (seen * ProbeMilliseconds);
            }

            if (now > (visible.Length * ProbeMilliseconds) + (VisibleSecondsMax * 1_000))
            {
                throw new BenchException($"The dashboard shows {seen} of {visible.Length} probes.");
            }
        }
    }

    private static async Task<long> ShownAsync(HttpConnection dashboard, ReadOnlyMemory<byte> summaryRequest)
    {
        HttpAnswer answer = await dashboard.SendAsync(summaryRequest);
        return answer.Status == 200 && answer.Number("\"usageCount\":"u8) is { } count
            ? count
            : throw new BenchException($"GET /v1/dashboard/summary answered {answer.Status}.");
    }

    private static double Since(long started) => Stopwatch.GetElapsedTime(started).TotalMilliseconds;

    /// <summary>To the next whole millisecond, which is as fine as timers are; never early, and the lateness is reported.</summary>
    private static async ValueTask UntilAsync(long started, double dueMilliseconds)
    {
        double left = dueMilliseconds - Since(started);
        if (left > 0)
        {
            await Task.Delay((int)Math.Ceiling(left));
        }
    }
}
