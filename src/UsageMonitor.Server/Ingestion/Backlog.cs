using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

/// <summary>How far processing is behind the log, looked at once a second; beyond a bound no more events are taken.</summary>
internal sealed partial class Backlog(Database database, IEventLog log, TimeProvider time, ILogger<Backlog> logger)
    : BackgroundService
{
    /// <summary>Accepted events that wait to be processed.</summary>
    public const long PendingEventsMax = 5_000_000;

    private const int PollSeconds = 1;
    private volatile bool _isTooLong;

    public bool IsTooLong => _isTooLong;

    /// <summary>Events ever appended and events ever processed, over all partitions.</summary>
    public sealed record PipelineCounts(long AppendedEvents, long ProcessedEvents)
    {
        public long PendingEvents => AppendedEvents - ProcessedEvents;
    }

    public async Task<PipelineCounts> ReadAsync(CancellationToken cancellationToken)
    {
        // Processed first: the difference may be too large for a moment, never negative.
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(
            "SELECT sum(processed_events)::bigint FROM log_positions"
        );
        long processed = (long)(await command.ExecuteScalarAsync(cancellationToken))!;
        IReadOnlyList<PartitionHead> heads = await log.ReadHeadsAsync(cancellationToken);
        return new PipelineCounts(heads.Sum(head => head.AppendedEvents), processed);
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(PollSeconds), time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                long pending = (await ReadAsync(stoppingToken)).PendingEvents;
                if (_isTooLong != pending > PendingEventsMax)
                {
                    _isTooLong = !_isTooLong;
                    LogTurned(pending, _isTooLong);
                }
            }
            catch (NpgsqlException exception)
            {
                LogPollFailed(exception);
            }
        }
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "{PendingEvents} events wait to be processed; refusing more: {Refusing}"
    )]
    private partial void LogTurned(long pendingEvents, bool refusing);

    [LoggerMessage(Level = LogLevel.Warning, Message = "How far processing is behind could not be read")]
    private partial void LogPollFailed(Exception exception);
}
