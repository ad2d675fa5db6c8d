using System.Collections.Concurrent;
using UsageMonitor.EventLog;
using Xunit;

namespace UsageMonitor.Tests.EventLog;

/// <summary>What every engine of the event log must pass; an engine's tests derive from this and say how to make a log.</summary>
public abstract class EventLogContract : IAsyncLifetime
{
    protected abstract Task<IEventLog> CreateAsync();

    private IEventLog _log = null!;

    public async ValueTask InitializeAsync() => _log = await CreateAsync();

    public virtual ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return ValueTask.CompletedTask;
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static SegmentDraft Draft(short partition, int events, byte mark = 0) =>
        new(
            partition,
            [new SegmentTally(Guid.NewGuid(), events, 1, mark)],
            new byte[] { mark, 1, 2, 3 },
            new byte[5_000]
        );

    [Fact]
    public async Task AppendAsync_WhenRead_ShouldGiveBackWhatWasAppended()
    {
        SegmentDraft draft = Draft(2, 7, mark: 42);

        await _log.AppendAsync([draft], Cancel);

        Segment read = Assert.Single(await _log.ReadAsync(2, 0, 100, Cancel));
        Assert.Equal((2, 1L), (read.Partition, read.Offset));
        Assert.Equal(draft.Tallies, read.Tallies);
        Assert.Equal(draft.Headers.ToArray(), read.Headers.ToArray());
        AppendedTally tally = Assert.Single(await _log.ReadTalliesAsync(2, 0, Cancel));
        Assert.Equal(draft.Tallies[0], tally.Tally);
        // What was refused is in the segment as well, and work for whoever reads it.
        Assert.Equal(new PartitionHead(2, 1, 7 + 42), (await _log.ReadHeadsAsync(Cancel))[2]);
    }

    [Fact]
    public async Task ReadAsync_WhenEventsAreBlocked_ShouldCountThemAgainstTheBound()
    {
        await _log.AppendAsync([Draft(0, 10, mark: 10)], Cancel);
        await _log.AppendAsync([Draft(0, 0, mark: 10)], Cancel);

        Assert.Equal([1L], (await _log.ReadAsync(0, 0, 29, Cancel)).Select(segment => segment.Offset));
        Assert.Equal([1L, 2L], (await _log.ReadAsync(0, 0, 30, Cancel)).Select(segment => segment.Offset));
    }

    [Fact]
    public async Task ReadAsync_WhenBoundedByEvents_ShouldStopBeforeButGiveAtLeastOne()
    {
        foreach (int events in new[] { 10, 10, 10 })
        {
            await _log.AppendAsync([Draft(0, events)], Cancel);
        }

        Assert.Equal([1L, 2L], (await _log.ReadAsync(0, 0, 20, Cancel)).Select(segment => segment.Offset));
        Assert.Equal([2L], (await _log.ReadAsync(0, 1, 3, Cancel)).Select(segment => segment.Offset));
        Assert.Empty(await _log.ReadAsync(0, 3, 20, Cancel));
    }

    [Fact]
    public async Task AppendAsync_WhenAPartitionIsUnknown_ShouldKeepNothing()
    {
        await Assert.ThrowsAsync<EventLogUnavailableException>(() =>
            _log.AppendAsync([Draft(0, 1), Draft(999, 1)], Cancel)
        );

        Assert.Empty(await _log.ReadAsync(0, 0, 10, Cancel));
        await _log.AppendAsync([Draft(0, 1)], Cancel);
        Assert.Equal(1, Assert.Single(await _log.ReadAsync(0, 0, 10, Cancel)).Offset);
    }

    [Fact]
    public async Task TrimAsync_WhenSegmentsAreRemoved_ShouldNotReuseTheirOffsets()
    {
        await _log.AppendAsync([Draft(1, 1)], Cancel);
        await _log.AppendAsync([Draft(1, 1)], Cancel);

        await _log.TrimAsync(1, 2, Cancel);
        await _log.AppendAsync([Draft(1, 1)], Cancel);

        Assert.Equal(3, Assert.Single(await _log.ReadAsync(1, 0, 10, Cancel)).Offset);
    }

    [Fact]
    public async Task ReadAsync_WhileManyAppend_ShouldNeverSeeAGapNorTimeGoBack()
    {
        const int Appenders = 8;
        const int AppendsEach = 40;
        var faults = new ConcurrentQueue<string>();
        using var done = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        Task[] readers =
        [
            .. Enumerable
                .Range(0, 4)
                .Select(partition => Task.Run(() => FollowAsync((short)partition, faults, done.Token), Cancel)),
        ];

        await Task.WhenAll(
            Enumerable
                .Range(0, Appenders)
                .Select(appender =>
                    Task.Run(
                        async () =>
                        {
                            var random = new Random(appender);
                            for (int i = 0; i < AppendsEach; i++)
                            {
                                short[] partitions =
                                [
                                    .. Enumerable.Range(0, 4).Where(_ => random.Next(2) == 0).Select(p => (short)p),
                                ];
                                random.Shuffle(partitions);
                                await _log.AppendAsync(
                                    [.. partitions.Select(p => Draft(p, random.Next(0, 5)))],
                                    Cancel
                                );
                            }
                        },
                        Cancel
                    )
                )
        );
        await done.CancelAsync();
        await Task.WhenAll(readers);

        Assert.Empty(faults);
        foreach (PartitionHead head in await _log.ReadHeadsAsync(Cancel))
        {
            IReadOnlyList<AppendedTally> all = await _log.ReadTalliesAsync(head.Partition, 0, Cancel);
            Assert.Equal(
                Enumerable.Range(1, (int)head.Offset).Select(offset => (long)offset),
                all.Select(tally => tally.Offset)
            );
            Assert.Equal(head.AppendedEvents, all.Sum(tally => tally.Tally.Kept));
        }
    }

    private async Task FollowAsync(short partition, ConcurrentQueue<string> faults, CancellationToken done)
    {
        long position = 0;
        DateTimeOffset last = default;
        while (!done.IsCancellationRequested)
        {
            foreach (Segment segment in await _log.ReadAsync(partition, position, 50, Cancel))
            {
                if (segment.Offset != position + 1)
                {
                    faults.Enqueue($"partition {partition}: {segment.Offset} after {position}");
                }

                if (segment.AppendedAt < last)
                {
                    faults.Enqueue($"partition {partition}: time went back at {segment.Offset}");
                }

                (position, last) = (segment.Offset, segment.AppendedAt);
            }
        }
    }
}
