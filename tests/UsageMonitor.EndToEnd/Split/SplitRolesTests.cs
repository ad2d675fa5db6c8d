using System.Diagnostics;
using System.Globalization;
using System.Net;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Crash;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Split;

/// <summary>Every role in processes of its own, on engines of the user's own, seen through the gateway alone.</summary>
public sealed class SplitRolesTests(ITestOutputHelper output)
{
    private const int ClientsPerEnterprise = 2;
    private const int BatchesBetweenKills = 40;
    private const int NewsRounds = 5;
    private static readonly TimeSpan NewsMax = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan StopMax = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan RecoveryMax = TimeSpan.FromSeconds(120);
    private static readonly string[] s_zones = ["Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"];

    [Fact]
    public async Task Serve_WhenRolesAreSplitAndSomeAreKilled_ShouldCountEverythingOnce()
    {
        using var folder = new TemporaryFolder();
        await using OwnEngines engines = await OwnEngines.StartAsync(folder);
        output.WriteLine($"Redis is {engines.RedisName}.");
        await using SplitPlatform platform = await SplitPlatform.StartAsync(engines, folder);
        try
        {
            await CheckAsync(engines, platform);
        }
        catch
        {
            output.WriteLine(platform.Output);
            throw;
        }
    }

    private async Task CheckAsync(OwnEngines engines, SplitPlatform platform)
    {
        await CheckRoutesAsync(platform);
        List<SentEvents> enterprises = [];
        using (Api operatorApi = await Api.SignInAsOperatorAsync(platform.Address))
        {
            foreach (string zone in s_zones)
            {
                string name = $"split-{enterprises.Count}";
                Tenant tenant = await operatorApi.CreateTenantAsync(name, zone);
                await CrashPolicy.ForbidAsync(platform.Address, tenant);
                enterprises.Add(new SentEvents(tenant));
            }
        }

        await CheckNewsAsync(platform, enterprises[0]);
        var random = new Random();
        await SendWhileKillingAsync(platform, enterprises, random);

        await using var owner = NpgsqlDataSource.Create(engines.PostgresConnectionString);
        var check = new CrashCheck(platform.Address, owner, random);
        foreach (SentEvents enterprise in enterprises)
        {
            output.WriteLine(await check.RunAsync(enterprise));
        }

        // PostgreSQL was always there, and two processes' workers do not get into each other's way.
        Assert.DoesNotContain("fail: ", platform.Output, StringComparison.Ordinal);
        using var page = new Api(platform.Address, enterprises[0].Tenant.Key);
        using StreamReader stream = await page.OpenStreamAsync(TestContext.Current.CancellationToken);
        long asked = Stopwatch.GetTimestamp();
        Assert.All(await platform.StopAsync(), exitCode => Assert.Equal(0, exitCode));
        Assert.InRange(Stopwatch.GetElapsedTime(asked), TimeSpan.Zero, StopMax); // it waits for no page that is open
    }

    private static async Task CheckRoutesAsync(SplitPlatform platform)
    {
        using var anonymous = new Api(platform.Address);
        Assert.Equal(HttpStatusCode.OK, await anonymous.StatusAsync("/health/live"));
        Assert.Equal(HttpStatusCode.OK, await anonymous.StatusAsync("/health/ready"));
        Assert.Equal(HttpStatusCode.Unauthorized, await anonymous.StatusAsync("/v1/auth/validate"));
        Assert.Equal(HttpStatusCode.Unauthorized, await anonymous.StatusAsync("/v1/admin/api-keys"));
        Assert.Equal(HttpStatusCode.Unauthorized, await anonymous.StatusAsync("/v1/admin/usage/ledger"));
        Assert.Equal(HttpStatusCode.Unauthorized, await anonymous.StatusAsync("/v1/dashboard/summary"));
        Assert.Equal(HttpStatusCode.Unauthorized, await anonymous.StatusAsync("/v1/platform/enterprises"));
        Assert.Equal(HttpStatusCode.NotFound, await anonymous.StatusAsync("/v1/nothing/of/the/kind"));
    }

    /// <summary>An event's news is with a watching page within a second: client → gateway → ingestion → processing → Redis → dashboard → gateway → page.</summary>
    private async Task CheckNewsAsync(SplitPlatform platform, SentEvents enterprise)
    {
        using var abort = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        abort.CancelAfter(RecoveryMax);
        using var api = new Api(platform.Address, enterprise.Tenant.Key);
        using StreamReader stream = await api.OpenStreamAsync(abort.Token);
        await WaitForAsync("event: hello");
        var random = new Random();
        var took = new List<TimeSpan>();
        for (int round = 0; round < NewsRounds; round++)
        {
            var batch = CrashBatch.Of([
                CrashEvent.Make(random, DateTimeOffset.UtcNow) with
                {
                    At = CrashEvent.AsWritten(DateTimeOffset.UtcNow),
                },
            ]);
            enterprise.Begin(batch);
            long sent = Stopwatch.GetTimestamp();
            enterprise.Answered(batch, await api.PostEventsAsync(batch.Lines));
            await WaitForAsync("event: usage");
            took.Add(Stopwatch.GetElapsedTime(sent));

            // And whoever then asks, is told of it.
            var today = DateOnly.FromDateTime(DateTime.UtcNow);
            SummaryResponse summary = await api.SummaryAsync(
                today.AddDays(-CrashEvent.BackfillDays - 2),
                today.AddDays(2)
            );
            Assert.Equal(round + 1, summary.UsageCount);
        }

        output.WriteLine(
            "News took "
                + string.Join(
                    ", ",
                    took.Select(one => one.TotalMilliseconds.ToString("0 ms", CultureInfo.InvariantCulture))
                )
        );
        Assert.InRange(took.Order().ElementAt(NewsRounds / 2), TimeSpan.Zero, NewsMax);

        async Task WaitForAsync(string line)
        {
            while (await stream.ReadLineAsync(abort.Token) is { } read && read != line) { }
        }
    }

    private static async Task SendWhileKillingAsync(SplitPlatform platform, List<SentEvents> enterprises, Random random)
    {
        using var stop = new CancellationTokenSource();
        using var abort = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        CrashClient[] clients =
        [
            .. enterprises
                .SelectMany(enterprise => Enumerable.Repeat(enterprise, ClientsPerEnterprise))
                .Select(enterprise => new CrashClient(platform.Address, enterprise, random.Next())),
        ];
        var load = new CrashLoad(clients, clients.Select(client => client.RunAsync(stop.Token, abort.Token)));
        try
        {
            await load.MoreAcknowledgedAsync(BatchesBetweenKills);
            await platform.KillOneAsync("ingestion");
            await load.EachAcknowledgedAsync();
            await load.MoreAcknowledgedAsync(BatchesBetweenKills);
            await platform.KillOneAsync("processing");
            await load.EachAcknowledgedAsync();
            await load.MoreAcknowledgedAsync(BatchesBetweenKills);
            await stop.CancelAsync();
            await load.EndAsync();
        }
        catch
        {
            await abort.CancelAsync();
            throw;
        }
    }
}
