using System.Diagnostics;
using System.Globalization;
using Npgsql;
using UsageMonitor.EndToEnd.Crash;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Alerts;

/// <summary>
/// <c>kill -9</c> of the server, and now and then of its PostgreSQL, at random moments while thresholds are crossed: each
/// (rule, limit, subject, window) that was crossed has one alert, no other has any, and each alert reached a real mail server
/// or webhook, under one id however often it came.
/// </summary>
/// <remarks>
/// The long form: <c>ALERT_KILLS=30 ./test AlertDrill</c>. The seed is printed; <c>ALERT_SEED=N</c> kills the same things in
/// the same order again.
/// </remarks>
public sealed class AlertDrillTests(ITestOutputHelper output)
{
    private const int KillsDefault = 3;
    private const int ClientsPerTenant = 2;
    private const int Tenants = 3;

    /// <summary>A kill comes after at most so many more batches have been acknowledged.</summary>
    private const int BatchesBetweenKillsMax = 80;

    /// <summary>No day, and so no month, ends for so long: what must be told does not depend on when it was processed.</summary>
    private static readonly TimeSpan QuietHours = TimeSpan.FromHours(2);

    private static readonly TimeSpan RecoveryMax = TimeSpan.FromSeconds(120);
    private static readonly Victim[] s_victims = Enum.GetValues<Victim>();

    private static readonly string[] s_zones =
    [
        "Asia/Kolkata",
        "America/New_York",
        "Europe/Berlin",
        "Asia/Tokyo",
        "America/Los_Angeles",
        "Australia/Sydney",
    ];

    [Fact]
    public async Task Serve_WhenKilledWhileThresholdsAreCrossed_ShouldTellEachOnceAndLoseNone()
    {
        int kills = Number("ALERT_KILLS") ?? KillsDefault;
        int seed = Number("ALERT_SEED") ?? Random.Shared.Next();
        output.WriteLine($"ALERT_SEED={seed} ALERT_KILLS={kills}");
        var random = new Random(seed);
        using var folder = new TemporaryFolder();
        await using MailServer mails = await MailServer.StartAsync();
        await using var hooks = new HookReceiver(new Random(random.Next()));
        var settings = new Dictionary<string, string>(mails.Settings) { ["Webhooks__AllowPrivateAddresses"] = "true" };
        var options = new ServerOptions(folder.File("data"), Ports.Free()) { Settings = settings };
        await using var server = new CrashingServer(options, random);
        await server.StartAsync();
        List<DrillTenant> tenants = await CreateAsync(server, hooks);
        await server.KillAsync(Victim.Server); // started again, it knows limits and rules before the first event

        using var stop = new CancellationTokenSource();
        using var abort = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        DrillClient[] clients =
        [
            .. tenants
                .SelectMany(tenant => Enumerable.Repeat(tenant, ClientsPerTenant))
                .Select(tenant => new DrillClient(server.Address, tenant, random.Next())),
        ];
        Task[] running = [.. clients.Select(client => Task.Run(() => client.RunAsync(stop.Token, abort.Token)))];
        try
        {
            for (int kill = 1; kill <= kills; kill++)
            {
                await MoreAsync(clients, running, random.Next(1, BatchesBetweenKillsMax));
                // Mostly the server alone, and in between whatever else can die.
                Victim victim = random.Next(3) > 0 ? Victim.Server : random.GetItems(s_victims, 1)[0];
                int arrived = mails.Mails.Count + hooks.Messages.Count;
                string killed = await server.KillAsync(victim);
                output.WriteLine(
                    string.Create(CultureInfo.InvariantCulture, $"{kill}: killed {killed}; {arrived} had arrived")
                );
                await MoreAsync(clients, running, clients.Length);
            }

            await stop.CancelAsync();
            await Task.WhenAll(running).WaitAsync(RecoveryMax, TestContext.Current.CancellationToken);
        }
        catch
        {
            await abort.CancelAsync();
            output.WriteLine(server.Output);
            throw;
        }

        await CheckAsync(server, tenants, mails, hooks);
        output.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"answers while limits could not be counted: {clients.Sum(client => client.Uncounted)}"
            )
        );
        Assert.Equal(0, await server.StopAsync());
    }

    private async Task CheckAsync(
        CrashingServer server,
        List<DrillTenant> tenants,
        MailServer mails,
        HookReceiver hooks
    )
    {
        foreach (DrillTenant tenant in tenants)
        {
            using var api = new Api(server.Address, tenant.Tenant.Key);
            await Eventually.TrueAsync(
                async () => (await api.LedgerAsync()).Total.Pending == 0,
                () => $"all of {tenant.Tenant.Name} is processed",
                RecoveryMax
            );
        }

        await using NpgsqlDataSource owner = server.Postgres.OpenAsOwner();
        var check = new DrillCheck(owner, mails, hooks);
        long asked = Stopwatch.GetTimestamp();
        // What was on its way at the last kill is the dead server's until its lease of 40 s ends.
        await Eventually.TrueAsync(check.AllSentAsync, () => "every delivery is sent", RecoveryMax);
        output.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"all was sent {Stopwatch.GetElapsedTime(asked).TotalSeconds:0.0} s after all was processed"
            )
        );
        foreach (DrillTenant tenant in tenants)
        {
            output.WriteLine(await check.RunAsync(tenant));
        }
    }

    private static async Task<List<DrillTenant>> CreateAsync(CrashingServer server, HookReceiver hooks)
    {
        using Api platform = await Api.SignInAsOperatorAsync(server.Address);
        DateTime now = DateTime.UtcNow;
        var tenants = new List<DrillTenant>();
        foreach (string zone in s_zones.Where(zone => IsQuiet(zone, now)).Take(Tenants))
        {
            string name = string.Create(CultureInfo.InvariantCulture, $"drill-{tenants.Count}");
            tenants.Add(await DrillTenant.CreateAsync(platform, server.Address, hooks.Address, name, zone));
        }

        Assert.Equal(Tenants, tenants.Count);
        return tenants;
    }

    private static bool IsQuiet(string zone, DateTime now)
    {
        DateTime local = TimeZoneInfo.ConvertTimeFromUtc(now, TimeZoneInfo.FindSystemTimeZoneById(zone));
        return local.TimeOfDay > QuietHours && local.TimeOfDay < TimeSpan.FromDays(1) - QuietHours;
    }

    private static Task MoreAsync(DrillClient[] clients, Task[] running, int batches)
    {
        long target = clients.Sum(client => client.AcknowledgedBatches) + batches;
        return Eventually.TrueAsync(
            async () =>
            {
                if (Array.Find(running, task => task.IsCompleted) is { } ended)
                {
                    await ended; // by itself it ends only when something is wrong
                }

                return clients.Sum(client => client.AcknowledgedBatches) >= target;
            },
            () => "more batches are acknowledged",
            RecoveryMax
        );
    }

    private static int? Number(string variable) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text
            ? int.Parse(text, CultureInfo.InvariantCulture)
            : null;
}
