using System.Diagnostics;

namespace UsageMonitor.Bench;

/// <summary>The order of a run: make the events, measure the limits, start the platform, measure it, check its books.</summary>
internal sealed class Bench(Options options, string program, string dataFolder, TextWriter progress)
{
    private const int BatchEvents = 100;
    private const int BatchesOfGzipSample = 50;
    private const int Seed = 20_260_101;
    private readonly Report _report = new();
    private readonly Random _random = new(Seed);
    private readonly long _started = Stopwatch.GetTimestamp();

    public async Task<Report> RunAsync()
    {
        var mix = new EnterpriseMix(options.Enterprises);
        Say($"making {options.Events:N0} events of {EventBodies.EventBytes} bytes");
        EventBatch[] batches = EventBatch.Make(Math.Max(1, options.Events / BatchEvents), BatchEvents, mix, _random);
        double gzip = EventBodies.GzipRatio(batches.Take(BatchesOfGzipSample).Select(batch => batch.Body));
        _report.Note(
            $"Events: {EventBodies.EventBytes} bytes of JSON; gzip makes a batch of {BatchEvents} {gzip:0.0} times smaller. "
                + $"{mix.Count:N0} enterprises with {mix.Users:N0} users; a batch is of one enterprise, chosen in proportion to its "
                + "users, and its users are drawn evenly; 10 features by Zipf's law."
        );
        if (options.Does("baselines"))
        {
            await MeasureBaselinesAsync(batches);
        }

        if (options.Only.Any(part => part != "baselines"))
        {
            await MeasurePlatformAsync(mix, batches);
        }

        return _report;
    }

    private async Task MeasureBaselinesAsync(EventBatch[] batches)
    {
        Say("starting PostgreSQL for the baselines");
        await using ServerProcess postgres = await ServerProcess.StartPostgresAsync(
            program,
            Path.Combine(dataFolder, "baselines")
        );
        await using var baselines = new Baselines(postgres.ConnectionString, batches);
        var insertDuration = TimeSpan.FromSeconds(Math.Max(1, options.SingleSeconds / 2));
        var (one, two, json, insert) = (new List<double>(), new List<double>(), new List<double>(), new List<double>());
        for (int round = 1; round <= options.Rounds; round++)
        {
            one.Add(await baselines.CopyAsync(streams: 1));
            two.Add(await baselines.CopyAsync(streams: 2));
            json.Add(await baselines.CopyAsync(streams: 1, asJson: true));
            insert.Add(await baselines.InsertAsync(insertDuration));
            Say(
                $"baselines {round}: COPY {one[^1]:N0}/s, two streams {two[^1]:N0}/s, jsonb {json[^1]:N0}/s, INSERT {insert[^1]:N0}/s"
            );
        }

        var limit = new Measure("COPY, one stream, properties as text (rows/s)", one, IsRate: true);
        _report.CopyRowsPerSecond = limit.Median;
        _report.Add(limit);
        _report.Add(new Measure("COPY, two streams (rows/s)", two, IsRate: true));
        _report.Add(new Measure("COPY, one stream, properties as jsonb (rows/s)", json, IsRate: true));
        _report.Add(new Measure("one INSERT per event, 8 connections (rows/s)", insert, IsRate: true));
        _report.Note(
            "Baselines: the same PostgreSQL and settings in a folder of its own, a new table each round after a CHECKPOINT; "
                + "COPY data encoded beforehand, 10,000 rows a COPY; INSERTs prepared, one transaction each."
        );
    }

