using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench alerts</c>: how long it takes from the answer to the event that crosses a threshold until the mail is in the mail
/// server, under the mission's peak load; and whether each alert came, once.
/// </summary>
internal sealed class AlertsBench(Options options, string program, string dataFolder, TextWriter progress)
{
    private const int Enterprises = 40;
    private const int EventsOfBatch = 50;
    private const int Batches = 400;
    private const double LoadTarget = Latency.EventsPerSecond;

    /// <summary>A little more than the target, or the last answers would make it a little less.</summary>
    private const double LoadOffered = 1.015 * LoadTarget;
    private const int CrossingMilliseconds = 100;
    private const double MailMillisecondsTarget = 2_000;
    private const int WarmUpSeconds = 4;
    private const int MailSecondsMax = 60;
    private const int PollMilliseconds = 20;

    // An event reaches it that comes after three others; 80 % of a limit of five is the same.
    private const int Threshold = 4;
    private const int LimitValue = 5;
    private const int Percent = 80;
    private const string LoadFeature = "search-query";
    private readonly Report _report = new();

    /// <summary>A rule that is to be crossed once; who is told names it.</summary>
    private sealed record Crossing(int Number, EventBatch Event)
    {
        public long AcknowledgedAt { get; set; }

        public string Recipient { get; } = string.Create(CultureInfo.InvariantCulture, $"r{Number}@bench.example");
    }

    public async Task<Report> RunAsync()
    {
        progress.WriteLine("starting a mail server and the platform");
        await using MailServer mails = await MailServer.StartAsync();
        await using ServerProcess server = await ServerProcess.ServeAsync(
            program,
            Path.Combine(dataFolder, "platform"),
            options.LogLevel,
            mails.Settings
        );
        using var client = new PlatformClient(server.Port, server.Tail);
        BenchEnterprise[] enterprises = await client.CreateEnterprisesAsync(Enterprises);
        int crossingsOfRound = (int)(
            TimeSpan.FromSeconds(options.AlertsSeconds).TotalMilliseconds / CrossingMilliseconds
        );
        var generator = new Generator(server.Port, enterprises);
        EventBatch[] batches = EventBatch.Make(Batches, EventsOfBatch, new EnterpriseMix(Enterprises), new Random(7));
        Array.ForEach(batches, batch => batch.Address(server.Port, enterprises[batch.Enterprise].ApiKey));
        using PipelineWatch pipeline = await client.WatchPipelineAsync();
        var load = new PacedLoad(generator, batches, LoadOffered);

        progress.WriteLine($"making {crossingsOfRound * options.Rounds} rules");
        Crossing[] crossings = await MakeCrossingsAsync(
            client,
            server.Port,
            enterprises,
            batches[0],
            crossingsOfRound * options.Rounds
        );
        await BringNearAsync(generator, crossings);
        using (var warm = new CancellationTokenSource(TimeSpan.FromSeconds(WarmUpSeconds)))
        {
            await load.RunAsync(warm.Token);
        }

        await pipeline.WaitUntilProcessedAsync(generator.Accepted);
        if (!mails.Mails.Select(mail => mail.Recipient).SequenceEqual([]))
        {
            _report.Spoil("Mails came before a threshold was crossed.");
        }

        await RoundsAsync(server, generator, load, pipeline, mails, crossings.Chunk(crossingsOfRound).ToArray());
        Count(mails, crossings);
        _report.Note(
            $"{crossings.Length} rules in {Enterprises} enterprises: a number of events of everybody, of each user, and {Percent} % of each user's "
                + $"limit, in turn; every {CrossingMilliseconds} ms one event crosses one, and the time counts from its 202 until the mail server has the "
                + $"whole mail. Meanwhile events of 1 KB in requests of {EventsOfBatch}, on a feature with limits of each user and of all."
        );
        return _report;
    }

