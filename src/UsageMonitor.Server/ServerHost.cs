using System.Net.Sockets;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Backup;
using UsageMonitor.Server.Demo;
using UsageMonitor.Server.Gateway;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;
using UsageMonitor.Server.Policies;
using UsageMonitor.Server.Web;

namespace UsageMonitor.Server;

/// <summary>
/// One running server: the engines it starts itself, the schema brought up to date, the roles' services and endpoints, and
/// the word on the console when it is ready.
/// </summary>
internal sealed class ServerHost : IAsyncDisposable
{
    private const long RequestBytesMax = 17 * 1024 * 1024;
    private static readonly TimeSpan ShutdownTimeMax = TimeSpan.FromSeconds(20);

    // Disposed in reverse: what was started last stops first.
    private readonly Stack<IAsyncDisposable> _engines = new();
    private WebApplication? _app;

    private ServerHost() { }

    /// <summary>Where it listens.</summary>
    public Uri Address { get; private set; } = new("http://127.0.0.1");

    /// <summary>What it is made of, for tests that look at its endpoints.</summary>
    public IServiceProvider Services => _app!.Services;

    /// <param name="given">Settings that override all other configuration, as the command line's.</param>
    /// <param name="cancellationToken">Cancels the start.</param>
    /// <exception cref="SettingsException">The configuration is wrong.</exception>
    /// <exception cref="StartException">An engine cannot be reached or the port is taken.</exception>
    public static async Task<ServerHost> StartAsync(
        IReadOnlyDictionary<string, string?> given,
        CancellationToken cancellationToken
    )
    {
        var host = new ServerHost();
        try
        {
            await host.RunAsync(given, cancellationToken);
            return host;
        }
        catch
        {
            await host.DisposeAsync();
            throw;
        }
    }

    /// <summary>Returns when the server has been told to stop.</summary>
    public Task WaitAsync(CancellationToken cancellationToken) => _app!.WaitForShutdownAsync(cancellationToken);

    public async ValueTask DisposeAsync()
    {
        if (_app is not null)
        {
            await _app.StopAsync();
            await _app.DisposeAsync();
        }

        while (_engines.TryPop(out IAsyncDisposable? engine))
        {
            await engine.DisposeAsync();
        }
    }

    private async Task RunAsync(IReadOnlyDictionary<string, string?> given, CancellationToken cancellationToken)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(
            new WebApplicationOptions
            {
                ContentRootPath = AppContext.BaseDirectory,
                ApplicationName = typeof(ServerHost).Assembly.GetName().Name,
            }
        );
        builder.Configuration.AddInMemoryCollection(given);
        ServerSettings settings = ServerSettings.Load(builder.Configuration);
        IReadOnlyList<Role> roles = Roles.Expand(settings.Roles);
        ConfigureLogging(builder);
        ListenPort.ThrowIfTaken(settings);

        using ILoggerFactory loggers = LoggerFactory.Create(logging =>
        {
            logging.AddConfiguration(builder.Configuration.GetSection("Logging"));
            logging.AddSimpleConsole(ConsoleFormat);
            Quieten(logging);
        });
        Listening.WarnIfPlain(settings, loggers.CreateLogger(nameof(Listening)));
        WrappingKeys keys = await LoadKeysAsync(settings, cancellationToken);
        string postgres =
            settings.Postgres ?? await StartPostgresAsync(settings, builder.Configuration, loggers, cancellationToken);
        (MasterKey masterKey, Database database) = await OpenDatabaseAsync(postgres, keys, settings, cancellationToken);
        int partitions = await PostgresEventLog.ReadPartitionCountAsync(database.Pipeline, cancellationToken);
        string redis = settings.Redis ?? StartCache(settings, loggers);

        IServiceCollection services = builder.Services;
        services.AddSingleton(settings);
        services.AddSingleton(masterKey);
        if (settings.Tls is { } tls)
        {
            services.AddSingleton(tls).AddSingleton<ServerCertificate>();
        }

