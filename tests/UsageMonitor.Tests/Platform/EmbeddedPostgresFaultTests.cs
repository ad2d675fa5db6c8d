using System.Diagnostics;
using System.Globalization;
using UsageMonitor.Server.Platform.Embedded;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using static UsageMonitor.Tests.Platform.EmbeddedPostgresTests;

namespace UsageMonitor.Tests.Platform;

/// <summary>Processes are killed without warning; what was committed stays, and the next start works.</summary>
[Collection(nameof(PostgresSeed))]
public sealed class EmbeddedPostgresFaultTests(Engines engines, PostgresSeed seed) : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private readonly string _root = Directory.CreateTempSubdirectory("usage-monitor-postgres-").FullName;

    private string Data => Path.Combine(_root, "data");

    private string PidFile => Path.Combine(Data, "postgres", "postmaster.pid");

    [Fact]
    public async Task Supervision_WhenThePostmasterIsKilled_ShouldStartItAgainAtTheSamePlace()
    {
        await seed.CopyToAsync(Data);
        await using EmbeddedPostgres postgres = await StartAsync(Data);
        string connectionString = postgres.OwnerConnectionString;
        await ExecuteAsync(connectionString, "CREATE TABLE kept AS SELECT 42 AS n");
        for (int round = 0; round < 3; round++)
        {
            int killed = postgres.ProcessId!.Value;

            Unix.Signal(killed, Unix.SignalKill);

            await Eventually.TrueAsync(
                async () =>
                    postgres.ProcessId is { } id
                    && id != killed
                    && await ScalarAsync(connectionString, "SELECT n FROM kept") is 42,
                "PostgreSQL answers again"
            );
        }
    }

    [Fact]
    public async Task StartAsync_WhenOurProcessWasKilled_ShouldStartAtOnceWithAllThatWasCommitted()
    {
        await seed.CopyToAsync(Data);
        for (int round = 0; round < 3; round++)
        {
            using Process host = StartHost(new PostgresAccount(), Data);
            string connectionString = await ConnectionStringOfAsync(host);
            await ExecuteAsync(
                connectionString,
                "CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)"
            );
            int postmaster = int.Parse(
                (await File.ReadAllLinesAsync(PidFile, TestContext.Current.CancellationToken))[0],
                CultureInfo.InvariantCulture
            );

            Unix.Signal(host.Id, Unix.SignalKill);
            await host.WaitForExitAsync(TestContext.Current.CancellationToken);

            await using EmbeddedPostgres postgres = await StartAsync(Data);
            Assert.Equal(round + 1L, await ScalarAsync(postgres.OwnerConnectionString, "SELECT count(*) FROM kept"));
            Assert.NotEqual(postmaster, postgres.ProcessId);
        }
    }

    [Fact]
    public async Task Postmaster_WhenOurProcessWasKilled_ShouldEndByItself()
    {
        await seed.CopyToAsync(Data);
        using Process host = StartHost(new PostgresAccount(), Data);
        await ConnectionStringOfAsync(host);

        Unix.Signal(host.Id, Unix.SignalKill);

        await Eventually.TrueAsync(() => !File.Exists(PidFile), "the postmaster has shut down");
    }

    [Fact]
    public async Task Command_WhenTerminated_ShouldStopPostgresAndEnd()
    {
        await seed.CopyToAsync(Data);
        using Process host = StartHost(new PostgresAccount(), Data);
        await ConnectionStringOfAsync(host);
        const int Terminate = 15;

        Unix.Signal(host.Id, Terminate);

        await host.WaitForExitAsync(TestContext.Current.CancellationToken)
            .WaitAsync(Patience, TestContext.Current.CancellationToken);
        Assert.Equal(0, host.ExitCode);
        Assert.False(File.Exists(PidFile));
    }

    [Fact]
    public async Task Postmaster_WhenTheTerminalInterruptsOurGroup_ShouldNotBeInIt()
    {
        await seed.CopyToAsync(Data);
        await using EmbeddedPostgres postgres = await StartAsync(Data);

        string[] fields = (
            await File.ReadAllTextAsync($"/proc/{postgres.ProcessId}/stat", TestContext.Current.CancellationToken)
        ).Split(' ');

        Assert.Equal($"{postgres.ProcessId}", fields[4]); // process group
        Assert.Equal($"{postgres.ProcessId}", fields[5]); // session
    }

    [Fact]
    public async Task StartAsync_WhenAnOrphanHoldsTheFolder_ShouldEndItAndStart()
    {
        await seed.CopyToAsync(Data);
        using Process orphan = await StartPostmasterAsync(PostgresFolder.WorkingFolderAsPath);

        await using EmbeddedPostgres postgres = await StartAsync(Data);
        Assert.Equal(1, await ScalarAsync(postgres.OwnerConnectionString, "SELECT 1"));
        Assert.True(orphan.HasExited);
    }

    [Fact]
    public async Task StartAsync_WhenAnOperatorsOwnPostmasterWorksThere_ShouldLeaveItAlone()
    {
        await seed.CopyToAsync(Data);
        using Process foreign = await StartPostmasterAsync("/proc/thread-self/cwd");

        DataFolderInUseException exception = await Assert.ThrowsAsync<DataFolderInUseException>(() => StartAsync(Data));
        Assert.Equal(foreign.Id, exception.ProcessId);
        Assert.False(foreign.HasExited);
        Unix.Signal(foreign.Id, Unix.SignalInterrupt);
        await foreign
            .WaitForExitAsync(TestContext.Current.CancellationToken)
            .WaitAsync(Patience, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task StartAsync_WhenThePidFileNamesAnotherClustersPostmaster_ShouldNotMistakeItForOurs()
    {
        await seed.CopyToAsync(Data);
        await File.WriteAllTextAsync(
            PidFile,
            $"{engines.PostgresProcessId}\n/proc/self/cwd\n1\n5432\n/run\n\n\nready\n",
            TestContext.Current.CancellationToken
        );

        await using EmbeddedPostgres postgres = await StartAsync(Data);

        Assert.Equal(1, await ScalarAsync(postgres.OwnerConnectionString, "SELECT 1"));
        Assert.Equal(1, await ScalarAsync(engines.OwnerConnectionString, "SELECT 1"));
    }

    [Fact]
    public async Task StartAsync_WhenTheSocketsLockFileNamesALivingProcess_ShouldReplaceIt()
    {
        await seed.CopyToAsync(Data);
        var folder = new PostgresFolder(Data, PostgresAccount.Choose(null));
        folder.PrepareSocketFolder();
        await File.WriteAllTextAsync(
            Path.Combine(folder.SocketFolder, $".s.PGSQL.{PostgresFolder.Port}.lock"),
            $"{engines.PostgresProcessId}\n/proc/self/cwd\n1\n5432\n{folder.SocketFolder}\n",
            TestContext.Current.CancellationToken
        );

        await using EmbeddedPostgres postgres = await StartAsync(Data);

        Assert.Equal(1, await ScalarAsync(postgres.OwnerConnectionString, "SELECT 1"));
    }

    [Fact]
    public async Task StartAsync_WhenWeAreNotRoot_ShouldRunAsOurselves()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            return; // then all the other tests are this one
        }

        string open = Directory.CreateDirectory($"/var/tmp/{Path.GetFileName(_root)}").FullName;
        File.SetUnixFileMode(open, PostgresBinaries.ReadableByAll);
        try
        {
            PostgresAccount nobody = PostgresAccount.Choose("nobody");
            PostgresBinaries binaries = await CopyAsync(PostgresBinaries.Find(null).Root, Path.Combine(open, "native"));
            await CopyAsync(ServerFolder, Path.Combine(open, "server"));
            string data = Directory.CreateDirectory(Path.Combine(open, "data")).FullName;
            nobody.Own(data);

            using Process host = StartHost(nobody, data, Path.Combine(open, "server"), binaries.Root);
            string connectionString = await ConnectionStringOfAsync(host);

            Assert.Equal("18.4", await ScalarAsync(connectionString, "SHOW server_version"));
            Unix.Signal(host.Id, Unix.SignalInterrupt);
            await host.WaitForExitAsync(TestContext.Current.CancellationToken)
                .WaitAsync(3 * Patience, TestContext.Current.CancellationToken);
            Assert.Equal(0, host.ExitCode);
        }
        finally
        {
            Directory.Delete(open, recursive: true);
        }
    }

    public void Dispose() => PostgresSeed.Remove(_root, Data);

    private static string ServerFolder => Path.GetDirectoryName(typeof(EmbeddedPostgres).Assembly.Location)!;

    private static Process StartHost(
        PostgresAccount account,
        string data,
        string? server = null,
        string? binaries = null
    )
    {
        ProcessStartInfo start = account.Program("/usr/bin/env", "/");
        foreach (
            string argument in new[]
            {
                "--default-signal=INT", // ignored in what a shell has started in the background
                "Postgres__Binaries=" + (binaries ?? PostgresBinaries.Find(null).Root),
                "DOTNET_CLI_HOME=/tmp",
                Environment.ProcessPath is { } path && Path.GetFileName(path) == "dotnet" ? path : "dotnet",
                Path.Combine(server ?? ServerFolder, "usage-monitor.dll"),
                "postgres",
                "--data",
                data,
            }
        )
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }

    private static async Task<string> ConnectionStringOfAsync(Process host)
    {
        Task<string> errors = host.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string? line = await host
            .StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken)
            .AsTask()
            .WaitAsync(Patience, TestContext.Current.CancellationToken);
        return line ?? throw new InvalidOperationException(await errors);
    }

    private async Task<Process> StartPostmasterAsync(string dataDirectory)
    {
        PostgresAccount account = PostgresAccount.Choose(null);
        PostgresBinaries binaries = await PostgresBinaries
            .Find(null)
            .MakeReachableAsync(account, TestContext.Current.CancellationToken);
        var folder = new PostgresFolder(Data, account);
        folder.PrepareSocketFolder();
        folder.WriteSettings(new Dictionary<string, string>());
        ProcessStartInfo start = account.Program(binaries.Server, folder.Cluster);
        start.ArgumentList.Add("-D");
        start.ArgumentList.Add(dataDirectory);
        Process process = Process.Start(start)!;
        process.BeginErrorReadLine();
        await Eventually.TrueAsync(() => folder.IsReady(process.Id), "the postmaster takes connections");
        return process;
    }

    private static async Task<PostgresBinaries> CopyAsync(string from, string to)
    {
        using Process copy = Process.Start("cp", ["-rL", from, to]);
        await copy.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, copy.ExitCode);
        using Process open = Process.Start("chmod", ["-R", "a+rX", to]);
        await open.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, open.ExitCode);
        return new PostgresBinaries(to);
    }
}
