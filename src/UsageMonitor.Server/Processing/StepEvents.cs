using System.Runtime.InteropServices;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>One event of a step, on its way from the log to the store.</summary>
internal struct StepEvent
{
    public Guid EventId;
    public Guid UserId;
    public string? ExternalId;
    public string EventType;
    public DateTime Timestamp;

    /// <summary>Among the enterprise's features of this step: see <see cref="StepEnterprise.FeatureNames"/>.</summary>
    public int Feature;

    /// <summary>The user's dense number in the enterprise.</summary>
    public int Ordinal;

    /// <summary>Among the step's segments.</summary>
    public int Segment;

    /// <summary>Among the enterprise's events of the segment.</summary>
    public int Slot;

    /// <summary>Stored before, by this step or an earlier one.</summary>
    public bool IsDuplicate;
}

/// <summary>A refused attempt of a step, on its way to the decisions: it is neither stored nor counted as usage.</summary>
/// <param name="Header">The event and why it was refused.</param>
/// <param name="FeatureName">The event's feature.</param>
/// <param name="EventType">The event's type.</param>
/// <param name="Segment">Among the step's segments.</param>
/// <param name="Slot">Among the enterprise's events of the segment.</param>
internal readonly record struct StepAttempt(
    BlockedHeader Header,
    string FeatureName,
    string EventType,
    int Segment,
    int Slot
)
{
    /// <summary>The limit that refused it; null when it was a policy.</summary>
    public LimitRefusal? Limit { get; init; } = Header.Limit;

    /// <summary>When it was refused: what the receipt's id says.</summary>
    public DateTime DecidedAt => ReceiptIds.InstantOf(Header.ReceiptId)!.Value.UtcDateTime;
}

/// <summary>What a step has read of one enterprise.</summary>
internal sealed class StepEnterprise(EnterpriseInfo enterprise, LocalTime local)
{
    private readonly Dictionary<string, int> _features = new(StringComparer.Ordinal);

    public EnterpriseInfo Enterprise { get; } = enterprise;

    public Guid Id => Enterprise.EnterpriseId;

    public LocalTime Local { get; } = local;

    /// <summary>In the order of the log.</summary>
    public List<StepEvent> Events { get; } = [];

    /// <summary>The span to change events in; not to be kept while events are added.</summary>
    public Span<StepEvent> EventSpan => CollectionsMarshal.AsSpan(Events);

    public List<string> FeatureNames { get; } = [];

    /// <summary>In the order of the log.</summary>
    public List<StepAttempt> Attempts { get; } = [];

    /// <summary>What was received, by the segment that it came with.</summary>
    public List<(int Segment, SegmentTally Tally)> Tallies { get; } = [];

    public void Add(HeaderBlock block, int segment)
    {
        Span<int> features = stackalloc int[block.FeatureNames.Length <= 64 ? block.FeatureNames.Length : 0];
        features = features.Length == block.FeatureNames.Length ? features : new int[block.FeatureNames.Length];
        for (int i = 0; i < features.Length; i++)
        {
            features[i] = FeatureOf(block.FeatureNames[i]);
        }

        for (int slot = 0; slot < block.Events.Length; slot++)
        {
            ref readonly EventHeader header = ref block.Events[slot];
            Events.Add(
                new StepEvent
                {
                    EventId = header.EventId,
                    UserId = header.UserId,
                    ExternalId = header.ExternalId,
                    EventType = block.EventTypes[header.Type],
                    Timestamp = DateTime.UnixEpoch.AddTicks(
                        header.TimestampMicroseconds * TimeSpan.TicksPerMicrosecond
                    ),
                    Feature = features[header.Feature],
                    Segment = segment,
                    Slot = slot,
                }
            );
        }

        for (int i = 0; i < block.Blocked.Length; i++)
        {
            ref readonly BlockedHeader blocked = ref block.Blocked[i];
            Attempts.Add(
                new StepAttempt(
                    blocked,
                    block.FeatureNames[blocked.Event.Feature],
                    block.EventTypes[blocked.Event.Type],
                    segment,
                    block.Events.Length + i
                )
            );
        }
    }

