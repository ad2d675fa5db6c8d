namespace UsageMonitor.EventLog;

/// <summary>
/// The durable, ordered, partitioned log between ingestion and processing. The seam of the platform: every engine passes
/// the same tests.
/// </summary>
/// <remarks>
/// What every engine guarantees:
/// <list type="number">
/// <item>When <see cref="AppendAsync"/> returns, the segments survive the loss of power.</item>
/// <item>Offsets of a partition are 1, 2, 3 … in the order in which they become visible: a reader that has seen offset
/// <c>n</c> has been able to see every offset below <c>n</c>.</item>
/// <item>When <see cref="AppendAsync"/> throws, the segments may or may not be in the log; the caller must not
/// acknowledge them, and deduplication by event id makes a retry harmless.</item>
/// </list>
/// </remarks>
public interface IEventLog
{
    /// <summary>The number of partitions, fixed when the log was created. Partitions are 0 … PartitionCount - 1.</summary>
    int PartitionCount { get; }

    /// <summary>Makes the segments durable, all or none.</summary>
    /// <param name="segments">At most one segment a partition.</param>
    /// <param name="cancellationToken">Cancels the wait; the segments may be durable all the same.</param>
    /// <exception cref="EventLogUnavailableException">The engine cannot be reached or refuses to write.</exception>
    /// <exception cref="EventLogFencedException">A fence of a draft was raised since; nothing was appended.</exception>
    Task AppendAsync(IReadOnlyList<SegmentDraft> segments, CancellationToken cancellationToken);

    /// <summary>
    /// Raises an enterprise's fence. When it returns, everything that was appended under a lower fence can be read, and nothing
    /// more will be appended under one.
    /// </summary>
    /// <param name="partition">The enterprise's.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="cancellationToken">Cancels the wait; the fence may be raised all the same.</param>
    /// <returns>The new fence, from 1.</returns>
    /// <exception cref="EventLogUnavailableException">The engine cannot be reached or refuses to write.</exception>
    Task<long> RaiseFenceAsync(short partition, Guid enterpriseId, CancellationToken cancellationToken);

    /// <summary>Reads the segments of a partition after an offset, oldest first, without their properties.</summary>
    /// <param name="partition">The partition.</param>
    /// <param name="after">The offset after which to start; 0 for the beginning.</param>
    /// <param name="eventsMax">Stops before the segment with which this number of events would be passed, but gives at least one segment.</param>
    /// <param name="cancellationToken">Cancels the read.</param>
    Task<IReadOnlyList<Segment>> ReadAsync(
        short partition,
        long after,
        int eventsMax,
        CancellationToken cancellationToken
    );

    /// <summary>What the segments after an offset hold, per enterprise; the part of the ledger that is still pending.</summary>
    Task<IReadOnlyList<AppendedTally>> ReadTalliesAsync(
        short partition,
        long after,
        CancellationToken cancellationToken
    );

    /// <summary>The newest offset of every partition, 0 for an empty one, and how many events were ever appended to it.</summary>
    Task<IReadOnlyList<PartitionHead>> ReadHeadsAsync(CancellationToken cancellationToken);

    /// <summary>Removes the segments of a partition up to and including an offset. Offsets are never given out again.</summary>
    Task TrimAsync(short partition, long through, CancellationToken cancellationToken);
}

/// <summary>What one enterprise's callers sent in a segment: <c>received = Accepted + Rejected + Blocked</c>.</summary>
/// <param name="EnterpriseId">The enterprise.</param>
/// <param name="Accepted">Events in the segment that will be stored once.</param>
/// <param name="Rejected">Events refused with a typed reason; they are counted, not kept.</param>
/// <param name="Blocked">Events that a policy or limit refused; they are in the segment too, as attempts.</param>
public readonly record struct SegmentTally(Guid EnterpriseId, int Accepted, int Rejected, int Blocked = 0)
{
    /// <summary>Events in the segment: what processing has to work through.</summary>
    public int Kept => Accepted + Blocked;
}

/// <summary>A segment about to be appended.</summary>
/// <param name="Partition">The partition.</param>
/// <param name="Tallies">One entry an enterprise.</param>
/// <param name="Headers">What processing needs of each event, sealed per enterprise. Opaque to the log.</param>
/// <param name="Properties">The events' properties, compressed and sealed per enterprise. Opaque to the log.</param>
public sealed record SegmentDraft(
    short Partition,
    IReadOnlyList<SegmentTally> Tallies,
    ReadOnlyMemory<byte> Headers,
    ReadOnlyMemory<byte> Properties
)
{
    /// <summary>It is appended only if these fences still stand: its events were admitted under them.</summary>
    public IReadOnlyList<SegmentFence> Fences { get; init; } = [];

    /// <summary>Enterprises whose fence the append itself raises: events of theirs were admitted uncounted.</summary>
    public IReadOnlyList<Guid> Raises { get; init; } = [];
}

/// <summary>An enterprise's fence; 0 before it was ever raised.</summary>
public readonly record struct SegmentFence(Guid EnterpriseId, long Fence);

/// <summary>A durable segment as processing reads it.</summary>
/// <param name="Partition">The partition.</param>
/// <param name="Offset">Its place in the partition, from 1.</param>
/// <param name="AppendedAt">When it was appended; never falls within a partition. It is its events' time of receipt.</param>
/// <param name="Tallies">One entry an enterprise.</param>
/// <param name="Headers">As appended.</param>
public sealed record Segment(
    short Partition,
    long Offset,
    DateTimeOffset AppendedAt,
    IReadOnlyList<SegmentTally> Tallies,
    ReadOnlyMemory<byte> Headers
);

/// <summary>The tally of one enterprise in one durable segment.</summary>
public readonly record struct AppendedTally(long Offset, DateTimeOffset AppendedAt, SegmentTally Tally);

/// <summary>The end of a partition.</summary>
/// <param name="Partition">The partition.</param>
/// <param name="Offset">The newest offset, 0 when nothing was ever appended.</param>
/// <param name="AppendedEvents">Events ever appended.</param>
public readonly record struct PartitionHead(short Partition, long Offset, long AppendedEvents);

/// <summary>The log cannot take or give segments now. Trying again later is right.</summary>
public sealed class EventLogUnavailableException(string message, Exception? innerException = null)
    : Exception(message, innerException);

/// <summary>What the events of these enterprises were admitted by is no longer true: nothing was appended, and they must be admitted anew.</summary>
public sealed class EventLogFencedException(IReadOnlySet<Guid> enterprises)
    : Exception("A fence was raised since the events were admitted.")
{
    /// <summary>Whose fence was raised.</summary>
    public IReadOnlySet<Guid> Enterprises { get; } = enterprises;
}
