using System.Diagnostics;
using System.Text;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench limits</c>: what BLOCK limits on a tenth of the features cost ingestion, and how fast <c>POST /v1/usage/check</c> decides.
/// Two groups of enterprises get the same events in turn, one with limits and one without: their ratio is what counts.
/// </summary>
internal sealed class LimitsBench(Options options, string program, string dataFolder, TextWriter progress)
{
    private const int GroupEnterprises = 20;
    private const int EventsOfBatch = 500;
    private const double KeptTarget = 0.80;
    private const double ChecksPerSecondTarget = 15_000;
    private const double CheckMillisecondsTarget = 2;
    private const int ChecksOfRequest = 100;
    private const int BatchLanes = 8;
    private const int SingleLanes = 32;
    private const int WarmUpSeconds = 2;

    // One of the ten features of the bench.
    private const string LimitedFeature = "search-query";
    private const string FreeFeature = "ledger-print";

    // Pairs of slices, one of each group: so short and so many that what else the machine does falls on both alike.
    private const int SliceEventsMax = 100_000;
    private const int PairsOfRound = 4;

    // The runtime compiles what is hot a second and a third time; and the users become known.
    private const int WarmUpPairs = 4;
    private readonly Report _report = new();

    public async Task<Report> RunAsync()
    {
        progress.WriteLine("starting the platform");
        await using ServerProcess server = await ServerProcess.ServeAsync(
            program,
            Path.Combine(dataFolder, "platform"),
            options.LogLevel
        );
        using var client = new PlatformClient(server.Port, server.Tail);
        BenchEnterprise[] enterprises = await client.CreateEnterprisesAsync(2 * GroupEnterprises);
        BenchEnterprise[] without = enterprises[..GroupEnterprises];
        BenchEnterprise[] limited = enterprises[GroupEnterprises..];
        foreach (BenchEnterprise enterprise in limited)
        {
            await client.LimitAsync(enterprise, LimitedFeature, "USER", 1_000_000, "DAILY");
            await client.LimitAsync(enterprise, LimitedFeature, "ENTERPRISE", 1_000_000_000, "MONTHLY");
        }

        await IngestAsync(server, client, without, limited);
        await CheckAsync(server, limited);
        _report.Note(
            $"Limits: each user's day and everybody's month of one of ten features, in {GroupEnterprises} enterprises; "
                + $"the other {GroupEnterprises} have none. Batches of {EventsOfBatch} events of 1 KB, acknowledged and processed."
        );
        return _report;
    }

    private async Task IngestAsync(
        ServerProcess server,
        PlatformClient client,
        BenchEnterprise[] without,
        BenchEnterprise[] limited
    )
    {
        var mix = new EnterpriseMix(GroupEnterprises);
        int batches = Math.Min(options.Events, SliceEventsMax) / EventsOfBatch;
        EventBatch[] plain = Addressed(EventBatch.Make(batches, EventsOfBatch, mix, new Random(7)), without);
        EventBatch[] counted = Addressed(EventBatch.Make(batches, EventsOfBatch, mix, new Random(7)), limited);
        var generator = new Generator(server.Port, without);
        using PipelineWatch pipeline = await client.WatchPipelineAsync();
        var throughput = new Throughput(generator, pipeline, new ProcessUsage(server));
        for (int pair = 1; pair <= WarmUpPairs; pair++)
        {
            await throughput.SendBatchesAsync(plain, new Random(-pair));
            await throughput.SendBatchesAsync(counted, new Random(-pair));
        }

        var free = new List<ThroughputRound>();
        var held = new List<ThroughputRound>();
        for (int pair = 1; pair <= options.Rounds * PairsOfRound; pair++)
        {
            // Who goes first alternates: the store grows meanwhile.
            bool isPlainFirst = pair % 2 == 1;
            ThroughputRound first = await throughput.SendBatchesAsync(isPlainFirst ? plain : counted, new Random(pair));
            ThroughputRound second = await throughput.SendBatchesAsync(
                isPlainFirst ? counted : plain,
                new Random(pair)
            );
            free.Add(isPlainFirst ? first : second);
            held.Add(isPlainFirst ? second : first);
            progress.WriteLine(
                $"ingest {pair}: {held[^1].EventsPerSecond:N0} events/s with limits, {free[^1].EventsPerSecond:N0} without"
            );
        }

        if (generator.Rejected > 0)
        {
            _report.Spoil($"{generator.Rejected} events were refused, although no limit is used up.");
        }

        _report.Add(Rate("ingest without limits (events/s)", free, round => round.EventsPerSecond));
        _report.Add(
            Rate("ingest with BLOCK limits on a tenth of the features (events/s)", held, round => round.EventsPerSecond)
        );
        _report.Add(
            new Measure(
                "share of the speed that is kept with limits",
                [.. held.Zip(free, (with, without) => with.EventsPerSecond / without.EventsPerSecond)],
                "≥ 0.80",
                kept => kept >= KeptTarget
            )
        );
        AddProcessorTimes("without limits", free);
        AddProcessorTimes("with limits", held);

        void AddProcessorTimes(string what, List<ThroughputRound> rounds)
        {
            _report.Add(
                Rate(
                    $"… the server's processor time, {what} (µs/event)",
                    rounds,
                    round => MicrosecondsPerEvent(round, round.Used.Server)
                )
            );
            _report.Add(
                Rate(
                    $"… PostgreSQL's processor time, {what} (µs/event)",
                    rounds,
                    round => MicrosecondsPerEvent(round, round.Used.Postgres)
                )
            );
        }

        EventBatch[] Addressed(EventBatch[] made, BenchEnterprise[] group)
        {
            foreach (EventBatch batch in made)
            {
                batch.Address(server.Port, group[batch.Enterprise].ApiKey);
            }

            return made;
        }
    }

