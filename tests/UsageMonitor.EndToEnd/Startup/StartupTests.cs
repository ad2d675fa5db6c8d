using System.Diagnostics;
using System.Text.RegularExpressions;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Startup;

/// <summary>What a person sees who starts, stops and mistreats the server.</summary>
public sealed partial class StartupTests : IDisposable
{
    private const int ConfigurationErrorExitCode = 2;
    private static readonly TimeSpan StopMax = TimeSpan.FromSeconds(10);
    private readonly TemporaryFolder _folder = new();
    private readonly ServerOptions _options;

    public StartupTests() => _options = new ServerOptions(_folder.File("data"), Ports.Free());

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Serve_WhenTerminatedAndStartedAgain_ShouldHaveKeptEverythingItAcknowledged()
    {
        Tenant tenant;
        await using (ServerProcess first = await ServerProcess.StartReadyAsync(_options))
        {
            tenant = await CreateTenantAsync(first);
            using var sender = new Api(first.Address, tenant.Key);
            IngestResponse answer = await sender.PostEventsAsync(Lines(1_000));
            Assert.Equal(1_000, answer.Accepted);

            // At once: much of it has not been processed yet.
            Assert.Equal(0, await first.StopAsync());
        }

        await using ServerProcess second = await ServerProcess.StartReadyAsync(_options);
        using Api platform = await Api.SignInAsOperatorAsync(second.Address);
        List<EnterpriseSummary> enterprises = await platform.GetAsync<List<EnterpriseSummary>>(
            "/v1/platform/enterprises"
        );
        Assert.Equal(tenant.EnterpriseId, Assert.Single(enterprises).EnterpriseId);
        using var api = new Api(second.Address, tenant.Key);
        LedgerResponse? ledger = null;
        await Eventually.TrueAsync(
            async () => (ledger = await api.LedgerAsync()).Total.Pending == 0,
            () => $"nothing is pending; the ledger says {ledger?.Total}"
        );
        Assert.Equal(new LedgerCounts(1_000, 1_000, 0, 0, 1_000, 0, 0), ledger!.Total);
        Assert.Equal(0, await second.StopAsync());
    }

    [Fact]
    public async Task Serve_WhenKilled_ShouldLeaveNoPostgresThatStopsTheNextStart()
    {
        var postgres = new PostgresOf(_options.DataFolder);
        Tenant tenant;
        int? before;
        await using (ServerProcess first = await ServerProcess.StartReadyAsync(_options))
        {
            tenant = await CreateTenantAsync(first);
            before = postgres.Postmaster;
            first.Kill();
            await first.WaitForExitAsync();
        }

        await using ServerProcess second = await ServerProcess.StartReadyAsync(_options);
        Assert.NotEqual(before, postgres.Postmaster);
        using var api = new Api(second.Address, tenant.Key);
        Assert.Equal(1, (await api.PostEventsAsync(Lines(1))).Accepted);
    }

    [Fact]
    public async Task Serve_WhenTerminated_ShouldLeaveNoProcessBehind()
    {
        var postgres = new PostgresOf(_options.DataFolder);
        await using ServerProcess server = await ServerProcess.StartReadyAsync(_options);
        int postmaster = Assert.NotNull(postgres.Postmaster);
        Assert.True(Signals.IsAlive(postmaster));
        Tenant tenant = await CreateTenantAsync(server);
        using var page = new Api(server.Address, tenant.Key);
        using StreamReader stream = await page.OpenStreamAsync(TestContext.Current.CancellationToken);
        Assert.Equal("event: hello", await stream.ReadLineAsync(TestContext.Current.CancellationToken));

        long asked = Stopwatch.GetTimestamp();
        Assert.Equal(0, await server.StopAsync());
        Assert.InRange(Stopwatch.GetElapsedTime(asked), TimeSpan.Zero, StopMax); // it waits for no page that is open

        Assert.False(Signals.IsAlive(postmaster));
        Assert.Null(postgres.Postmaster); // its file is gone too: there was nothing to recover
    }

    [Fact]
    public async Task Serve_WhenAnotherInstanceHasTheFolder_ShouldSaySoAndEndWith2()
    {
        await using ServerProcess first = await ServerProcess.StartReadyAsync(_options);
        await using var second = ServerProcess.Start(_options with { Port = Ports.Free() });

        Assert.Equal(ConfigurationErrorExitCode, await second.WaitForExitAsync());
        Assert.Contains(_options.DataFolder, second.Output, StringComparison.Ordinal);
        Assert.Contains($"in use by process {first.Id}", second.Output, StringComparison.Ordinal);
        AssertIsMessage(second.Output);
        using var api = new Api(first.Address);
        Assert.Equal(System.Net.HttpStatusCode.OK, await api.StatusAsync("/health/ready"));
    }

