using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Counting;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.RealData;

/// <summary>Six histories, imported as six enterprises of six time zones, and every number held against a count of the files.</summary>
public sealed class RealDataTests(ITestOutputHelper output)
{
    private const int Seed = 20_261_123;
    private static readonly string[] s_zones =
    [
        "Asia/Kolkata",
        "America/New_York",
        "Australia/Lord_Howe",
        "Etc/UTC",
        "Europe/Berlin",
        "Pacific/Auckland",
    ];

    private sealed record Imported(Tenant Tenant, ActivityFile File, IndependentCount Expected);

    [Fact]
    public async Task Import_WhenSixHistoriesAreSentTwice_ShouldShowExactlyWhatTheFilesHold()
    {
        using var folder = new TemporaryFolder();
        (IReadOnlyList<ActivityFile> files, string source) = ActivityFile.FindOrMake(folder);
        output.WriteLine($"The activity is {source}.");
        Assert.Equal(s_zones.Length, files.Count);
        await using ServerProcess server = await ServerProcess.StartReadyAsync(
            new(folder.File("data"), Ports.Free())
            {
                // It asks for thousands of numbers as fast as it can.
                Settings = new Dictionary<string, string>
                {
                    ["RateLimits__RequestsPerSecondPerCaller"] = "1000000",
                    ["RateLimits__RequestsPerSecondPerEnterprise"] = "1000000",
                },
            }
        );
        List<Imported> imported = await CreateAsync(server, files);

        await ImportAsync(server, folder, imported, "import");
        foreach (Imported one in imported)
        {
            using var api = new Api(server.Address, one.Tenant.Key);
            int events = one.Expected.All.Count;
            await WaitForLedgerAsync(api, new LedgerCounts(events, events, 0, 0, events, 0, 0));
            var check = new DashboardCheck(api, one.Expected, new Random(Seed));
            await check.RunAsync(new Thoroughness(Ranges: 200, EveryNthUser: 1, HourlyMonths: 8));
            output.WriteLine($"{one.File.Name}: {check}, {one.Expected.Users.Count()} users, all as counted");
        }

        await ImportAsync(server, folder, imported, "import", "--restart");
        foreach (Imported one in imported)
        {
            using var api = new Api(server.Address, one.Tenant.Key);
            int events = one.Expected.All.Count;
            await WaitForLedgerAsync(api, new LedgerCounts(2 * events, 2 * events, 0, 0, events, events, 0));
            var check = new DashboardCheck(api, one.Expected, new Random(Seed));
            await check.RunAsync(new Thoroughness(Ranges: 20, EveryNthUser: 10, HourlyMonths: 2));
        }

        Assert.Equal(0, await server.StopAsync());
    }

    private static async Task<List<Imported>> CreateAsync(ServerProcess server, IReadOnlyList<ActivityFile> files)
    {
        using Api platform = await Api.SignInAsOperatorAsync(server.Address);
        var imported = new List<Imported>();
        foreach ((ActivityFile file, string zone) in files.Zip(s_zones))
        {
            Tenant tenant = await platform.CreateTenantAsync(file.Name, zone);
            imported.Add(new Imported(tenant, file, new IndependentCount(file.Read(), tenant.Zone)));
        }

        return imported;
    }

    /// <summary>All at once, as six enterprises would.</summary>
    private async Task ImportAsync(
        ServerProcess server,
        TemporaryFolder folder,
        List<Imported> imported,
        params string[] command
    )
    {
        (int ExitCode, string Output)[] runs = await Task.WhenAll(
            imported.Select(one =>
                ChildProcess.RunAsync(
                    [.. command, one.File.Path, "--url", $"{server.Address}", "--state", folder.File(one.File.Name)],
                    new Dictionary<string, string> { ["USAGEMONITOR_API_KEY"] = one.Tenant.Key }
                )
            )
        );
        foreach ((int exitCode, string said) in runs)
        {
            output.WriteLine(said);
            Assert.Equal(0, exitCode);
        }
    }

    private static async Task WaitForLedgerAsync(Api api, LedgerCounts expected)
    {
        LedgerResponse? ledger = null;
        await Eventually.TrueAsync(
            async () => (ledger = await api.LedgerAsync()).Total.Pending == 0,
            () => $"nothing is pending; the ledger says {ledger}"
        );
        Assert.Equal(expected, ledger!.Total);
        Assert.All(
            ledger.Hours,
            hour =>
            {
                Assert.Equal(hour.Received, hour.Accepted + hour.Rejected);
                Assert.Equal(hour.Accepted, hour.Stored + hour.Duplicate);
                Assert.Equal(0, hour.Pending);
            }
        );
    }
}
