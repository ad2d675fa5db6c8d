using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;
using UsageMonitor.Tests.Fixtures;
using Xunit;

[assembly: AssemblyFixture(typeof(Engines))]

namespace UsageMonitor.Tests.Fixtures;

/// <summary>
/// One PostgreSQL and one cache for the whole run, real ones, with a migrated template that tests clone a database from.
/// </summary>
/// <remarks>A crash of the machine need not be survived here, so nothing waits for the disk.</remarks>
public sealed class Engines : IAsyncLifetime
{
    public const int LogPartitions = 4;
    private const string Template = "template_usage_monitor";
    private readonly string _folder = Directory.CreateTempSubdirectory("usage-monitor-tests-").FullName;
    private readonly SemaphoreSlim _cloning = new(1);
    private EmbeddedPostgres? _postgres;
    private EmbeddedCache? _cache;
    private int _clones;

    internal static MasterKey MasterKey { get; } =
        new([.. Enumerable.Range(1, MasterKey.KeyBytes).Select(i => (byte)i)]);

    /// <summary>The month around which the template has its partitions; others are made when rows need them.</summary>
    public static DateTimeOffset Now { get; } = new(2026, 3, 10, 12, 0, 0, TimeSpan.Zero);

    /// <summary>The owner's connection to the engine itself.</summary>
    public string OwnerConnectionString => _postgres!.OwnerConnectionString;

    /// <summary>The engine's postmaster.</summary>
    public int? PostgresProcessId => _postgres!.ProcessId;

    /// <summary>The cache, shared by all tests: give keys a name of their own.</summary>
    public string RedisConnectionString => _cache!.ConnectionString;

    public async ValueTask InitializeAsync()
    {
        _cache = EmbeddedCache.Start(_folder, NullLoggerFactory.Instance);
        var fast = new Dictionary<string, string>
        {
            ["fsync"] = "off",
            ["synchronous_commit"] = "off",
            ["full_page_writes"] = "off",
            ["wal_level"] = "minimal",
            ["max_wal_senders"] = "0",
            ["max_connections"] = "300",
        };
        _postgres = await EmbeddedPostgres.StartAsync(
            _folder,
            new PostgresOptions { Settings = fast },
            NullLoggerFactory.Instance,
            CancellationToken.None
        );
        await ExecuteAsync($"CREATE DATABASE {Template}");
        await using (var owner = NpgsqlDataSource.Create(ConnectionTo(Template)))
        {
            await Migrator.MigrateAsync(owner, MasterKey, LogPartitions, Now, CancellationToken.None);
        }
    }

    /// <summary>A database of its own for a test or a test class, as the migrations leave it.</summary>
    internal async Task<TestDatabase> CloneAsync()
    {
        string name = $"test_{Interlocked.Increment(ref _clones)}";
        await _cloning.WaitAsync(); // PostgreSQL refuses to copy a template that another copy is being made of
        try
        {
            await ExecuteAsync($"CREATE DATABASE {name} TEMPLATE {Template} STRATEGY FILE_COPY");
        }
        finally
        {
            _cloning.Release();
        }

        string owner = ConnectionTo(name);
        return new TestDatabase(this, name, owner, DatabaseFactory.Create(owner, MasterKey));
    }

    internal Task DropAsync(string name) => ExecuteAsync($"DROP DATABASE {name} WITH (FORCE)");

    public async ValueTask DisposeAsync()
    {
        if (_postgres is not null)
        {
            await _postgres.DisposeAsync();
        }

        _cache?.Dispose();
        _cloning.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    // Unpooled: a connection left open would keep its database from being dropped, or the template from being copied.
    private string ConnectionTo(string database) =>
        new NpgsqlConnectionStringBuilder(OwnerConnectionString)
        {
            Database = database,
            Pooling = false,
        }.ConnectionString;

    private async Task ExecuteAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(ConnectionTo("postgres"));
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync();
    }
}

/// <summary>A database of a test, dropped when disposed.</summary>
internal sealed class TestDatabase(Engines engines, string name, string ownerConnectionString, Database database)
    : IAsyncDisposable
{
    /// <summary>As the server uses it: the two logins that row-level security binds.</summary>
    public Database Database { get; } = database;

    public string Name { get; } = name;

    /// <summary>The owner's connection, for a test that looks behind the walls; unpooled.</summary>
    public string OwnerConnectionString { get; } = ownerConnectionString;

    public async ValueTask DisposeAsync()
    {
        await Database.DisposeAsync();
        await engines.DropAsync(Name);
    }
}