    private async Task MeasurePlatformAsync(EnterpriseMix mix, EventBatch[] batches)
    {
        Say("starting the platform");
        await using ServerProcess server = await ServerProcess.ServeAsync(
            program,
            Path.Combine(dataFolder, "platform"),
            options.LogLevel
        );
        using var platform = new PlatformClient(server.Port, server.Tail);
        Say($"making {mix.Count:N0} enterprises, their admins and keys, and one for the probe");
        BenchEnterprise[] enterprises = await platform.CreateEnterprisesAsync(mix.Count + 1);
        Address(batches, enterprises, server.Port);
        var generator = new Generator(server.Port, enterprises);
        var usage = new ProcessUsage(server);
        using PipelineWatch pipeline = await platform.WatchPipelineAsync();

        Say("warming up: one round that is not counted; it makes the users known");
        var throughput = new Throughput(generator, pipeline, usage);
        await throughput.SendBatchesAsync(batches, _random);
        var measures = new PlatformMeasures(options, _report, Say);
        if (options.Does("throughput"))
        {
            await measures.ThroughputAsync(throughput, batches, _random, server.DataFolder);
        }

        if (options.Does("singles"))
        {
            EventBatch[] singles = Slices(batches, Throughput.SingleConnections * Throughput.SinglesOfConnection, 1);
            Address(singles, enterprises, server.Port);
            await server.CheckpointAsync();
            await measures.SinglesAsync(throughput, singles);
        }

        if (options.Does("latency"))
        {
            EventBatch[] tens = Slices(batches, Latency.Connections * 32, Latency.RequestEvents);
            Address(tens, enterprises, server.Port);
            EventBatch probe = batches[0].Slice(0, 1, enterprise: mix.Count);
            probe.Address(server.Port, enterprises[mix.Count].ApiKey);
            string path =
                $"/v1/dashboard/summary?from={DateTime.UtcNow.AddDays(-1):yyyy-MM-dd}&to={DateTime.UtcNow.AddDays(2):yyyy-MM-dd}";
            ReadOnlyMemory<byte> summary = platform.Get(path, enterprises[mix.Count].ApiKey);
            await server.CheckpointAsync();
            _report.Note(
                "Singles and latency begin after a CHECKPOINT, as a server that has been up for five minutes has had one: in a "
                    + "new cluster every 16 MB of WAL makes and fills a file, for which commits wait 20–60 ms."
            );
            await measures.LatencyAsync(new Latency(generator, usage), tens, probe, summary);
        }

        await pipeline.WaitUntilProcessedAsync(generator.Accepted);
        _report.Add(
            new Measure(
                "server's resident memory at its highest (MB)",
                [usage.ServerPeakMegabytes()],
                "≤ 600",
                megabytes => megabytes <= 600
            )
        );
        await CheckAsync(platform, generator, enterprises);
    }

    private async Task CheckAsync(PlatformClient platform, Generator generator, BenchEnterprise[] enterprises)
    {
        Say("holding every enterprise's ledger against what was sent");
        (int wrong, string examples) = await platform.CheckLedgersAsync(enterprises);
        string counts =
            $"{generator.Accepted:N0} events acknowledged over {enterprises.Length:N0} enterprises; {generator.Rejected:N0} refused; "
            + $"{generator.Busy:N0} answers 429 or 503, waited for; {generator.Broken:N0} broken connections";
        if (wrong > 0 || generator.Rejected > 0)
        {
            _report.Spoil($"{counts}; {wrong:N0} ledgers do not say stored = sent and pending = 0:\n{examples}");
        }
        else
        {
            _report.Note($"Checked: {counts}; every ledger says stored = sent and pending = 0.");
        }
    }

    private EventBatch[] Slices(EventBatch[] batches, int count, int events) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(_ =>
                {
                    EventBatch from = batches[_random.Next(batches.Length)];
                    return from.Slice(_random.Next(from.Events), events, from.Enterprise);
                }),
        ];

    private static void Address(EventBatch[] batches, BenchEnterprise[] enterprises, int port)
    {
        foreach (EventBatch batch in batches)
        {
            batch.Address(port, enterprises[batch.Enterprise].ApiKey);
        }
    }

    private void Say(string text) =>
        progress.WriteLine($"{Stopwatch.GetElapsedTime(_started).TotalSeconds, 6:0.0} s  {text}");
}