    private async Task RoundsAsync(
        ServerProcess server,
        Generator generator,
        PacedLoad load,
        PipelineWatch pipeline,
        MailServer mails,
        Crossing[][] rounds
    )
    {
        (List<double> rates, List<double> median, List<double> slow, List<double> slowest, List<double> used) = (
            [],
            [],
            [],
            [],
            []
        );
        var usage = new ProcessUsage(server);
        for (int round = 0; round < rounds.Length; round++)
        {
            ProcessorSeconds usedBefore = usage.Read();
            long started = Stopwatch.GetTimestamp();
            using var stop = new CancellationTokenSource();
            Task<double> loading = load.RunAsync(stop.Token);
            await CrossAsync(generator, rounds[round]);
            await ArrivedAsync(mails, rounds[round]);
            await stop.CancelAsync();
            rates.Add(await loading);
            used.Add((usage.Read() - usedBefore).Server / Stopwatch.GetElapsedTime(started).TotalSeconds);
            await pipeline.WaitUntilProcessedAsync(generator.Accepted);
            double[] took = Took(mails, rounds[round]);
            median.Add(Latency.Percentile(took, 50));
            slow.Add(Latency.Percentile(took, 99));
            slowest.Add(took[^1]);
            progress.WriteLine(
                $"alerts {round + 1}: {rates[^1]:N0} events/s; {took.Length} mails after {median[^1]:N0} ms, p99 {slow[^1]:N0}, slowest {slowest[^1]:N0}"
            );
            if (rates[^1] < LoadTarget)
            {
                _report.Spoil(
                    $"Round {round + 1} reached {rates[^1]:N0} of {LoadTarget:N0} events/s: its times say nothing."
                );
            }
        }

        _report.Add(
            new Measure("load meanwhile (events/s acknowledged)", rates, "≥ 6,600", rate => rate >= LoadTarget)
        );
        _report.Add(new Measure("threshold crossed → mail in the mail server, p50 (ms)", median));
        _report.Add(
            new Measure(
                "threshold crossed → mail in the mail server, p99 (ms)",
                slow,
                "≤ 2,000",
                milliseconds => milliseconds <= MailMillisecondsTarget
            )
        );
        _report.Add(new Measure("threshold crossed → mail in the mail server, slowest (ms)", slowest));
        _report.Add(new Measure("processors that the server used meanwhile", used));
        if (generator.Rejected > 0)
        {
            _report.Spoil($"{generator.Rejected} events were refused.");
        }
    }

    /// <summary>Every mail of every rule is in, once; and no other.</summary>
    private void Count(MailServer mails, Crossing[] crossings)
    {
        HashSet<string> expected = [.. crossings.Select(crossing => crossing.Recipient)];
        ILookup<string, ReceivedMail> received = mails.Mails.ToLookup(mail => mail.Recipient);
        int missing = expected.Count(recipient => !received.Contains(recipient));
        int doubled = received.Count(of => of.Count() > 1);
        int unknown = received.Count(of => !expected.Contains(of.Key));
        _report.Add(
            new Measure(
                $"alerts lost or doubled, of {crossings.Length}",
                [missing + doubled + unknown],
                "0",
                wrong => wrong == 0
            )
        );
        if (missing + doubled + unknown > 0)
        {
            _report.Spoil($"{missing} mails are missing, {doubled} came more than once, {unknown} were not expected.");
        }
    }

    private static async Task CrossAsync(Generator generator, Crossing[] crossings)
    {
        var ids = new UniqueIds();
        using HttpConnection connection = generator.Connect();
        long started = Stopwatch.GetTimestamp();
        for (int at = 0; at < crossings.Length; at++)
        {
            double left = (at * CrossingMilliseconds) - Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            await Task.Delay((int)Math.Max(0, Math.Ceiling(left)));
            crossings[at].Event.Renew(ids);
            await generator.SendAsync(connection, crossings[at].Event);
            crossings[at].AcknowledgedAt = Stopwatch.GetTimestamp();
        }
    }

