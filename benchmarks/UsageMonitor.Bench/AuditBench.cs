using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Server;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench audit</c>: what it adds to an act that it leaves an entry. The act is a durable change of one row; acts with and
/// without an entry take turns. Then 64 admins act at once on one enterprise, and the chain is checked.
/// </summary>
internal sealed class AuditBench(Options options, string dataFolder, TextWriter progress)
{
    private const double MillisecondsTarget = 2;
    private const int WarmUpPairs = 200;
    private const int Pairs = 2_000;
    private const int Admins = 64;
    private const int ActsPerAdmin = 50;
    private readonly Report _report = new();

    private const string Act = "UPDATE enterprises SET name = name WHERE enterprise_id = $1";

    public async Task<Report> RunAsync()
    {
        progress.WriteLine("starting the platform");
        await using ServerHost platform = await ServerHost.StartAsync(
            new Dictionary<string, string?>
            {
                ["Port"] = "0",
                ["Data"] = Path.Combine(dataFolder, "platform"),
                ["USAGEMONITOR_OPERATOR_EMAIL"] = ServerProcess.OperatorEmail,
                ["USAGEMONITOR_OPERATOR_PASSWORD"] = ServerProcess.OperatorPassword,
                ["Logging:LogLevel:Default"] = options.LogLevel,
            },
            CancellationToken.None
        );
        Ending.Add(platform);
        Database database = platform.Services.GetRequiredService<Database>();
        Guid enterpriseId = Guid.Empty; // the platform's own chain is one like any other
        int pairs = options.Quick ? Pairs / 10 : Pairs;
        var plain = new List<double>();
        var audited = new List<double>();
        var added = new List<double>();
        for (int round = 0; round < options.Rounds; round++)
        {
            await PairsAsync(database, enterpriseId, WarmUpPairs);
            (double without, double with, double more) = await PairsAsync(database, enterpriseId, pairs);
            plain.Add(without);
            audited.Add(with);
            added.Add(more);
        }

        _report.Add(new Measure("an act without its entry, ms", plain));
        _report.Add(new Measure("the same with its entry, ms", audited));
        _report.Add(
            new Measure("the entry adds, ms (median of pairs)", added, "< 2 ms", more => more < MillisecondsTarget)
        );
        await AllAtOnceAsync(platform.Services, enterpriseId);
        Ending.Remove(platform);
        _report.Note(
            $"{pairs:N0} pairs a round, who goes first alternating; each act is a transaction that PostgreSQL has synced. An entry is sealed, "
                + "chained and appended in one more round trip."
        );
        return _report;
    }

    private static async Task<(double Plain, double Audited, double Added)> PairsAsync(
        Database database,
        Guid enterpriseId,
        int pairs
    )
    {
        var plain = new double[pairs];
        var audited = new double[pairs];
        for (int pair = 0; pair < pairs; pair++)
        {
            if (pair % 2 == 0)
            {
                plain[pair] = await ActAsync(database, enterpriseId, isAudited: false);
                audited[pair] = await ActAsync(database, enterpriseId, isAudited: true);
            }
            else
            {
                audited[pair] = await ActAsync(database, enterpriseId, isAudited: true);
                plain[pair] = await ActAsync(database, enterpriseId, isAudited: false);
            }
        }

        return (Median(plain), Median(audited), Median([.. audited.Zip(plain, (with, without) => with - without)]));
    }

    private static async Task<double> ActAsync(Database database, Guid enterpriseId, bool isAudited)
    {
        long started = Stopwatch.GetTimestamp();
        await using (ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, CancellationToken.None))
        {
            await own.ExecuteAsync(Act, [enterpriseId], CancellationToken.None);
            if (isAudited)
            {
                own.Audit("bench.acted", "enterprise", enterpriseId, new { name = "before" }, new { name = "after" });
            }

            await own.CommitAsync(CancellationToken.None);
        }

        return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
    }

    private async Task AllAtOnceAsync(IServiceProvider services, Guid enterpriseId)
    {
        int acts = options.Quick ? ActsPerAdmin / 10 : ActsPerAdmin;
        var rates = new List<double>();
        for (int round = 0; round < options.Rounds; round++)
        {
            long started = Stopwatch.GetTimestamp();
            await Task.WhenAll(
                Enumerable
                    .Range(0, Admins)
                    .Select(_ =>
                        Task.Run(async () =>
                        {
                            for (int act = 0; act < acts; act++)
                            {
                                await services
                                    .GetRequiredService<AuditTrail>()
                                    .RecordAsync(
                                        enterpriseId,
                                        new AuditEntry("bench.acted", "enterprise", "one"),
                                        CancellationToken.None
                                    );
                            }
                        })
                    )
            );
            rates.Add(Admins * acts / Stopwatch.GetElapsedTime(started).TotalSeconds);
        }

        _report.Add(new Measure($"entries a second of {Admins} admins at once, one chain", rates));
        long from = 1;
        while (true)
        {
            (AuditVerdict verdict, long? next) = await services
                .GetRequiredService<AuditCheckpoints>()
                .VerifyAsync(enterpriseId, from, null, CancellationToken.None);
            if (verdict.Fault is { } fault)
            {
                _report.Spoil($"the chain is broken: {fault.Detail}");
            }

            if (next is null)
            {
                break;
            }

            from = next.Value;
        }
    }

    private static double Median(double[] values)
    {
        Array.Sort(values);
        return values[values.Length / 2];
    }
}
