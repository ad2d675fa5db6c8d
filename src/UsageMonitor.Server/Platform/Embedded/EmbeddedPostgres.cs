using Npgsql;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>
/// The platform's private PostgreSQL 18: a child process with its cluster in <c>&lt;data&gt;/postgres</c>, reachable over a
/// socket that only we and it may open.
/// </summary>
internal sealed class EmbeddedPostgres : IAsyncDisposable
{
    public const string DatabaseName = "usage_monitor";
    private readonly DataFolderLock _lock;
    private readonly PostgresFolder _folder;
    private readonly PostgresProcess _process;

    private EmbeddedPostgres(
        DataFolderLock folderLock,
        PostgresFolder folder,
        PostgresProcess process,
        string connectionString
    )
    {
        (_lock, _folder, _process) = (folderLock, folder, process);
        OwnerConnectionString = connectionString;
    }

    /// <summary>The owner's (a superuser's) connection to the database <c>usage_monitor</c>; stays the same for our life.</summary>
    public string OwnerConnectionString { get; }

    /// <summary>The postmaster's process id at this moment, or null while it is being started again.</summary>
    public int? ProcessId => _process.ProcessId;

    /// <inheritdoc cref="StartAsync(string, PostgresOptions, ILoggerFactory, CancellationToken)"/>
    public static Task<EmbeddedPostgres> StartAsync(
        string dataFolder,
        ILoggerFactory loggers,
        CancellationToken cancellationToken
    ) => StartAsync(dataFolder, new PostgresOptions(), loggers, cancellationToken);

    /// <summary>Starts the server, made on the first start, and returns when it takes connections.</summary>
    /// <exception cref="DataFolderInUseException">Another instance works in the data folder.</exception>
    /// <exception cref="InvalidOperationException">It cannot be started; the message says why.</exception>
    public static async Task<EmbeddedPostgres> StartAsync(
        string dataFolder,
        PostgresOptions options,
        ILoggerFactory loggers,
        CancellationToken cancellationToken
    )
    {
        dataFolder = Path.GetFullPath(dataFolder);
        Directory.CreateDirectory(dataFolder);
        DataFolderLock folderLock = DataFolderLock.Take(dataFolder);
        try
        {
            ILogger logger = loggers.CreateLogger<EmbeddedPostgres>();
            PostgresAccount account = PostgresAccount.Choose(options.User);
            PostgresBinaries binaries = await PostgresBinaries
                .Find(options.Binaries)
                .MakeReachableAsync(account, cancellationToken);
            var folder = new PostgresFolder(dataFolder, account);
            await PostgresLeftovers.EndAsync(folder, TimeProvider.System, logger, cancellationToken);
            folder.PrepareSocketFolder();
            if (!folder.IsInitialised)
            {
                await folder.InitialiseAsync(binaries, cancellationToken);
            }

            folder.OwnCluster();
            if (options.ArchivesWalSeconds is not null)
            {
                folder.PrepareArchivedWal();
            }

            folder.WriteSettings(options.AllSettings);
            string connectionString = ConnectionString(folder);
            PostgresProcess process = await PostgresProcess.StartAsync(
                folder,
                binaries,
                account,
                TimeProvider.System,
                logger,
                cancellationToken
            );
            try
            {
                await EnsureDatabaseAsync(connectionString, cancellationToken);
                return new EmbeddedPostgres(folderLock, folder, process, connectionString);
            }
            catch
            {
                await process.DisposeAsync();
                throw;
            }
        }
        catch
        {
            folderLock.Dispose();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        _folder.RemoveSocketFolder();
        _lock.Dispose();
    }

    /// <summary>The owner's connection to the server of a data folder that another process runs.</summary>
    public static string ConnectionStringOf(PostgresFolder folder) => ConnectionString(folder);

    private static string ConnectionString(PostgresFolder folder) =>
        new NpgsqlConnectionStringBuilder
        {
            Host = folder.SocketFolder,
            Port = PostgresFolder.Port,
            Username = PostgresFolder.OwnerLogin,
            Password = folder.OwnerPassword(),
            Database = DatabaseName,
        }.ConnectionString;

    private static async Task EnsureDatabaseAsync(string connectionString, CancellationToken cancellationToken)
    {
        var maintenance = new NpgsqlConnectionStringBuilder(connectionString)
        {
            Database = "postgres",
            Pooling = false,
        };
        await using var connection = new NpgsqlConnection(maintenance.ConnectionString);
        await connection.OpenAsync(cancellationToken);
        await using var known = new NpgsqlCommand("SELECT FROM pg_database WHERE datname = $1", connection);
        known.Parameters.Add(new NpgsqlParameter<string> { TypedValue = DatabaseName });
        await using (NpgsqlDataReader reader = await known.ExecuteReaderAsync(cancellationToken))
        {
            if (await reader.ReadAsync(cancellationToken))
            {
                return;
            }
        }

        await using var create = new NpgsqlCommand($"CREATE DATABASE {DatabaseName}", connection);
        await create.ExecuteNonQueryAsync(cancellationToken);
    }
}