    [Fact]
    public async Task Serve_WhenThePortIsTaken_ShouldSaySoAndEndWith2()
    {
        using var listener = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, _options.Port);
        listener.Start();
        await using var server = ServerProcess.Start(_options);

        Assert.Equal(ConfigurationErrorExitCode, await server.WaitForExitAsync());
        Assert.Contains($"Port {_options.Port} is in use", server.Output, StringComparison.Ordinal);
        AssertIsMessage(server.Output);
        Assert.Null(new PostgresOf(_options.DataFolder).Postmaster);
    }

    [Fact]
    public async Task Serve_WhenTheConfigurationIsWrong_ShouldListEveryErrorAndEndWith2()
    {
        await using var server = ServerProcess.Start(
            _options with
            {
                Roles = "ingestion,cooking",
                Settings = new Dictionary<string, string>
                {
                    ["Address"] = "localhost",
                    ["MasterKey"] = "too short",
                    ["LogPartitions"] = "0",
                    ["ProcessingWorkers"] = "many",
                    ["RateLimits__EventsPerSecondPerKey"] = "-1",
                    ["Demo"] = "perhaps",
                },
            }
        );

        Assert.Equal(ConfigurationErrorExitCode, await server.WaitForExitAsync());
        string[] settings =
        [
            "Roles",
            "Address",
            "MasterKey",
            "LogPartitions",
            "ProcessingWorkers",
            "RateLimits:EventsPerSecondPerKey",
            "Demo",
        ];
        Assert.All(settings, name => Assert.Contains($"  - {name}: ", server.Output, StringComparison.Ordinal));
        AssertIsMessage(server.Output);
        Assert.False(Directory.Exists(_options.DataFolder)); // it has not begun
    }

    [Fact]
    public async Task Serve_WhenNoPasswordIsGiven_ShouldPrintOneOnceThatWorks()
    {
        ServerOptions options = _options with { OperatorPassword = null };
        Match printed;
        await using (ServerProcess first = await ServerProcess.StartReadyAsync(options))
        {
            printed = Assert.Single(PrintedOperator().Matches(first.Output));
            using Api platform = await SignInAsync(first);
            await platform.CreateTenantAsync("printed", "Etc/UTC");
            Assert.Equal(0, await first.StopAsync());
            Assert.Single(PrintedOperator().Matches(first.Output));
        }

        await using ServerProcess second = await ServerProcess.StartReadyAsync(options);
        using Api again = await SignInAsync(second);
        Assert.DoesNotContain(printed.Groups["password"].Value, second.Output, StringComparison.Ordinal);
        Assert.DoesNotMatch(PrintedOperator(), second.Output);

        Task<Api> SignInAsync(ServerProcess server) =>
            Api.SignInAsync(server.Address, printed.Groups["email"].Value, printed.Groups["password"].Value);
    }

    [Fact]
    public async Task Serve_WhenTheGivenPostgresDoesNotAnswer_ShouldSaySoAndEndWith2()
    {
        await using var server = ServerProcess.Start(
            _options with
            {
                Settings = new Dictionary<string, string>
                {
                    ["ConnectionStrings__Postgres"] =
                        $"Host=127.0.0.1;Port={Ports.Free()};Username=u;Password=secret-word",
                },
            }
        );

        Assert.Equal(ConfigurationErrorExitCode, await server.WaitForExitAsync());
        Assert.Contains("PostgreSQL cannot be used", server.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("secret-word", server.Output, StringComparison.Ordinal);
        AssertIsMessage(server.Output);
    }

    private static async Task<Tenant> CreateTenantAsync(ServerProcess server)
    {
        using Api platform = await Api.SignInAsOperatorAsync(server.Address);
        return await platform.CreateTenantAsync("kept", "Asia/Kolkata");
    }

    private static string Lines(int events) =>
        string.Join(
            '\n',
            Enumerable
                .Range(0, events)
                .Select(i =>
                    $$"""{"eventId":"{{Guid.NewGuid()}}","userId":"person {{i % 50}}","featureName":"start"}"""
                )
        );

    /// <summary>People are told what is wrong, not where in the code it was noticed.</summary>
    private static void AssertIsMessage(string output)
    {
        Assert.DoesNotContain("   at ", output, StringComparison.Ordinal);
        Assert.DoesNotContain("Unhandled", output, StringComparison.Ordinal);
    }

    [GeneratedRegex(@"Operator: (?<email>\S+)  password: (?<password>\S+)")]
    private static partial Regex PrintedOperator();
}
