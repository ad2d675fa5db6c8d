using System.Diagnostics.Metrics;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;

namespace UsageMonitor.Server.Backup;

/// <summary>Where the embedded PostgreSQL leaves finished segments, and where they go.</summary>
/// <param name="Spool">PostgreSQL's <c>archive_library</c> puts each here, whole (<see cref="PostgresFolder.ArchivedWal"/>).</param>
/// <param name="Archive">The archive of events.</param>
/// <param name="To">The backup folder.</param>
internal sealed record WalRoute(string Spool, string Archive, BackupFolder To);

/// <summary>
/// Takes finished segments of PostgreSQL's log, and the archive's files, to the backup folder, every second.
/// </summary>
/// <remarks>
/// Invariant: a segment is in the backup folder only after every file of the archive that its changes speak of: the files are durable
/// before the row that names them commits, so those that are there when a finished segment is seen are taken before it. A segment
/// leaves the spool when it is durable in the backup folder; a crash before that takes it again, and finds the same.
/// </remarks>
internal sealed partial class WalShipping : BackgroundService
{
    private const string SealedFiles = "*.parquet.sealed";
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LastPatience = TimeSpan.FromSeconds(10);
    private static readonly Meter s_meter = new(Telemetry.Name);
    private readonly WalRoute _route;
    private readonly Func<CancellationToken, Task<NpgsqlConnection>> _connect;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private long _shippedAt;
    private bool _isFailing;

    /// <param name="route">From where to where.</param>
    /// <param name="connect">As the owner, who may end a segment.</param>
    /// <param name="time">The clock.</param>
    /// <param name="logger">Hears of failures.</param>
    public WalShipping(
        WalRoute route,
        Func<CancellationToken, Task<NpgsqlConnection>> connect,
        TimeProvider time,
        ILogger<WalShipping> logger
    )
    {
        (_route, _connect, _time, _logger) = (route, connect, time, logger);
        _shippedAt = time.GetUtcNow().ToUnixTimeSeconds();
        s_meter.CreateObservableGauge(
            "usage_monitor.backup.wal.age",
            () => _time.GetUtcNow().ToUnixTimeSeconds() - Volatile.Read(ref _shippedAt),
            "s",
            "Since the last segment reached the backup folder: at most so much is lost with the machine."
        );
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, _time);
        try
        {
            while (await timer.WaitForNextTickAsync(stoppingToken))
            {
                try
                {
                    if (Ship(_route) > 0)
                    {
                        Volatile.Write(ref _shippedAt, _time.GetUtcNow().ToUnixTimeSeconds());
                    }

                    _isFailing = false;
                }
                catch (Exception exception)
                    when (exception is IOException or UnauthorizedAccessException or BackupException)
                {
                    // PostgreSQL keeps what is not taken, so nothing is lost but room.
                    if (!_isFailing)
                    {
                        LogFailed(exception, _route.To.Root);
                    }

                    _isFailing = true;
                }
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // It ends.
        }
    }

    /// <summary>An orderly end loses nothing: the present segment is ended and taken too.</summary>
    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await base.StopAsync(cancellationToken);
        try
        {
            await using NpgsqlConnection connection = await _connect(cancellationToken);
            await using var command = new NpgsqlCommand("SELECT pg_walfile_name(pg_switch_wal())", connection);
            string last = (string)(await command.ExecuteScalarAsync(cancellationToken))!;
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            patience.CancelAfter(LastPatience);
            while (Ship(_route) == 0 && !_route.To.HasWal(last))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100), _time, patience.Token);
            }
        }
        catch (Exception exception)
            when (exception
                    is NpgsqlException
                        or OperationCanceledException
                        or IOException
                        or UnauthorizedAccessException
                        or BackupException
            )
        {
            LogFailed(exception, _route.To.Root);
        }
    }

    /// <summary>Takes what is there.</summary>
    /// <returns>How many segments.</returns>
    public static int Ship(WalRoute route)
    {
        string[] finished = Directory.Exists(route.Spool)
            ? [.. Directory.EnumerateFiles(route.Spool).Where(IsWal).Order(StringComparer.Ordinal)]
            : [];
        MirrorArchive(route);
        foreach (string file in finished)
        {
            route.To.AddWal(Path.GetFileName(file), file);
            File.Delete(file);
        }

        return finished.Length;
    }

    // A file of the archive never changes under its name; a newer generation has another.
    private static void MirrorArchive(WalRoute route)
    {
        if (!Directory.Exists(route.Archive))
        {
            return;
        }

        foreach (string file in Directory.EnumerateFiles(route.Archive, SealedFiles, SearchOption.AllDirectories))
        {
            string target = Path.Combine(route.To.Archive, Path.GetRelativePath(route.Archive, file));
            try
            {
                // An empty one is a name that its writer has reserved.
                if (new FileInfo(file) is { Exists: true, Length: > 0 } && !File.Exists(target))
                {
                    BackupFolder.CopyWhole(file, target);
                }
            }
            catch (FileNotFoundException)
            {
                // Replaced by a newer generation since it was listed.
            }
        }
    }

    // The library writes under other names until a segment is whole.
    private static bool IsWal(string file) => BackupNames.IsWal(Path.GetFileName(file));

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The WAL does not reach {Folder}; it is kept here and tried again"
    )]
    private partial void LogFailed(Exception exception, string folder);
}