    /// <summary>Marks the events that come a second time within the step; the first in the log's order stays.</summary>
    public void MarkRepeats()
    {
        var kept = new Dictionary<Guid, DateTime>(Events.Count);
        Dictionary<Guid, List<DateTime>>? keptAlso = null;
        foreach (ref StepEvent current in EventSpan)
        {
            if (kept.TryAdd(current.EventId, current.Timestamp))
            {
                continue;
            }

            // An id used again months later is another event; rare enough for a list of its own.
            List<DateTime>? others = null;
            keptAlso?.TryGetValue(current.EventId, out others);
            DateTime timestamp = current.Timestamp;
            if (
                IsSame(kept[current.EventId], timestamp) || (others?.Exists(other => IsSame(other, timestamp)) ?? false)
            )
            {
                current.IsDuplicate = true;
                continue;
            }

            keptAlso ??= [];
            keptAlso[current.EventId] = [.. others ?? [], timestamp];
        }
    }

    private int FeatureOf(string name)
    {
        ref int feature = ref CollectionsMarshal.GetValueRefOrAddDefault(_features, name, out bool known);
        if (!known)
        {
            feature = FeatureNames.Count;
            FeatureNames.Add(name);
        }

        return feature;
    }

    private static bool IsSame(DateTime one, DateTime other) =>
        (one - other).Duration() <= StepEvents.DeduplicationWindow;
}

/// <summary>What a step has read from the log, by enterprise.</summary>
internal sealed class StepEvents
{
    /// <summary>Two events of an enterprise with one id are the same event when their times are no further apart than this.</summary>
    public static readonly TimeSpan DeduplicationWindow = StoredEvents.DeduplicationWindow;

    private StepEvents(IReadOnlyList<Segment> segments) => Segments = segments;

    /// <summary>In the order of the log.</summary>
    public IReadOnlyList<Segment> Segments { get; }

    /// <summary>In the order of PostgreSQL's keys, so that a step touches the pages of an index in their order.</summary>
    public IReadOnlyList<StepEnterprise> Enterprises { get; private set; } = [];

    /// <summary>Events read, the refused ones too.</summary>
    public int Count { get; private set; }

    /// <summary>Events to store: all but the duplicates.</summary>
    public int StoredCount => Enterprises.Sum(enterprise => enterprise.Events.Count(stored => !stored.IsDuplicate));

    /// <summary>Opens the segments' headers.</summary>
    public static async Task<StepEvents> OpenAsync(
        IReadOnlyList<Segment> segments,
        EnterpriseDirectory directory,
        Func<EnterpriseInfo, LocalTime> localTimeOf,
        CancellationToken cancellationToken
    )
    {
        var step = new StepEvents(segments);
        var byId = new Dictionary<Guid, StepEnterprise>();
        for (int i = 0; i < segments.Count; i++)
        {
            foreach (SegmentTally tally in segments[i].Tallies)
            {
                if (!byId.TryGetValue(tally.EnterpriseId, out StepEnterprise? enterprise))
                {
                    EnterpriseInfo info =
                        await directory.FindAsync(tally.EnterpriseId, cancellationToken)
                        ?? throw new InvalidDataException(
                            $"The log holds events of enterprise {tally.EnterpriseId}, which does not exist."
                        );
                    byId[tally.EnterpriseId] = enterprise = new StepEnterprise(info, localTimeOf(info));
                }

                enterprise.Tallies.Add((i, tally));
                step.Count += tally.Kept;
            }

            foreach (
                (Guid enterpriseId, ReadOnlyMemory<byte> sealedBlock) in SegmentCodec.HeaderBlocks(segments[i].Headers)
            )
            {
                StepEnterprise enterprise = byId[enterpriseId];
                enterprise.Add(SegmentCodec.OpenHeaders(enterprise.Enterprise, sealedBlock), i);
            }
        }

        step.Enterprises = [.. byId.Values.OrderBy(enterprise => enterprise.Id)];
        return step;
    }
}
