namespace UsageMonitor.Server.Archive;

/// <summary>Archives what is due, every hour; every day it sweeps the folder. Any number of instances may run it.</summary>
internal sealed partial class ArchiveService(
    ArchivePlan plan,
    Archiver archiver,
    ArchiveSweep sweep,
    TimeProvider time,
    ILogger<ArchiveService> logger
) : BackgroundService
{
    private static readonly TimeSpan s_interval = TimeSpan.FromHours(1);
    private static readonly TimeSpan s_firstAfter = TimeSpan.FromMinutes(5);
    private const int RunsOfSweep = 24;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        // After a start there is other work to do first.
        await Task.Delay(s_firstAfter, time, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        using var timer = new PeriodicTimer(s_interval, time);
        for (int run = 0; !stoppingToken.IsCancellationRequested; run++)
        {
            try
            {
                await RunAsync(stoppingToken);
                if (run % RunsOfSweep == 0)
                {
                    await sweep.RunAsync(stoppingToken);
                }

                await timer.WaitForNextTickAsync(stoppingToken);
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // Outlives every failure: nothing was moved, and it is tried again.
            catch (Exception exception)
#pragma warning restore CA1031
            {
                LogFailed(exception);
                await Task.Delay(s_firstAfter, time, stoppingToken)
                    .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    /// <summary>Archives everything that is due. A pass that fails does not keep the others from their turn.</summary>
    public async Task<Archiver.Outcome> RunAsync(CancellationToken cancellationToken)
    {
        (int files, long events) = (0, 0L);
        var failures = new List<Exception>();
        foreach (ArchivePass pass in await plan.FindAsync(time.GetUtcNow(), cancellationToken))
        {
            try
            {
                Archiver.Outcome outcome = await archiver.RunAsync(pass, cancellationToken);
                files += outcome.Files;
                events += outcome.Events;
                if (outcome.Files > 0)
                {
                    LogArchived(outcome.Files, outcome.Events, pass.Start, pass.LogPartition);
                }
            }
            catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
            {
                failures.Add(exception);
            }
        }

        return failures.Count == 0 ? new Archiver.Outcome(files, events) : throw new AggregateException(failures);
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "Archived {Files} files with {Events} events of the day that began {Start:O}, of log partition {Partition}"
    )]
    private partial void LogArchived(int files, long events, DateTime start, short partition);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Archiving failed; nothing was moved that is not in a verified file, and it is tried again"
    )]
    private partial void LogFailed(Exception exception);
}
