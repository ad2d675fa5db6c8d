using System.Globalization;
using Microsoft.Extensions.Primitives;

namespace UsageMonitor.Server.Gateway.RateLimits;

/// <summary>
/// An instance's side of a bucket that all instances share: the units it has leased, and what it last saw of the rest. Beside
/// it a bucket of its own, for the time that Redis is away. No lock anywhere.
/// </summary>
/// <remarks>
/// A bucket is one number: the instant at which it was empty. It fills as time goes by, and taking units moves the instant
/// towards now (the generic cell rate algorithm).
/// </remarks>
internal sealed class RateBucket(RatePolicy policy, string name, long now)
{
    /// <summary>Leased units that are not used within this long go back with the next question.</summary>
    private const int LeaseSeconds = 1;
    private const int PortionsOfCapacity = 8;
    private const int HeaderSteps = 64;
    private readonly long _leaseTicks = policy.CapacityTicks / RatePolicy.CapacitySeconds * LeaseSeconds;
    private long _leased;
    private long _leasedUntil = long.MinValue;
    private long _portion;
    private long _askedAt = now;
    private long _sharedEmptyAt = now - policy.CapacityTicks;
    private long _localEmptyAt = now - policy.CapacityTicks;
    private int _refilling;
    private Rendered? _rendered;

    public RatePolicy Policy => policy;

    /// <summary>Its key in Redis.</summary>
    public string Name => name;

    /// <summary>When it was last used, for whoever must forget some.</summary>
    public long UsedAt { get; private set; } = now;

    /// <summary>Takes from what is leased: no question to anybody.</summary>
    public bool TryTakeLeased(long units, long now)
    {
        UsedAt = now;
        if (now > Volatile.Read(ref _leasedUntil))
        {
            return false;
        }

        long seen = Volatile.Read(ref _leased);
        while (seen >= units)
        {
            long found = Interlocked.CompareExchange(ref _leased, seen - units, seen);
            if (found == seen)
            {
                return true;
            }

            seen = found;
        }

        return false;
    }

    /// <summary>Puts units back that were taken and not used.</summary>
    public void GiveBack(long units) => Interlocked.Add(ref _leased, units);

    /// <summary>Takes all leased units, to give them back to the bucket.</summary>
    public long Drain() => Interlocked.Exchange(ref _leased, 0);

    /// <summary>Whether it is time to lease more, before the units run out. Whoever is told so does it and calls <see cref="Refilled"/>.</summary>
    public bool ShouldRefill() =>
        Volatile.Read(ref _leased) < Volatile.Read(ref _portion) / 2
        && Volatile.Read(ref _refilling) == 0
        && Interlocked.Exchange(ref _refilling, 1) == 0;

    public void Refilled() => Volatile.Write(ref _refilling, 0);

    /// <summary>
    /// How many units to lease beyond the asked: a portion lasts for 100 to 250 ms of the recent rate, which this finds by
    /// doubling and halving. What the bucket holds bounds it again (<see cref="SharedBuckets"/>).
    /// </summary>
    public long NextPortion(long units, long now)
    {
        long since = now - Interlocked.Exchange(ref _askedAt, now);
        long portion = Volatile.Read(ref _portion);
        portion =
            since < _leaseTicks / 10 ? Math.Max(portion * 2, units)
            : since > _leaseTicks / 4 ? portion / 2
            : portion;
        portion = Math.Min(portion, policy.Capacity / PortionsOfCapacity);
        Volatile.Write(ref _portion, portion);
        return portion;
    }

    /// <summary>Units beyond those asked for have been granted.</summary>
    public void Lease(long units, long now)
    {
        if (units > 0)
        {
            Interlocked.Add(ref _leased, units);
        }

        Volatile.Write(ref _leasedUntil, now + _leaseTicks);
    }

    /// <summary>The bucket in Redis was seen.</summary>
    /// <param name="emptyInMicroseconds">The instant at which it is empty, from its now.</param>
    /// <param name="askedAt">Our clock when we asked: not after its now, so that we never think the bucket emptier than it may be.</param>
    public void Saw(long emptyInMicroseconds, long askedAt) =>
        Volatile.Write(
            ref _sharedEmptyAt,
            askedAt + (long)(emptyInMicroseconds * (policy.CapacityTicks / (RatePolicy.CapacitySeconds * 1_000_000d)))
        );

    /// <summary>Whether the bucket, as far as we have seen, must refuse: then it need not be asked.</summary>
    public bool MustRefuse(long units, long now, out long waitTicks)
    {
        // With what we hold ourselves given back, as asking does.
        long seen = Volatile.Read(ref _sharedEmptyAt) - (long)(Volatile.Read(ref _leased) * policy.TicksPerUnit);
        return IsTooMuch(seen, units, now, out waitTicks, out _);
    }

    /// <summary>Takes from this instance's own bucket.</summary>
    public bool TryTakeLocal(long units, long now, out long waitTicks)
    {
        long seen = Volatile.Read(ref _localEmptyAt);
        while (!IsTooMuch(seen, units, now, out waitTicks, out long taken))
        {
            long found = Interlocked.CompareExchange(ref _localEmptyAt, taken, seen);
            if (found == seen)
            {
                return true;
            }

            seen = found;
        }

        return false;
    }

    public void GiveBackLocal(long units) => Interlocked.Add(ref _localEmptyAt, -(long)(units * policy.TicksPerUnit));

    // More than the whole bucket passes when it is full and leaves a debt, so that no batch is refused for ever.
    private bool IsTooMuch(long emptyAt, long units, long now, out long waitTicks, out long taken)
    {
        long full = now - policy.CapacityTicks;
        taken = Math.Max(emptyAt, full) + (long)(units * policy.TicksPerUnit);
        waitTicks = Math.Min(taken - now, emptyAt - full);
        return taken > now && emptyAt > full;
    }

    /// <summary>About how many units are left to the caller.</summary>
    public long Remaining(bool local, long now)
    {
        long emptyAt = local ? Volatile.Read(ref _localEmptyAt) : Volatile.Read(ref _sharedEmptyAt);
        long leased = local ? 0 : Volatile.Read(ref _leased);
        var units = (long)((now - emptyAt) / policy.TicksPerUnit);
        return Math.Clamp(units + leased, 0, policy.Capacity);
    }

    /// <summary>
    /// <c>RateLimit</c>: what is left, and in how many seconds the bucket is full again. Far from the limit what is left is
    /// rounded down to a 64th of the bucket, so that the text of the last answer mostly serves for the next.
    /// </summary>
    public StringValues Header(long remaining)
    {
        long step = remaining > policy.Capacity / PortionsOfCapacity ? Math.Max(1, policy.Capacity / HeaderSteps) : 1;
        long shown = remaining - (remaining % step);
        if (_rendered is { } last && last.Remaining == shown)
        {
            return last.Text;
        }

        long missing = policy.Capacity - shown;
        long seconds = ((missing * RatePolicy.CapacitySeconds) + policy.Capacity - 1) / policy.Capacity;
        string text = string.Create(CultureInfo.InvariantCulture, $"\"{policy.Name}\";r={shown};t={seconds}");
        _rendered = new Rendered(shown, text);
        return text;
    }

    private sealed class Rendered(long remaining, string text)
    {
        public long Remaining => remaining;

        public StringValues Text { get; } = text;
    }
}
