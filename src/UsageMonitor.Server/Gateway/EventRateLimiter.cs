using System.Collections.Concurrent;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway;

/// <summary>
/// Limits the events a second of each API key, in this process, by a token bucket that holds two seconds' worth. The bucket
/// is one number: the instant at which it was empty. Taking events moves that instant towards now, with no lock.
/// </summary>
internal sealed class EventRateLimiter(ServerSettings settings, TimeProvider time)
{
    private const int BucketsMax = 100_000;
    private const int CapacitySeconds = 2;
    private readonly double _ticksPerEvent = (double)time.TimestampFrequency / settings.EventsPerSecondPerKey;
    private readonly long _capacityTicks = CapacitySeconds * time.TimestampFrequency;
    private readonly ConcurrentDictionary<Guid, Bucket> _buckets = new();

    /// <summary>Takes a batch's events, all or none.</summary>
    /// <param name="apiKeyId">Whose.</param>
    /// <param name="events">
    /// How many. A batch larger than the whole bucket passes when the bucket is full, and leaves a debt that the next has to
    /// wait for: the rate holds, and no batch is refused for ever.
    /// </param>
    /// <param name="retryAfter">When refused: after how long the same batch would pass.</param>
    public bool TryTake(Guid apiKeyId, int events, out TimeSpan retryAfter)
    {
        long now = time.GetTimestamp();
        Bucket bucket = _buckets.TryGetValue(apiKeyId, out Bucket? known) ? known : Add(apiKeyId, now);
        var cost = (long)(events * _ticksPerEvent);
        long full = now - _capacityTicks;
        long seen = Volatile.Read(ref bucket.EmptyAt);
        while (true)
        {
            long taken = Math.Max(seen, full) + cost;
            if (taken > now && seen > full)
            {
                long waitTicks = Math.Min(taken - now, seen - full);
                retryAfter = TimeSpan.FromSeconds((double)waitTicks / time.TimestampFrequency);
                return false;
            }

            long found = Interlocked.CompareExchange(ref bucket.EmptyAt, taken, seen);
            if (found == seen)
            {
                retryAfter = TimeSpan.Zero;
                return true;
            }

            seen = found;
        }
    }

    private Bucket Add(Guid apiKeyId, long now)
    {
        if (_buckets.Count >= BucketsMax)
        {
            // A full bucket is the same as none.
            foreach ((Guid key, Bucket bucket) in _buckets)
            {
                if (Volatile.Read(ref bucket.EmptyAt) <= now - _capacityTicks)
                {
                    _buckets.TryRemove(key, out _);
                }
            }

            if (_buckets.Count >= BucketsMax)
            {
                _buckets.Clear();
            }
        }

        return _buckets.GetOrAdd(apiKeyId, static (_, full) => new Bucket { EmptyAt = full }, now - _capacityTicks);
    }

    private sealed class Bucket
    {
        public long EmptyAt;
    }
}
