namespace UsageMonitor.Bench;

/// <summary>The measured rounds of the platform, and what of them goes into the report beside which target.</summary>
internal sealed class PlatformMeasures(Options options, Report report, Action<string> say)
{
    private const double EndToEndTarget = 35_000;
    private const double OfCopyTarget = 0.5;
    private const double SinglesTarget = 12_000;
    private const double AcknowledgedMillisecondsTarget = 25;
    private const double VisibleMillisecondsTarget = 1_000;
    private const double CoresTarget = 1;
    private static readonly TimeSpan LatencyWarmUp = TimeSpan.FromSeconds(3);

    public async Task ThroughputAsync(Throughput throughput, EventBatch[] batches, Random redraw, string dataFolder)
    {
        var rounds = new List<ThroughputRound>();
        var bytes = new List<double>();
        int events = batches.Sum(batch => batch.Events);
        for (int round = 1; round <= options.Rounds; round++)
        {
            long before = TableBytes(dataFolder);
            rounds.Add(await throughput.SendBatchesAsync(batches, redraw));
            bytes.Add((double)(TableBytes(dataFolder) - before) / events);
            say(
                $"batches {round}: {rounds[^1].EventsPerSecond:N0} events/s, acknowledged {rounds[^1].AcknowledgedPerSecond:N0}/s"
            );
        }

        report.Add(
            new Measure(
                "platform, batches of 100, 16 connections, durable and processed (events/s)",
                [.. rounds.Select(round => round.EventsPerSecond)],
                "≥ 35,000 and ≥ 0.5",
                rate =>
                    rate >= EndToEndTarget && (report.CopyRowsPerSecond is not { } copy || rate / copy >= OfCopyTarget),
                IsRate: true
            )
        );
        report.Add(
            new Measure(
                "… acknowledged alone (events/s)",
                [.. rounds.Select(round => round.AcknowledgedPerSecond)],
                IsRate: true
            )
        );
        AddProcessors("…", rounds);
        report.Add(new Measure("stored bytes per 1 KB event, tables and indexes", bytes));
        report.Note(
            "Every round repeats the users of the warm-up with new event ids and timestamps, and another feature for a quarter of "
                + "the events, so that about as many daily rows per user and feature are new as with 40 events a user and day. "
                + "Stored bytes: growth of PostgreSQL's base folder over a round; WAL is not in it."
        );
    }

    public async Task SinglesAsync(Throughput throughput, EventBatch[] singles)
    {
        var duration = TimeSpan.FromSeconds(options.SingleSeconds);
        await throughput.SendSinglesAsync(singles, duration / 5);
        var rounds = new List<ThroughputRound>();
        for (int round = 1; round <= options.Rounds; round++)
        {
            rounds.Add(await throughput.SendSinglesAsync(singles, duration));
            say($"singles {round}: {rounds[^1].AcknowledgedPerSecond:N0} requests/s");
        }

        report.Add(
            new Measure(
                "one event a request, 64 connections (requests/s)",
                [.. rounds.Select(round => round.AcknowledgedPerSecond)],
                "≥ 12,000",
                rate => rate >= SinglesTarget
            )
        );
        report.Add(new Measure("… and processed (events/s)", [.. rounds.Select(round => round.EventsPerSecond)]));
        AddProcessors("…", rounds);
    }