    private static Measure Rate(string name, List<ThroughputRound> rounds, Func<ThroughputRound, double> value) =>
        new(name, [.. rounds.Select(value)]);

    private static double MicrosecondsPerEvent(ThroughputRound round, double seconds) =>
        seconds * 1e6 / (round.EventsPerSecond * round.Seconds);

    private async Task CheckAsync(ServerProcess server, BenchEnterprise[] limited)
    {
        var duration = TimeSpan.FromSeconds(options.SingleSeconds);
        var many = new List<double>();
        var singles = new List<double>();
        var median = new List<double>();
        var slowest = new List<double>();
        var free = new List<double>();
        await LoopAsync(server.Port, limited, LimitedFeature, 1, SingleLanes, TimeSpan.FromSeconds(WarmUpSeconds));
        await LoopAsync(server.Port, limited, LimitedFeature, 100, BatchLanes, TimeSpan.FromSeconds(WarmUpSeconds));
        for (int round = 1; round <= options.Rounds; round++)
        {
            (double perSecond, _) = await LoopAsync(
                server.Port,
                limited,
                LimitedFeature,
                ChecksOfRequest,
                BatchLanes,
                duration
            );
            many.Add(perSecond);
            (perSecond, _) = await LoopAsync(server.Port, limited, LimitedFeature, 1, SingleLanes, duration);
            singles.Add(perSecond);
            (_, double[] alone) = await LoopAsync(server.Port, limited, LimitedFeature, 1, 2, duration);
            median.Add(Latency.Percentile(alone, 50));
            slowest.Add(Latency.Percentile(alone, 99));
            (_, double[] unlimited) = await LoopAsync(server.Port, limited, FreeFeature, 1, 2, duration);
            free.Add(Latency.Percentile(unlimited, 99));
            progress.WriteLine(
                $"check {round}: {many[^1]:N0} decisions/s in requests of {ChecksOfRequest}, {singles[^1]:N0} one by one; p99 {slowest[^1]:0.00} ms"
            );
        }

        _report.Add(
            new Measure(
                $"usage/check, {ChecksOfRequest} a request (decisions/s)",
                many,
                "≥ 15,000",
                rate => rate >= ChecksPerSecondTarget
            )
        );
        _report.Add(new Measure($"usage/check, one a request over {SingleLanes} connections (decisions/s)", singles));
        _report.Add(new Measure("usage/check, one a request, p50 (ms)", median));
        _report.Add(
            new Measure(
                "usage/check, one a request, p99 (ms)",
                slowest,
                "≤ 2",
                milliseconds => milliseconds <= CheckMillisecondsTarget
            )
        );
        _report.Add(new Measure("… of a feature without limits, p99 (ms)", free));
    }

    private static async Task<(double PerSecond, double[] Milliseconds)> LoopAsync(
        int port,
        BenchEnterprise[] limited,
        string feature,
        int checks,
        int lanes,
        TimeSpan duration
    )
    {
        long started = Stopwatch.GetTimestamp();
        var times = new List<double>[lanes];
        await Task.WhenAll(
            Enumerable
                .Range(0, lanes)
                .Select(lane =>
                    Task.Run(async () =>
                    {
                        using var connection = new HttpConnection(port);
                        var random = new Random(lane);
                        ReadOnlyMemory<byte>[] requests =
                        [
                            .. Enumerable.Range(0, 64).Select(_ => Request(port, limited, feature, checks, random)),
                        ];
                        times[lane] = [];
                        for (int at = 0; Stopwatch.GetElapsedTime(started) < duration; at++)
                        {
                            long asked = Stopwatch.GetTimestamp();
                            HttpAnswer answer = await connection.SendAsync(requests[at % requests.Length]);
                            times[lane].Add(Stopwatch.GetElapsedTime(asked).TotalMilliseconds);
                            if (answer.Status != 200 || answer.Body.Span.IndexOf("\"allowed\":false"u8) >= 0)
                            {
                                throw new BenchException(
                                    $"POST /v1/usage/check answered {answer.Status}: {Encoding.UTF8.GetString(answer.Body.Span)}"
                                );
                            }
                        }
                    })
                )
        );
        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        double[] all = [.. times.SelectMany(lane => lane).Order()];
        return (all.Length * checks / seconds, all);
    }

    private static ReadOnlyMemory<byte> Request(
        int port,
        BenchEnterprise[] limited,
        string feature,
        int checks,
        Random random
    )
    {
        int enterprise = random.Next(limited.Length);
        string one = string.Join(
            ',',
            Enumerable
                .Range(0, checks)
                .Select(_ =>
                    $"{{\"userId\":\"{EnterpriseMix.UserId(enterprise, random.Next(EnterpriseMix.UsersOf(enterprise)))}\",\"featureName\":\"{feature}\"}}"
                )
        );
        string body = checks == 1 ? one : $"{{\"checks\":[{one}]}}";
        return Encoding.ASCII.GetBytes(
            $"POST /v1/usage/check HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {limited[enterprise].ApiKey}\r\n"
                + $"Content-Type: application/json\r\nContent-Length: {body.Length}\r\n\r\n{body}"
        );
    }
}