    private static async Task ArrivedAsync(MailServer mails, Crossing[] crossings)
    {
        long started = Stopwatch.GetTimestamp();
        string[] missing = [.. crossings.Select(crossing => crossing.Recipient)];
        while (missing.Length > 0)
        {
            await Task.Delay(PollMilliseconds);
            missing = [.. missing.Except(mails.Mails.Select(mail => mail.Recipient))];
            if (missing.Length > 0 && Stopwatch.GetElapsedTime(started).TotalSeconds > MailSecondsMax)
            {
                throw new BenchException(
                    $"{missing.Length} of {crossings.Length} mails did not come in {MailSecondsMax} s."
                );
            }
        }
    }

    private static double[] Took(MailServer mails, Crossing[] crossings)
    {
        ILookup<string, ReceivedMail> received = mails.Mails.ToLookup(mail => mail.Recipient);
        return
        [
            .. crossings
                .Select(crossing =>
                    Stopwatch
                        .GetElapsedTime(crossing.AcknowledgedAt, received[crossing.Recipient].First().At)
                        .TotalMilliseconds
                )
                .Order(),
        ];
    }

    /// <summary>So many events of each that the next one crosses.</summary>
    private static async Task BringNearAsync(Generator generator, Crossing[] crossings)
    {
        var ids = new UniqueIds();
        using HttpConnection connection = generator.Connect();
        foreach (Crossing crossing in crossings)
        {
            for (int before = 1; before < Threshold; before++)
            {
                crossing.Event.Renew(ids);
                await generator.SendAsync(connection, crossing.Event);
            }
        }
    }

    private static async Task<Crossing[]> MakeCrossingsAsync(
        PlatformClient client,
        int port,
        BenchEnterprise[] enterprises,
        EventBatch pattern,
        int count
    )
    {
        var made = new Crossing[count];
        await Parallel.ForAsync(
            0,
            enterprises.Length,
            new ParallelOptions { MaxDegreeOfParallelism = 4 },
            async (place, _) =>
            {
                BenchEnterprise enterprise = enterprises[place];
                string token = await client.SignInAsAdminAsync(enterprise);
                await LimitAsync(LoadFeature, "USER", 1_000_000, "DAILY");
                await LimitAsync(LoadFeature, "ENTERPRISE", 1_000_000_000, "MONTHLY");
                for (int number = place; number < count; number += enterprises.Length)
                {
                    string feature = string.Create(CultureInfo.InvariantCulture, $"cross-{number:000000}");
                    EventBatch one = pattern.Slice(0, 1, place);
                    Encoding.ASCII.GetBytes(feature, one.Event(0)[EventBodies.FeatureAt..]);
                    one.Address(port, enterprise.ApiKey);
                    made[number] = new Crossing(number, one);
                    bool isPercent = number % 3 == 2;
                    if (isPercent)
                    {
                        await LimitAsync(feature, "USER", LimitValue, "DAILY");
                    }

                    await client.PostAsync(
                        "/v1/admin/alerts",
                        token,
                        new
                        {
                            featureName = feature,
                            scope = isPercent ? null
                            : number % 3 == 1 ? "USER"
                            : "ENTERPRISE",
                            thresholdValue = isPercent ? (int?)null : Threshold,
                            thresholdPct = isPercent ? Percent : (int?)null,
                            windowType = "DAILY",
                            notification = "EMAIL",
                            recipients = new[] { made[number].Recipient },
                        }
                    );
                }

                Task LimitAsync(string feature, string scope, long value, string window) =>
                    client.PostAsync(
                        "/v1/admin/usage/limits",
                        token,
                        new
                        {
                            featureName = feature,
                            scope,
                            limitValue = value,
                            windowType = window,
                            action = "ALERT",
                        }
                    );
            }
        );
        return made;
    }
}
