namespace UsageMonitor.Tests.Import;

/// <summary>A clock whose waits are over at once, having moved it by as much as was to be waited; it remembers them.</summary>
internal sealed class ImpatientTime : TimeProvider
{
    private readonly Lock _lock = new();
    private TimeSpan _passed;

    public List<TimeSpan> Waits { get; } = [];

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp()
    {
        lock (_lock)
        {
            return _passed.Ticks;
        }
    }

    public override DateTimeOffset GetUtcNow() => new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        lock (_lock)
        {
            Waits.Add(dueTime);
            _passed += dueTime;
        }

        return System.CreateTimer(callback, state, TimeSpan.Zero, Timeout.InfiniteTimeSpan);
    }
}
