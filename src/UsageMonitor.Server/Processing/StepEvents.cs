using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>One event of a step, on its way from the log to the store.</summary>
internal struct StepEvent
{
    public EnterpriseInfo Enterprise;
    public EventHeader Header;
    public DateTime Timestamp;
    public DateTime ReceivedAt;
    public long SegmentOffset;
    public int SegmentSlot;

    /// <summary>Stored before, by this step or an earlier one.</summary>
    public bool Duplicate;

    /// <summary>The user's dense number in the enterprise.</summary>
    public int Ordinal;
}

/// <summary>The events of the segments that a step has read, and what their senders' ledgers say of them.</summary>
internal sealed class StepEvents
{
    /// <summary>Two events of an enterprise with one id are the same event when their times are no further apart than this.</summary>
    public static readonly TimeSpan DeduplicationWindow = TimeSpan.FromDays(32);

    public List<StepEvent> Events { get; } = [];

    /// <summary>Per enterprise and time of receipt.</summary>
    public List<(EnterpriseInfo Enterprise, DateTime ReceivedAt, SegmentTally Tally)> Tallies { get; } = [];

    /// <summary>Opens the segments' headers.</summary>
    public static async Task<StepEvents> OpenAsync(
        IReadOnlyList<Segment> segments,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        var step = new StepEvents();
        foreach (Segment segment in segments)
        {
            DateTime receivedAt = segment.AppendedAt.UtcDateTime;
            foreach (SegmentTally tally in segment.Tallies)
            {
                step.Tallies.Add((await FindAsync(tally.EnterpriseId), receivedAt, tally));
            }

            foreach ((Guid enterpriseId, ReadOnlyMemory<byte> sealedBlock) in SegmentCodec.HeaderBlocks(segment.Headers))
            {
                EnterpriseInfo enterprise = await FindAsync(enterpriseId);
                EventHeader[] headers = SegmentCodec.OpenHeaders(enterprise, sealedBlock);
                for (int slot = 0; slot < headers.Length; slot++)
                {
                    step.Events.Add(
                        new StepEvent
                        {
                            Enterprise = enterprise,
                            Header = headers[slot],
                            Timestamp = DateTime.UnixEpoch.AddMicroseconds(headers[slot].TimestampMicroseconds),
                            ReceivedAt = receivedAt,
                            SegmentOffset = segment.Offset,
                            SegmentSlot = slot,
                        }
                    );
                }
            }
        }

        return step;

        async ValueTask<EnterpriseInfo> FindAsync(Guid enterpriseId) =>
            await enterprises.FindAsync(enterpriseId, cancellationToken)
            ?? throw new InvalidDataException($"The log holds events of enterprise {enterpriseId}, which does not exist.");
    }

    /// <summary>Marks the events that come a second time within the step; the first in the log's order stays.</summary>
    public void MarkRepeats()
    {
        var kept = new Dictionary<(Guid, Guid), DateTime>(Events.Count);
        Dictionary<(Guid, Guid), List<DateTime>>? keptAlso = null;
        Span<StepEvent> events = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(Events);
        foreach (ref StepEvent current in events)
        {
            (Guid, Guid) key = (current.Enterprise.EnterpriseId, current.Header.EventId);
            if (kept.TryAdd(key, current.Timestamp))
            {
                continue;
            }

            // An id used again months later is another event; rare enough for a list of its own.
            List<DateTime>? others = null;
            keptAlso?.TryGetValue(key, out others);
            DateTime timestamp = current.Timestamp;
            if (IsSame(kept[key], timestamp) || (others?.Exists(other => IsSame(other, timestamp)) ?? false))
            {
                current.Duplicate = true;
                continue;
            }

            keptAlso ??= [];
            keptAlso[key] = [.. others ?? [], timestamp];
        }
    }

    private static bool IsSame(DateTime one, DateTime other) => (one - other).Duration() <= DeduplicationWindow;
}
