using Npgsql;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Runs a pass every few seconds, and at once while there is more to catch up with than one pass does.</summary>
internal sealed partial class AnomalyService(AnomalyPass pass, TimeProvider time, ILogger<AnomalyService> logger)
    : BackgroundService
{
    /// <summary>Whoever is due is looked at within so long.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);

    // Passes without a rest: processing has the same processors.
    private const int PassesInARowMax = 50;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        try
        {
            while (await timer.WaitForNextTickAsync(stoppingToken))
            {
                try
                {
                    for (int passes = 0; passes < PassesInARowMax && await pass.RunAsync(stoppingToken) > 0; passes++)
                    {
                        // until nobody is due
                    }
                }
                catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
                {
                    LogPassFailed(exception);
                }
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // It ends.
        }
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Looking for abnormal behaviour failed; it is tried again in some seconds"
    )]
    private partial void LogPassFailed(Exception exception);
}
