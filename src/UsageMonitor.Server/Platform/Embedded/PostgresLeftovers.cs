using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>
/// Ends what a killed predecessor left of its PostgreSQL. Called under the data folder's lock, so no living instance of
/// ours owns what is found.
/// </summary>
internal static partial class PostgresLeftovers
{
    private const int ProcessIdLine = 0;
    private const int StartTimeLine = 2;

    /// <summary>Returns when no process of the cluster is left, and its <c>postmaster.pid</c> is gone.</summary>
    /// <exception cref="DataFolderInUseException">Somebody else's postmaster works in it, such as an operator's own.</exception>
    public static async Task EndAsync(
        PostgresFolder folder,
        TimeProvider clock,
        ILogger logger,
        CancellationToken cancellationToken
    )
    {
        if (!OperatingSystem.IsLinux() || !folder.IsInitialised)
        {
            return;
        }

        string pidFile = Path.Combine(folder.Cluster, "postmaster.pid");
        foreach ((int? postmasterSignal, int? othersSignal, TimeSpan patience) in Steps)
        {
            int? postmaster = Postmaster(folder.Cluster, pidFile);
            if (postmaster is { } foreign && !IsOurs(foreign))
            {
                throw new DataFolderInUseException(folder.DataFolder, foreign);
            }

            int[] others = [.. InCluster(folder.Cluster).Where(id => id != postmaster)];
            if (postmaster is null && others.Length == 0)
            {
                break;
            }

            LogEnding(logger, postmaster, others.Length);
            Send(postmaster is null ? [] : [postmaster.Value], postmasterSignal);
            Send(others, othersSignal);
            if (await GoneAsync(folder.Cluster, pidFile, patience, clock, cancellationToken))
            {
                break;
            }
        }

        if (Postmaster(folder.Cluster, pidFile) is { } survivor)
        {
            throw new DataFolderInUseException(folder.DataFolder, survivor);
        }

        // Left there, it would stop the start as soon as any process of the same account has this number.
        File.Delete(pidFile);
    }

    private static async Task<bool> GoneAsync(
        string cluster,
        string pidFile,
        TimeSpan patience,
        TimeProvider clock,
        CancellationToken cancellationToken
    )
    {
        using var poll = new PeriodicTimer(PollInterval, clock);
        for (long since = clock.GetTimestamp(); clock.GetElapsedTime(since) < patience; )
        {
            if (Postmaster(cluster, pidFile) is null && InCluster(cluster).Length == 0)
            {
                return true;
            }

            await poll.WaitForNextTickAsync(cancellationToken);
        }

        return false;
    }

    // All of PostgreSQL's processes have the cluster as their working folder.
    private static int[] InCluster(string cluster) =>
        [
            .. Directory
                .EnumerateDirectories("/proc")
                .Select(path => int.TryParse(Path.GetFileName(path), CultureInfo.InvariantCulture, out int id) ? id : 0)
                .Where(id => id != 0 && WorkingFolder(id) == cluster && IsPostgres(id)),
        ];

    // The working folder tells whether a process id in the file is still the one that wrote it. A container's root may not
    // see it, for want of CAP_SYS_PTRACE; there the time of start, which everyone sees, must do.
    private static int? Postmaster(string cluster, string pidFile)
    {
        try
        {
            string[] lines = File.ReadAllLines(pidFile);
            if (
                lines.Length <= StartTimeLine
                || !int.TryParse(lines[ProcessIdLine], CultureInfo.InvariantCulture, out int id)
                || !long.TryParse(lines[StartTimeLine], CultureInfo.InvariantCulture, out long startedAt)
            )
            {
                return null;
            }

            using var process = Process.GetProcessById(id);
            bool same = WorkingFolder(id) is { } folder
                ? folder == cluster && IsPostgres(id)
                : (process.StartTime.ToUniversalTime() - DateTime.UnixEpoch.AddSeconds(startedAt)).Duration()
                    < StartTimeDeviationMax;
            return same && !IsZombie(id) ? id : null;
        }
        catch (Exception exception)
            when (exception
                    is IOException
                        or ArgumentException
                        or InvalidOperationException
                        or UnauthorizedAccessException
            )
        {
            return null; // no file, or no such process any more
        }
    }

    private static string? WorkingFolder(int id)
    {
        try
        {
            return new FileInfo($"/proc/{id}/cwd").LinkTarget;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static bool IsPostgres(int id) => Read(id, "comm").TrimEnd() == "postgres";

    private static bool IsZombie(int id) => Read(id, "stat").Contains(") Z ", StringComparison.Ordinal);

    // Nobody else would give PostgreSQL its data directory in this way.
    private static bool IsOurs(int id) =>
        Read(id, "cmdline").Split('\0') is [_, "-D", PostgresFolder.WorkingFolderAsPath, ..];

    private static string Read(int id, string file)
    {
        try
        {
            return File.ReadAllText($"/proc/{id}/{file}", Encoding.Latin1);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private static void Send(int[] processes, int? signal)
    {
        foreach (int id in processes)
        {
            if (signal is { } number)
            {
                Unix.Signal(id, number);
            }
        }
    }

    [LoggerMessage(
        EventId = 10,
        Level = LogLevel.Warning,
        Message = "Ending what a killed predecessor left: postmaster {Postmaster} and {Others} other processes"
    )]
    private static partial void LogEnding(ILogger logger, int? postmaster, int others);

    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan StartTimeDeviationMax = TimeSpan.FromSeconds(5);

    // A fast shutdown first: it leaves nothing to recover. Backends without a postmaster end by themselves.
    private static readonly (int? Postmaster, int? Others, TimeSpan Patience)[] Steps =
    [
        (Unix.SignalInterrupt, null, TimeSpan.FromSeconds(20)),
        (Unix.SignalQuit, Unix.SignalQuit, TimeSpan.FromSeconds(5)),
        (Unix.SignalKill, Unix.SignalKill, TimeSpan.FromSeconds(5)),
    ];
}