    public async Task LatencyAsync(
        Latency latency,
        EventBatch[] batches,
        EventBatch probe,
        ReadOnlyMemory<byte> summaryRequest
    )
    {
        await latency.MeasureAsync(batches, probe, summaryRequest, LatencyWarmUp);
        var rounds = new List<LatencyRound>();
        for (int round = 1; round <= options.Rounds; round++)
        {
            LatencyRound measured = await latency.MeasureAsync(
                batches,
                probe,
                summaryRequest,
                TimeSpan.FromSeconds(options.LatencySeconds)
            );
            rounds.Add(measured);
            say(
                $"latency {round}: acknowledged p99 {Latency.Percentile(measured.Acknowledged, 99):0.0} ms, "
                    + $"on the dashboard p99 {Latency.Percentile(measured.Visible, 99):0} ms"
            );
        }

        void Add(
            string name,
            Func<LatencyRound, double> value,
            string? target = null,
            Func<double, bool>? met = null
        ) => report.Add(new Measure(name, [.. rounds.Select(value)], target, met));

        Add("at 6,600 events/s: reached (events/s)", round => round.EventsPerSecond);
        Add("… acknowledged p50 (ms)", round => Latency.Percentile(round.Acknowledged, 50));
        Add(
            "… acknowledged p99 (ms)",
            round => Latency.Percentile(round.Acknowledged, 99),
            "≤ 25",
            milliseconds => milliseconds <= AcknowledgedMillisecondsTarget
        );
        Add("… acknowledged max (ms)", round => round.Acknowledged[^1]);
        Add("… of which the generator was late itself, p99 (ms)", round => Latency.Percentile(round.SentLate, 99));
        Add("… event → dashboard p50 (ms)", round => Latency.Percentile(round.Visible, 50));
        Add(
            "… event → dashboard p99 (ms)",
            round => Latency.Percentile(round.Visible, 99),
            "≤ 1,000",
            milliseconds => milliseconds <= VisibleMillisecondsTarget
        );
        Add("… event → dashboard max (ms)", round => round.Visible[^1]);
        Add("… server (cores)", round => round.Used.Server / round.Seconds);
        Add("… PostgreSQL (cores)", round => round.Used.Postgres / round.Seconds);
        Add(
            "… server and PostgreSQL (cores)",
            round => (round.Used.Server + round.Used.Postgres) / round.Seconds,
            "< 1",
            cores => cores < CoresTarget
        );
        Add("… load generator (cores)", round => round.Used.Generator / round.Seconds);
        Add("… server's resident memory after it (MB)", round => round.ServerMegabytes);
        Add("… PostgreSQL's memory after it, shared counted once (MB)", round => round.PostgresMegabytes);
        report.Note(
            "6,600 events/s: an open loop of 660 requests/s of 10 events, each of one enterprise, over 64 connections, timed from "
                + $"when each was due. Event → dashboard: a probe every {Latency.ProbeMilliseconds} ms, timed from when it was due to be sent until "
                + $"GET /v1/dashboard/summary, asked every {Latency.PollMilliseconds} ms, shows it."
        );
    }

    /// <summary>Where the time goes, which is what limits when both processors are busy.</summary>
    private void AddProcessors(string name, List<ThroughputRound> rounds)
    {
        double PerEvent(ThroughputRound round, double seconds) =>
            seconds * 1e6 / (round.EventsPerSecond * round.Seconds);
        report.Add(
            new Measure(
                $"{name} server (µs of CPU per event)",
                [.. rounds.Select(round => PerEvent(round, round.Used.Server))]
            )
        );
        report.Add(
            new Measure(
                $"{name} PostgreSQL (µs of CPU per event)",
                [.. rounds.Select(round => PerEvent(round, round.Used.Postgres))]
            )
        );
        report.Add(
            new Measure(
                $"{name} load generator (µs of CPU per event)",
                [.. rounds.Select(round => PerEvent(round, round.Used.Generator))]
            )
        );
    }

    /// <summary>The size of PostgreSQL's tables and indexes on disk: its <c>base</c> folder, which holds nothing else.</summary>
    private static long TableBytes(string dataFolder)
    {
        var everywhere = new EnumerationOptions { RecurseSubdirectories = true, IgnoreInaccessible = true };
        string tables = Directory
            .EnumerateDirectories(dataFolder, "base", everywhere)
            .First(folder => File.Exists(Path.Combine(folder, "..", "PG_VERSION")));
        long bytes = 0;
        foreach (string file in Directory.EnumerateFiles(tables, "*", everywhere))
        {
            try
            {
                bytes += new FileInfo(file).Length;
            }
            catch (FileNotFoundException)
            {
                // A temporary file, or a relation dropped meanwhile.
            }
        }

        return bytes;
    }
}
