using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>
/// What the end of a window ends: its alerts are resolved, and a while later its counts are deleted. Any number of
/// processes may do it at once: each takes rows that no other has locked.
/// </summary>
internal sealed partial class EndedWindows(Database database, TimeProvider time, ILogger<EndedWindows> logger)
    : BackgroundService
{
    public const int ResolveSeconds = 5;
    public const int DeleteMinutes = 10;

    /// <summary>Rows of one transaction.</summary>
    public const int BatchRowsMax = 1_000;

    /// <summary>Transactions of one round; what is left waits for the next.</summary>
    public const int RoundBatchesMax = 50;

    /// <summary>A day more than steps count in, so that no step adds to a row that is being deleted.</summary>
    private const int KeptDays = MeterTallies.EndedDaysMax + 1;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(ResolveSeconds), time);
        long? deletedAt = null;
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                await ResolveAlertsAsync(stoppingToken);
                if (deletedAt is not { } last || time.GetElapsedTime(last) >= TimeSpan.FromMinutes(DeleteMinutes))
                {
                    await DeleteUsageAsync(stoppingToken);
                    deletedAt = time.GetTimestamp();
                }
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
            {
                LogRoundFailed(exception);
            }
        }
    }

    private const string Resolve = """
        UPDATE alert_events AS a SET resolved_at = a.window_end
          FROM (SELECT enterprise_id, alert_event_id FROM alert_events
                 WHERE resolved_at IS NULL AND window_end <= $1
                 ORDER BY window_end LIMIT $2 FOR UPDATE SKIP LOCKED) AS ended
         WHERE a.enterprise_id = ended.enterprise_id AND a.alert_event_id = ended.alert_event_id
        """;

    /// <summary>An alert is over when its window is.</summary>
    public Task ResolveAlertsAsync(CancellationToken cancellationToken) =>
        InBatchesAsync(Resolve, time.GetUtcNow().UtcDateTime, cancellationToken);

    private const string Delete = """
        DELETE FROM limit_usage AS u
         USING (SELECT enterprise_id, meter_id, subject_id, window_start FROM limit_usage
                 WHERE window_end < $1
                 ORDER BY window_end LIMIT $2 FOR UPDATE SKIP LOCKED) AS ended
         WHERE u.enterprise_id = ended.enterprise_id AND u.meter_id = ended.meter_id
           AND u.subject_id = ended.subject_id AND u.window_start = ended.window_start
        """;

    /// <summary>Counts of windows that ended long ago are of no use any more, those of meters that are no longer used among them.</summary>
    public Task DeleteUsageAsync(CancellationToken cancellationToken) =>
        InBatchesAsync(Delete, time.GetUtcNow().UtcDateTime.AddDays(-KeptDays), cancellationToken);

    private async Task InBatchesAsync(string sql, DateTime before, CancellationToken cancellationToken)
    {
        for (int batch = 0; batch < RoundBatchesMax; batch++)
        {
            await using NpgsqlCommand command = database.Pipeline.CreateCommand(sql);
            command.Parameters.Add(Columns.Value(before));
            command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = BatchRowsMax });
            if (await command.ExecuteNonQueryAsync(cancellationToken) < BatchRowsMax)
            {
                return;
            }
        }
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Ended windows could not be tidied up; it is tried again in seconds."
    )]
    private partial void LogRoundFailed(Exception exception);
}

internal static class MeteringServices
{
    /// <summary>What processing needs to meter, for the role that processes.</summary>
    public static IServiceCollection AddMetering(this IServiceCollection services) =>
        services.AddSingleton<MeteringSources>().AddHostedService<EndedWindows>();
}
