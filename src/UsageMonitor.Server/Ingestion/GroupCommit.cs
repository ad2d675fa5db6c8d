using System.Threading.Channels;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

/// <summary>
/// Makes the accepted and the refused events of many concurrent requests durable together: whatever waits when the log is free goes into
/// the next append, so the cost of a commit is shared by the more the busier the server is.
/// </summary>
/// <remarks>
/// A caller is told of success only after <see cref="IEventLog.AppendAsync"/> has returned. On failure it is told that the
/// outcome is unknown (503), and retries; deduplication makes that harmless.
/// </remarks>
internal sealed partial class GroupCommit(IEventLog log, ILogger<GroupCommit> logger) : BackgroundService
{
    /// <summary>Events in one append; bounds how long the one that came first waits.</summary>
    public const int AppendEventsMax = 10_000;

    /// <summary>Properties in one append, before compression.</summary>
    public const int AppendBytesMax = 8 * 1024 * 1024;

    /// <summary>Properties waiting or being appended, before compression; beyond, callers are told to come back (503).</summary>
    public const long QueuedBytesMax = 96L * 1024 * 1024;

    /// <summary>Requests waiting or being appended.</summary>
    public const int QueuedRequestsMax = 20_000;

    /// <summary>Appends under way at once: one is encoded while the other waits for the disk.</summary>
    private const int Lanes = 1;

    private readonly Channel<Waiting> _queue = Channel.CreateUnbounded<Waiting>();
    private long _queuedBytes;
    private int _queuedRequests;

    // Told once when it begins and once when it ends, not for every request of an outage.
    private volatile bool _failing;

    private sealed record Waiting(EnterpriseInfo Enterprise, ParsedBatch Batch, long Bytes, TaskCompletionSource Done);

