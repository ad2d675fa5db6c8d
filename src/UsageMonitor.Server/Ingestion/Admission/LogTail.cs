using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>An accepted event that the log holds and processing has not stored yet.</summary>
internal readonly record struct PendingEvent(Guid EventId, Guid UserId, string FeatureName, DateTime Timestamp);

/// <summary>There is more in the log than can be counted in reasonable time.</summary>
internal sealed class LogTailTooLongException() : Exception("Processing is too far behind for usage to be counted.");

/// <summary>What an enterprise has sent that processing has not stored yet.</summary>
internal sealed class LogTail(IEventLog log)
{
    /// <summary>Events of all enterprises of the partition that are looked through.</summary>
    public const int EventsMax = 500_000;

    private const int ReadEvents = 20_000;

    /// <param name="enterprise">Whose.</param>
    /// <param name="position">What processing has stored.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <exception cref="EventLogUnavailableException">The log cannot be read.</exception>
    /// <exception cref="LogTailTooLongException">There is more than <see cref="EventsMax"/>.</exception>
    public async Task<List<PendingEvent>> ReadAsync(
        EnterpriseInfo enterprise,
        long position,
        CancellationToken cancellationToken
    )
    {
        var pending = new List<PendingEvent>();
        int looked = 0;
        while (true)
        {
            IReadOnlyList<Segment> segments = await log.ReadAsync(
                enterprise.LogPartition,
                position,
                ReadEvents,
                cancellationToken
            );
            if (segments.Count == 0)
            {
                return pending;
            }

            foreach (Segment segment in segments)
            {
                position = segment.Offset;
                looked += segment.Tallies.Sum(tally => tally.Kept);
                if (segment.Tallies.Any(tally => tally.EnterpriseId == enterprise.EnterpriseId && tally.Kept > 0))
                {
                    Add(pending, enterprise, segment);
                }
            }

            if (looked > EventsMax)
            {
                throw new LogTailTooLongException();
            }
        }
    }

    private static void Add(List<PendingEvent> pending, EnterpriseInfo enterprise, Segment segment)
    {
        foreach ((Guid enterpriseId, ReadOnlyMemory<byte> sealedBlock) in SegmentCodec.HeaderBlocks(segment.Headers))
        {
            if (enterpriseId != enterprise.EnterpriseId)
            {
                continue;
            }

            HeaderBlock block = SegmentCodec.OpenHeaders(enterprise, sealedBlock);
            pending.AddRange(
                block.Events.Select(header => new PendingEvent(
                    header.EventId,
                    header.UserId,
                    block.FeatureNames[header.Feature],
                    DateTime.UnixEpoch.AddTicks(header.TimestampMicroseconds * TimeSpan.TicksPerMicrosecond)
                ))
            );
        }
    }
}
