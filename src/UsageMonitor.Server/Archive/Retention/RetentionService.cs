namespace UsageMonitor.Server.Archive.Retention;

/// <summary>Runs retention and trims the log, every six hours. Instances that run it at once only take each other's work away.</summary>
internal sealed partial class RetentionService(
    RetentionRun retention,
    LogTrim trim,
    MonthEmptying emptying,
    TimeProvider time,
    ILogger<RetentionService> logger
) : BackgroundService
{
    private static readonly TimeSpan s_interval = TimeSpan.FromHours(6);
    private static readonly TimeSpan s_firstAfter = TimeSpan.FromMinutes(10);

    /// <summary>Months since, after which a month of events without rows is given back: archiving has taken them.</summary>
    private const int ArchivedMonths = 2;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Delay(s_firstAfter, time, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        using var timer = new PeriodicTimer(s_interval, time);
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                long rows = await retention.RunAsync(stoppingToken);
                await GiveBackAsync(stoppingToken);
                (int batches, int months) = await trim.RunAsync(stoppingToken);
                if (rows + batches + months > 0)
                {
                    LogDeleted(rows, batches, months);
                }
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // Outlives every failure: what was not deleted now is deleted later.
            catch (Exception exception)
#pragma warning restore CA1031
            {
                LogFailed(exception);
            }

            try
            {
                await timer.WaitForNextTickAsync(stoppingToken);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private async Task GiveBackAsync(CancellationToken cancellationToken)
    {
        int newest = Platform.MonthPartitions.MonthOf(time.GetUtcNow()) - ArchivedMonths;
        foreach (int month in await emptying.FindMonthsAsync("usage_events", cancellationToken))
        {
            if (month <= newest)
            {
                await emptying.TryIfNothingIsLeftAsync("usage_events", "event_timestamp", month, cancellationToken);
            }
        }
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "Retention deleted {Rows} rows; {Batches} batches of segments and {Months} months of the log are no longer needed"
    )]
    private partial void LogDeleted(long rows, int batches, int months);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Retention failed; what was deleted has its proof, the rest is tried again"
    )]
    private partial void LogFailed(Exception exception);
}
