using System.Diagnostics;
using System.Globalization;
using Npgsql;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>
/// <c>kill -9</c> of the server, of its PostgreSQL and of single backends at random moments under load: what was
/// acknowledged is stored once, nothing twice, and every number and the ledger agree with what is stored.
/// </summary>
/// <remarks>
/// The long form: <c>CRASH_KILLS=30 ./test CrashTests</c>. The seed is printed; <c>CRASH_SEED=N</c> sends the same events
/// and kills the same things in the same order again (when exactly, only the machine knows).
/// </remarks>
public sealed class CrashTests(ITestOutputHelper output)
{
    private static readonly Victim[] s_victims = Enum.GetValues<Victim>();
    private const int ClientsPerEnterprise = 2;

    /// <summary>A kill comes after at most so many more batches have been acknowledged.</summary>
    private const int BatchesBetweenKillsMax = 60;

    private static readonly string[] s_zones =
    [
        "Asia/Kolkata",
        "America/New_York",
        "Australia/Lord_Howe",
        "Etc/UTC",
        "Pacific/Auckland",
    ];

    [Fact]
    public async Task Serve_WhenItAndPostgresAreKilledUnderLoad_ShouldStoreWhatItAcknowledgedExactlyOnce()
    {
        int kills = Number("CRASH_KILLS") ?? s_victims.Length;
        int seed = Number("CRASH_SEED") ?? Random.Shared.Next();
        output.WriteLine($"CRASH_SEED={seed} CRASH_KILLS={kills}");
        var random = new Random(seed);
        using var folder = new TemporaryFolder();
        await using var server = new CrashingServer(new(folder.File("data"), Ports.Free()), random);
        await server.StartAsync();
        List<SentEvents> enterprises = await CreateAsync(server);

        using var stop = new CancellationTokenSource();
        using var abort = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        CrashClient[] clients =
        [
            .. enterprises
                .SelectMany(enterprise => Enumerable.Repeat(enterprise, ClientsPerEnterprise))
                .Select(enterprise => new CrashClient(server.Address, enterprise, random.Next())),
        ];
        var load = new CrashLoad(clients, clients.Select(client => client.RunAsync(stop.Token, abort.Token)));
        try
        {
            await KillAsync(server, load, random, kills);
            await stop.CancelAsync();
            await load.EndAsync();
        }
        catch
        {
            await abort.CancelAsync();
            output.WriteLine(server.Output);
            throw;
        }

        await using NpgsqlDataSource owner = server.Postgres.OpenAsOwner();
        var check = new CrashCheck(server.Address, owner, random);
        foreach (SentEvents enterprise in enterprises)
        {
            output.WriteLine(await check.RunAsync(enterprise));
        }

        Assert.Equal(0, await server.StopAsync());
    }

    private async Task KillAsync(CrashingServer server, CrashLoad load, Random random, int kills)
    {
        Victim[] victims = [.. s_victims];
        for (int kill = 0; kill < kills; kill++)
        {
            await load.MoreAcknowledgedAsync(random.Next(1, BatchesBetweenKillsMax));
            if (kill % victims.Length == 0)
            {
                random.Shuffle(victims); // each as often as the others
            }

            string killed = await server.KillAsync(victims[kill % victims.Length]);
            long began = Stopwatch.GetTimestamp();
            await load.EachAcknowledgedAsync();
            output.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"{kill + 1}: killed {killed}; took events again after {Stopwatch.GetElapsedTime(began).TotalSeconds:0.0} s"
                )
            );
        }
    }

    private static async Task<List<SentEvents>> CreateAsync(CrashingServer server)
    {
        using Api platform = await Api.SignInAsOperatorAsync(server.Address);
        var enterprises = new List<SentEvents>();
        foreach (string zone in s_zones)
        {
            string name = $"crash-{enterprises.Count}";
            Tenant tenant = await platform.CreateTenantAsync(name, zone);
            await CrashPolicy.ForbidAsync(server.Address, tenant);
            enterprises.Add(new SentEvents(tenant));
        }

        return enterprises;
    }

    private static int? Number(string variable) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text
            ? int.Parse(text, CultureInfo.InvariantCulture)
            : null;
}