    /// <summary>Returns when the batch's accepted events are durable, and the attempts that were refused.</summary>
    /// <exception cref="EventLogUnavailableException">The log failed or the queue is full; the caller should retry.</exception>
    /// <exception cref="EventLogFencedException">Nothing was appended: the events must be admitted anew.</exception>
    public async Task CommitAsync(EnterpriseInfo enterprise, ParsedBatch batch)
    {
        // The one way into the log: what the rules drop is gone before it can be queued, sealed or written.
        if (!batch.IsRuled)
        {
            throw new InvalidOperationException("The property rules have not been applied to these events.");
        }

        long bytes = 0;
        foreach (ParsedEvent parsed in batch.Accepted)
        {
            bytes += parsed.Properties.Length;
        }

        foreach (BlockedAttempt attempt in batch.Blocked)
        {
            bytes += attempt.Event.Properties.Length;
        }

        long queuedBytes = Interlocked.Add(ref _queuedBytes, bytes);
        int queuedRequests = Interlocked.Increment(ref _queuedRequests);
        try
        {
            if (queuedBytes > QueuedBytesMax || queuedRequests > QueuedRequestsMax)
            {
                throw new EventLogUnavailableException("More events are waiting to be written than this server holds.");
            }

            // Not cancelled with the request: the lane reads the request's buffer until the append is done.
            var waiting = new Waiting(
                enterprise,
                batch,
                bytes,
                new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)
            );
            if (!_queue.Writer.TryWrite(waiting))
            {
                throw new EventLogUnavailableException("The server is stopping.");
            }

            await waiting.Done.Task;
        }
        finally
        {
            Interlocked.Add(ref _queuedBytes, -bytes);
            Interlocked.Decrement(ref _queuedRequests);
        }
    }

    protected override Task ExecuteAsync(CancellationToken stoppingToken) =>
        Task.WhenAll(Enumerable.Range(0, Lanes).Select(_ => Task.Run(RunLaneAsync, CancellationToken.None)));

    /// <summary>Takes no new events; those that wait are still appended.</summary>
    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        _queue.Writer.TryComplete();
        await base.StopAsync(cancellationToken);
    }

    private async Task RunLaneAsync()
    {
        var taken = new List<Waiting>();
        while (await _queue.Reader.WaitToReadAsync())
        {
            taken.Clear();
            int events = 0;
            long bytes = 0;
            while (events < AppendEventsMax && bytes < AppendBytesMax && _queue.Reader.TryRead(out Waiting? waiting))
            {
                taken.Add(waiting);
                events += waiting.Batch.Accepted.Count + waiting.Batch.Blocked.Count;
                bytes += waiting.Bytes;
            }

            if (taken.Count > 0)
            {
                await AppendAsync(taken);
            }
        }
    }

    private async Task AppendAsync(List<Waiting> taken)
    {
        try
        {
            await AppendUnfencedAsync(taken);
            if (_failing)
            {
                LogAppendWorks();
            }

            _failing = false;
            foreach (Waiting waiting in taken)
            {
                waiting.Done.SetResult();
            }
        }
#pragma warning disable CA1031 // Every failure is handed to the callers who wait for it; the lane goes on.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            if (!_failing)
            {
                LogAppendFailed(exception, taken.Count);
            }

            _failing = true;
            var failure =
                exception as EventLogUnavailableException
                ?? new EventLogUnavailableException("The event log failed.", exception);
            foreach (Waiting waiting in taken)
            {
                waiting.Done.TrySetException(failure);
            }
        }
    }

    // Those whose fence was raised are told so; the others do not wait for them to be admitted anew. Each turn leaves out one
    // enterprise at least.
    private async Task AppendUnfencedAsync(List<Waiting> taken)
    {
        while (taken.Count > 0)
        {
            try
            {
                await log.AppendAsync(Drafts(taken), CancellationToken.None);
                return;
            }
            catch (EventLogFencedException exception)
            {
                foreach (Waiting waiting in taken.Where(IsFenced))
                {
                    waiting.Done.TrySetException(exception);
                }

                if (taken.RemoveAll(IsFenced) == 0)
                {
                    throw;
                }

                bool IsFenced(Waiting waiting) =>
                    waiting.Batch.Fence is not null && exception.Enterprises.Contains(waiting.Enterprise.EnterpriseId);
            }
        }
    }

    private static List<SegmentDraft> Drafts(List<Waiting> taken)
    {
        var drafts = new List<SegmentDraft>();
        foreach (IGrouping<short, Waiting> partition in taken.GroupBy(waiting => waiting.Enterprise.LogPartition))
        {
            var blocks = new List<SegmentCodec.Block>();
            foreach (
                IGrouping<Guid, Waiting> enterprise in partition.GroupBy(waiting => waiting.Enterprise.EnterpriseId)
            )
            {
                Waiting[] requests = [.. enterprise];
                List<ParsedEvent> events =
                    requests.Length == 1
                        ? requests[0].Batch.Accepted
                        : [.. requests.SelectMany(request => request.Batch.Accepted)];
                List<BlockedAttempt> blocked =
                    requests.Length == 1
                        ? requests[0].Batch.Blocked
                        : [.. requests.SelectMany(request => request.Batch.Blocked)];
                blocks.Add(
                    new SegmentCodec.Block(
                        requests[0].Enterprise,
                        events,
                        requests.Sum(request => request.Batch.Rejected.Count)
                    )
                    {
                        Blocked = blocked,
                    }
                );
            }

            drafts.Add(
                SegmentCodec.Encode(partition.Key, blocks) with
                {
                    Fences =
                    [
                        .. partition
                            .Where(waiting => waiting.Batch.Fence is not null)
                            .Select(waiting => new SegmentFence(
                                waiting.Enterprise.EnterpriseId,
                                waiting.Batch.Fence!.Value
                            ))
                            .Distinct(),
                    ],
                    Raises =
                    [
                        .. partition
                            .Where(waiting => waiting.Batch.IsUncounted)
                            .Select(waiting => waiting.Enterprise.EnterpriseId)
                            .Distinct(),
                    ],
                }
            );
        }

        return drafts;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Appends work again")]
    private partial void LogAppendWorks();

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "An append of {Requests} requests failed; their callers are told to retry, as are those that follow until appends work again"
    )]
    private partial void LogAppendFailed(Exception exception, int requests);
}