        services.AddSingleton(database);
        services.AddSingleton(TimeProvider.System);
        services.AddSingleton<IEventLog>(new PostgresEventLog(database.Pipeline, partitions));
        services.AddPlatform(redis);
        services.AddIdentityServices();
        services.AddGatewayServices();
        services.AddPolicies();
        services.AddLimits();
        services.AddAdmission();
        services.AddAlerts();
        services.AddAudit();
        services.AddArchive();
        services.AddForwarding(builder.Configuration, Roles.PathsBeyond(roles));
        services.AddOpenApiDocument();
        services.Configure<HostOptions>(options => options.ShutdownTimeout = ShutdownTimeMax);
        foreach (Role role in roles)
        {
            role.Register?.Invoke(services);
        }

        if (settings.Backup is { } backup)
        {
            services.AddSingleton<IHostedService>(
                await BackUpAsync(settings, backup, postgres, loggers, cancellationToken)
            );
        }

        if (settings.Demo && roles.Any(role => role.Name == Roles.Ingestion))
        {
            services.AddDemo();
        }

        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = RequestBytesMax;
            kestrel.Listen(settings, kestrel.ApplicationServices.GetService<ServerCertificate>());
        });

        _app = builder.Build();
        _app.UseClientAddresses(settings, () => Address.Port);
        _app.UseSecurityHeaders();
        bool showsPages = roles.Any(role => role.Name == Roles.Dashboard);
        if (showsPages)
        {
            _app.UsePages();
        }

        _app.UseRouting();
        _app.UseGuard();
        if (showsPages)
        {
            _app.UseAntiforgery();
        }

        _app.MapHealth();
        _app.MapOpenApiDocument();
        foreach (Role role in roles)
        {
            role.Map?.Invoke(_app);
        }

        (string operatorEmail, string? printedPassword) = await _app
            .Services.GetRequiredService<OperatorBootstrap>()
            .EnsureAsync(cancellationToken);
        try
        {
            await _app.StartAsync(cancellationToken);
        }
        catch (IOException exception)
            when (exception.InnerException is Microsoft.AspNetCore.Connections.AddressInUseException or SocketException)
        {
            throw ListenPort.Taken(settings.Port, exception);
        }

        Address = new Uri(
            _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()
        );
        if (printedPassword is not null)
        {
            Console.WriteLine(
                $"Operator: {operatorEmail}  password: {printedPassword}  (shown this once; sign in and keep it)"
            );
        }

        Console.WriteLine($"Usage Monitor is ready: {Address.ToString().TrimEnd('/')}");
    }

    private async Task<string> StartPostgresAsync(
        ServerSettings settings,
        ConfigurationManager configuration,
        ILoggerFactory loggers,
        CancellationToken cancellationToken
    )
    {
        try
        {
            EmbeddedPostgres postgres = await EmbeddedPostgres.StartAsync(
                settings.DataFolder,
                PostgresOptions.From(configuration) with
                {
                    ArchivesWalSeconds = settings.Backup?.WalSeconds,
                },
                loggers,
                cancellationToken
            );
            _engines.Push(postgres);
            return postgres.OwnerConnectionString;
        }
        catch (InvalidOperationException exception)
        {
            throw new StartException("The embedded PostgreSQL cannot be started: " + exception.Message, exception);
        }
    }

    private static async Task<WalShipping> BackUpAsync(
        ServerSettings settings,
        BackupSettings backup,
        string owner,
        ILoggerFactory loggers,
        CancellationToken cancellationToken
    )
    {
        var folder = new BackupFolder(backup.Folder);
        var cluster = new PostgresFolder(settings.DataFolder, PostgresAccount.Choose(null));
        try
        {
            await using NpgsqlConnection connection = await ConnectAsync(cancellationToken);
            await using var command = new NpgsqlCommand(
                "SELECT system_identifier::text FROM pg_control_system()",
                connection
            );
            folder.Claim((string)(await command.ExecuteScalarAsync(cancellationToken))!);
        }
        catch (Exception exception) when (exception is BackupException or IOException or UnauthorizedAccessException)
        {
            throw new StartException("Backup:Folder: " + exception.Message, exception);
        }

        return new WalShipping(
            new WalRoute(Path.Combine(cluster.Cluster, PostgresFolder.ArchivedWal), settings.Archive.Folder, folder),
            ConnectAsync,
            TimeProvider.System,
            loggers.CreateLogger<WalShipping>()
        );

        async Task<NpgsqlConnection> ConnectAsync(CancellationToken cancel)
        {
            var connection = new NpgsqlConnection(owner);
            await connection.OpenAsync(cancel);
            return connection;
        }
    }

    private string StartCache(ServerSettings settings, ILoggerFactory loggers)
    {
        var cache = EmbeddedCache.Start(settings.DataFolder, loggers);
        _engines.Push(new Stopping(cache));
        return cache.ConnectionString;
    }

    private static async Task<WrappingKeys> LoadKeysAsync(ServerSettings settings, CancellationToken cancellationToken)
    {
        try
        {
            return await MasterKeySource.LoadAsync(settings, cancellationToken);
        }
        catch (MasterKeyException exception)
        {
            throw new StartException(exception.Message, exception);
        }
    }

    private async Task<(MasterKey, Database)> OpenDatabaseAsync(
        string owner,
        WrappingKeys keys,
        ServerSettings settings,
        CancellationToken cancellationToken
    )
    {
        MasterKey masterKey;
        try
        {
            await using (var source = NpgsqlDataSource.Create(owner))
            {
                masterKey = await Migrator.MigrateAsync(
                    source,
                    keys,
                    settings.LogPartitions,
                    TimeProvider.System.GetUtcNow(),
                    cancellationToken
                );
            }
        }
        catch (MasterKeyException exception)
        {
            throw new StartException(exception.Message, exception);
        }
        catch (NpgsqlException exception)
        {
            throw new StartException("PostgreSQL cannot be used: " + exception.Message, exception);
        }

        Database database = DatabaseFactory.Create(owner, masterKey);
        _engines.Push(database);
        return (masterKey, database);
    }

    private static void ConfigureLogging(WebApplicationBuilder builder)
    {
        builder.Logging.ClearProviders();
        builder.Logging.AddSimpleConsole(ConsoleFormat);
        Quieten(builder.Logging);
    }

    // What the parts say of themselves is for their developers; configuration (Logging:LogLevel) can ask for it.
    private static void Quieten(ILoggingBuilder logging)
    {
        foreach (
            string part in new[]
            {
                "Microsoft",
                "Yarp",
                "GarnetServer",
                "ArgParser",
                "Options",
                "VectorManager",
                "MainLogSizeTracker",
                "StackExchange",
            }
        )
        {
            logging.AddFilter(part, LogLevel.Warning);
        }

        // Its every miss while Redis is away would be an error with a stack trace; /health/ready and UsageSignal tell it.
        logging.AddFilter("Microsoft.Extensions.Caching", LogLevel.Critical);

        // A cookie that anybody can send is no error of ours; the form is refused all the same.
        logging.AddFilter("Microsoft.AspNetCore.Antiforgery", LogLevel.Critical);

        // Says at every start that it has warned: see EmbeddedCache.
        logging.AddFilter("ArgParser", LogLevel.Error);
    }

    private static void ConsoleFormat(Microsoft.Extensions.Logging.Console.SimpleConsoleFormatterOptions options)
    {
        options.SingleLine = true;
        options.UseUtcTimestamp = true;
        options.TimestampFormat = "yyyy-MM-ddTHH:mm:ss.fffZ ";
    }

    private sealed class Stopping(IDisposable engine) : IAsyncDisposable
    {
        public ValueTask DisposeAsync()
        {
            engine.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}

/// <summary>The server cannot start; the message says why and what to do.</summary>
internal sealed class StartException(string message, Exception inner) : Exception(message, inner);
