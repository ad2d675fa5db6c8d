using System.Diagnostics;
using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing.Metering;

namespace UsageMonitor.Server.Processing;

/// <summary>
/// The workers. Each looks for partitions whose head is ahead of their position and takes a step of one; PostgreSQL's row
/// lock decides who has which, so any number of workers in any number of processes may run.
/// </summary>
internal sealed partial class ProcessingService(
    Database database,
    IEventLog log,
    EnterpriseDirectory enterprises,
    MonthPartitions months,
    MeteringSources metering,
    UsageSignal signal,
    ServerSettings settings,
    TimeProvider time,
    ILogger<ProcessingService> logger
) : BackgroundService
{
    /// <summary>How often an idle worker looks for new segments.</summary>
    public const int PollMilliseconds = 50;

    /// <summary>A partition that is not behind rests this long between steps, so that a step has more to share its cost.</summary>
    public const int StepPauseMilliseconds = 400;

    /// <summary>… and this long when so little comes that a step costs next to nothing.</summary>
    public const int QuietPauseMilliseconds = 150;

    private const int QuietStepEvents = 50;

    /// <summary>A step with as many events was behind: the next follows without a rest.</summary>
    private const int BusyStepEvents = 2_000;

    private const int RetryMilliseconds = 1_000;

    protected override Task ExecuteAsync(CancellationToken stoppingToken) =>
        Task.WhenAll(
            Enumerable
                .Range(0, settings.ProcessingWorkers)
                .Select(worker => Task.Run(() => WorkAsync(worker, stoppingToken), stoppingToken))
        );

    private async Task WorkAsync(int worker, CancellationToken stoppingToken)
    {
        var step = new PartitionStep(database, log, enterprises, months, metering, time);
        long[] restUntil = new long[log.PartitionCount];
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(PollMilliseconds), time);
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                bool worked = false;
                // Each worker begins elsewhere, so that they seldom meet at a lock.
                int first = worker * log.PartitionCount / settings.ProcessingWorkers;
                List<short> behind = await FindBehindAsync(stoppingToken);
                foreach (
                    short partition in behind.OrderBy(partition =>
                        (partition - first + log.PartitionCount) % log.PartitionCount
                    )
                )
                {
                    worked |= await TakeStepAsync(step, partition, restUntil, stoppingToken);
                }

                if (!worked)
                {
                    await timer.WaitForNextTickAsync(stoppingToken);
                }
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // A worker outlives every failure: the step was rolled back and is taken again.
            catch (Exception exception)
#pragma warning restore CA1031
            {
                LogStepFailed(exception);
                step = new PartitionStep(database, log, enterprises, months, metering, time);
                await Task.Delay(TimeSpan.FromMilliseconds(RetryMilliseconds), time, stoppingToken)
                    .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private async Task<List<short>> FindBehindAsync(CancellationToken cancellationToken)
    {
        IReadOnlyList<PartitionHead> heads = await log.ReadHeadsAsync(cancellationToken);
        var positions = new Dictionary<short, long>();
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(
            "SELECT log_partition, segment_offset FROM log_positions"
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            positions[reader.GetInt16(0)] = reader.GetInt64(1);
        }

        return
        [
            .. heads
                .Where(head => head.Offset > positions.GetValueOrDefault(head.Partition))
                .Select(head => head.Partition),
        ];
    }

    private async Task<bool> TakeStepAsync(
        PartitionStep step,
        short partition,
        long[] restUntil,
        CancellationToken cancellationToken
    )
    {
        long started = time.GetTimestamp();
        if (started < restUntil[partition])
        {
            return false;
        }

        using Activity? activity = Telemetry.Source.StartActivity("process step");
        PartitionStep.Outcome outcome = await step.RunAsync(partition, cancellationToken);
        if (outcome.Through == 0)
        {
            return false;
        }

        Telemetry.ProcessedEvents.Add(outcome.Events);
        Telemetry.StepSeconds.Record(time.GetElapsedTime(started).TotalSeconds);
        await signal.PublishAsync(partition, outcome.Through, outcome.Enterprises);
        bool busy = outcome.Events >= BusyStepEvents;
        int pause = outcome.Events < QuietStepEvents ? QuietPauseMilliseconds : StepPauseMilliseconds;
        restUntil[partition] = busy ? 0 : started + (pause * time.TimestampFrequency / 1_000);
        return busy;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "A processing step failed and was rolled back; it is taken again")]
    private partial void LogStepFailed(Exception exception);
}
