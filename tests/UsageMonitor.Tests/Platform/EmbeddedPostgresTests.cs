using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using UsageMonitor.Server.Platform.Embedded;
using Xunit;

namespace UsageMonitor.Tests.Platform;

/// <summary>Starting, stopping and who may get in; what happens when processes are killed is in the tests beside it.</summary>
[Collection(nameof(PostgresSeed))]
public sealed class EmbeddedPostgresTests(PostgresSeed seed) : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("usage-monitor-postgres-").FullName;

    private string Data => Path.Combine(_root, "data");

    [Fact]
    public async Task StartAsync_WhenStoppedAndStartedAgain_ShouldKeepTheDataAndStopCleanly()
    {
        long begin = Stopwatch.GetTimestamp();
        await using (EmbeddedPostgres first = await StartAsync(Data))
        {
            TestContext.Current.SendDiagnosticMessage("first start {0}", Stopwatch.GetElapsedTime(begin));
            await ExecuteAsync(first.OwnerConnectionString, "CREATE TABLE kept AS SELECT 42 AS n");
        }

        Assert.False(File.Exists(Path.Combine(Data, "postgres", "postmaster.pid")));
        begin = Stopwatch.GetTimestamp();
        await using EmbeddedPostgres second = await StartAsync(Data);
        TestContext.Current.SendDiagnosticMessage("next start {0}", Stopwatch.GetElapsedTime(begin));
        Assert.Equal(42, await ScalarAsync(second.OwnerConnectionString, "SELECT n FROM kept"));
    }

    [Fact]
    public async Task StartAsync_WhenWeAreRoot_ShouldRunAsSomebodyElseInAFolderTheyCannotWalkTo()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            return; // only root has an account to change to
        }
        await seed.CopyToAsync(Data);

        File.SetUnixFileMode(_root, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

        await using EmbeddedPostgres postgres = await StartAsync(Data);

        string user = File.ReadLines($"/proc/{postgres.ProcessId}/status")
            .Single(l => l.StartsWith("Uid:", StringComparison.Ordinal));
        Assert.DoesNotContain("\t0", user, StringComparison.Ordinal);
        Assert.Equal(Path.Combine(Data, "postgres"), new FileInfo($"/proc/{postgres.ProcessId}/cwd").LinkTarget);
        await ExecuteAsync(postgres.OwnerConnectionString, "CREATE TABLE t AS SELECT 1; CHECKPOINT");
    }

    [Fact]
    public async Task StartAsync_WhenTheProgramsAreWhereTheAccountCannotWalk_ShouldRunACopyThatNobodyCanAlter()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            return; // only root has an account to change to
        }
        await seed.CopyToAsync(Data);

        File.SetUnixFileMode(_root, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        string package = Path.Combine(_root, "package");
        Directory.CreateSymbolicLink(package, Path.GetDirectoryName(PostgresBinaries.Find(null).Root)!);
        string hidden = Path.Combine(package, "native");

        await using EmbeddedPostgres postgres = await StartAsync(Data, new PostgresOptions { Binaries = hidden });

        string program = new FileInfo($"/proc/{postgres.ProcessId}/exe").LinkTarget!;
        Assert.StartsWith("/var/cache/usage-monitor/postgres-18", program, StringComparison.Ordinal);
        Assert.Equal(0u, Unix.OwnerOfFolder(Path.GetDirectoryName(program)!)!.Value.User);
        Assert.Equal(
            UnixFileMode.None,
            File.GetUnixFileMode(program) & (UnixFileMode.GroupWrite | UnixFileMode.OtherWrite)
        );
    }

    [Fact]
    public async Task StartAsync_WhenTheFolderBelongsToRoot_ShouldTakeItBackForTheAccount()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            return; // only root has an account to change to
        }
        await seed.CopyToAsync(Data);

        await using (await StartAsync(Data)) { }

        foreach (string path in Directory.EnumerateFileSystemEntries(Data, "*", SearchOption.AllDirectories))
        {
            Unix.ChangeOwner(path, 0, 0); // as after a backup was restored by root
        }

        File.SetUnixFileMode(Path.Combine(Data, "postgres"), (UnixFileMode)0b111_101_101);
        await using EmbeddedPostgres postgres = await StartAsync(Data);
        Assert.Equal(1, await ScalarAsync(postgres.OwnerConnectionString, "SELECT 1"));
    }

    [Fact]
    public async Task StartAsync_WhenThePathIsLong_ShouldKeepTheSocketsPathShort()
    {
        string data = Path.Combine(_root, new string('a', 120), new string('b', 120));

        await using EmbeddedPostgres postgres = await StartAsync(data);

        Assert.Equal(1, await ScalarAsync(postgres.OwnerConnectionString, "SELECT 1"));
    }

    [Fact]
    public async Task StartAsync_WhenTheFolderIsInUse_ShouldNameTheFolderAndTheProcess()
    {
        await seed.CopyToAsync(Data);
        await using EmbeddedPostgres postgres = await StartAsync(Data);

        DataFolderInUseException exception = await Assert.ThrowsAsync<DataFolderInUseException>(() => StartAsync(Data));

        Assert.Equal(Environment.ProcessId, exception.ProcessId);
        Assert.Contains(Data, exception.Message, StringComparison.Ordinal);
        Assert.Contains($"{Environment.ProcessId}", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StartAsync_WhenInitialisationWasCutShort_ShouldBeginAnew()
    {
        string partial = Path.Combine(Data, "postgres.partial");
        Directory.CreateDirectory(partial);
        await File.WriteAllTextAsync(Path.Combine(partial, "PG_VERSION"), "18", TestContext.Current.CancellationToken);

        await using EmbeddedPostgres postgres = await StartAsync(Data);

        Assert.Equal(1, await ScalarAsync(postgres.OwnerConnectionString, "SELECT 1"));
        Assert.False(Directory.Exists(partial));
    }

    [Fact]
    public async Task StartAsync_WhenRunning_ShouldLetNobodyInWithoutThePasswordOrOverTheNetwork()
    {
        await seed.CopyToAsync(Data);
        await using EmbeddedPostgres postgres = await StartAsync(Data);
        var builder = new NpgsqlConnectionStringBuilder(postgres.OwnerConnectionString);

        const UnixFileMode Others = (UnixFileMode)0b000_111_111;
        Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(builder.Host!) & Others);
        Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(Path.Combine(Data, "postgres.password")) & Others);
        Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(Path.Combine(Data, "postgres")) & Others);
        Assert.Equal("", await ScalarAsync(postgres.OwnerConnectionString, "SHOW listen_addresses"));
        foreach (string? password in new[] { "wrong", null })
        {
            builder.Password = password;
            await Assert.ThrowsAnyAsync<NpgsqlException>(() => ScalarAsync(builder.ConnectionString, "SELECT 1"));
        }
    }

    [Fact]
    public async Task StartAsync_WhenSettingsAreGiven_ShouldPreferThemToItsOwn()
    {
        await seed.CopyToAsync(Data);
        var options = new PostgresOptions
        {
            Settings = new Dictionary<string, string> { ["work_mem"] = "7MB", ["cluster_name"] = "it's ours" },
        };

        await using EmbeddedPostgres postgres = await StartAsync(Data, options);

        Assert.Equal("7MB", await ScalarAsync(postgres.OwnerConnectionString, "SHOW work_mem"));
        Assert.Equal("it's ours", await ScalarAsync(postgres.OwnerConnectionString, "SHOW cluster_name"));
        foreach (
            (string name, string value) in new[]
            {
                ("fsync", "on"),
                ("full_page_writes", "on"),
                ("data_checksums", "on"),
                ("server_encoding", "UTF8"),
                ("wal_level", "replica"),
            }
        )
        {
            Assert.Equal(value, await ScalarAsync(postgres.OwnerConnectionString, "SHOW " + name));
        }
    }

    [Fact]
    public async Task StartAsync_WhenASettingIsUnknown_ShouldSayWhatPostgresSays()
    {
        await seed.CopyToAsync(Data);
        var options = new PostgresOptions { Settings = new Dictionary<string, string> { ["wrok_mem"] = "7MB" } };

        InvalidOperationException exception = await Assert.ThrowsAsync<InvalidOperationException>(() =>
            StartAsync(Data, options)
        );

        Assert.Contains("wrok_mem", exception.Message, StringComparison.Ordinal);
    }

    public void Dispose() => PostgresSeed.Remove(_root, Data);

    internal static Task<EmbeddedPostgres> StartAsync(string data, PostgresOptions? options = null) =>
        EmbeddedPostgres.StartAsync(
            data,
            options ?? new PostgresOptions(),
            NullLoggerFactory.Instance,
            TestContext.Current.CancellationToken
        );

    internal static async Task<object?> ScalarAsync(string connectionString, string sql)
    {
        var unpooled = new NpgsqlConnectionStringBuilder(connectionString) { Pooling = false };
        await using var connection = new NpgsqlConnection(unpooled.ConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(sql, connection);
        return await command.ExecuteScalarAsync(TestContext.Current.CancellationToken);
    }

    internal static Task ExecuteAsync(string connectionString, string sql) => ScalarAsync(connectionString, sql);
}
