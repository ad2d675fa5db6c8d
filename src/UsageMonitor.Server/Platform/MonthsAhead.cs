namespace UsageMonitor.Server.Platform;

/// <summary>Makes the coming months' partitions before the first row of a month comes.</summary>
internal sealed partial class MonthsAhead(MonthPartitions months, TimeProvider time, ILogger<MonthsAhead> logger)
    : BackgroundService
{
    private const int Months = 2;
    private static readonly TimeSpan Interval = TimeSpan.FromHours(6);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        do
        {
            try
            {
                int now = MonthPartitions.MonthOf(time.GetUtcNow());
                for (int month = now; month <= now + Months; month++)
                {
                    foreach (string table in MonthPartitions.Tables)
                    {
                        await months.EnsureAsync(table, month, stoppingToken);
                    }
                }
            }
            catch (Npgsql.NpgsqlException exception)
            {
                LogFailed(exception);
            }
        } while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The coming months' partitions could not be made; it is tried again in some hours"
    )]
    private partial void LogFailed(Exception exception);
}
