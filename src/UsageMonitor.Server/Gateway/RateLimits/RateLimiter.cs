using System.Collections.Concurrent;
using System.Globalization;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway.RateLimits;

/// <summary>Whether a caller may go on, and what to tell of the bucket that is nearest to its limit.</summary>
/// <param name="Allowed">The units are taken.</param>
/// <param name="RetryAfter">When not: after how long the same would pass.</param>
/// <param name="Tightest">The bucket that refused, or the one with the least left.</param>
/// <param name="Remaining">What it has left.</param>
internal readonly record struct RateDecision(bool Allowed, TimeSpan RetryAfter, RateBucket Tightest, long Remaining)
{
    /// <summary><c>Retry-After</c> counts in whole seconds.</summary>
    public int RetryAfterSeconds => Math.Max(1, (int)Math.Ceiling(RetryAfter.TotalSeconds));

    /// <summary>The headers of draft-ietf-httpapi-ratelimit-headers-10, and <c>Retry-After</c> when refused.</summary>
    public void WriteHeaders(HttpResponse response)
    {
        IHeaderDictionary headers = response.Headers;
        headers["RateLimit-Policy"] = Tightest.Policy.Header;
        headers["RateLimit"] = Tightest.Header(Remaining);
        if (!Allowed)
        {
            headers.RetryAfter = RetryAfterSeconds.ToString(CultureInfo.InvariantCulture);
        }
    }
}

/// <summary>
/// Token buckets of each caller (API key or person) and each enterprise, over all instances. The true bucket is in Redis
/// (<see cref="SharedBuckets"/>); an instance leases units from it in portions, so that a caller far from the limit costs
/// no question, and near it every request asks. What holds: <b>all instances together admit at most rate × time + burst</b>,
/// because a unit is admitted only after the one script has granted it. While Redis is away each instance limits by buckets
/// of its own.
/// </summary>
internal sealed class RateLimiter
{
    private const int BucketsMax = 200_000;
    private readonly ConcurrentDictionary<(RatePolicy, Guid), RateBucket> _buckets = new();
    private readonly SharedBuckets _shared;
    private readonly TimeProvider _time;
    private readonly RatePolicy[] _perCaller;
    private readonly RatePolicy[] _perEnterprise;

    public RateLimiter(SharedBuckets shared, ServerSettings settings, TimeProvider time)
    {
        (_shared, _time) = (shared, time);
        long ticks = time.TimestampFrequency;
        _perCaller =
        [
            new RatePolicy("requests", settings.RequestsPerSecondPerCaller, ticks),
            new RatePolicy("events", settings.EventsPerSecondPerKey, ticks),
        ];
        _perEnterprise =
        [
            new RatePolicy("requests-of-enterprise", settings.RequestsPerSecondPerEnterprise, ticks),
            new RatePolicy("events-of-enterprise", settings.EventsPerSecondPerEnterprise, ticks),
        ];
    }

    /// <summary>Takes units of a caller and of the caller's enterprise, from both or from none.</summary>
    /// <param name="caller">Who.</param>
    /// <param name="unit">What is counted.</param>
    /// <param name="units">
    /// How many. A batch larger than the whole bucket passes when the bucket is full, and leaves a debt that the next has to
    /// wait for: the rate holds, and no batch is refused for ever.
    /// </param>
    public ValueTask<RateDecision> TakeAsync(Caller caller, RateUnit unit, int units)
    {
        long now = _time.GetTimestamp();
        Guid callerId = caller.ApiKeyId ?? caller.UserId ?? Guid.Empty;
        RateBucket own = BucketOf(_perCaller[(int)unit], callerId, now);
        RateBucket all = BucketOf(_perEnterprise[(int)unit], caller.EnterpriseId, now);
        if (own.TryTakeLeased(units, now))
        {
            if (all.TryTakeLeased(units, now))
            {
                RefillAhead(own, now);
                RefillAhead(all, now);
                return new ValueTask<RateDecision>(Allow(own, all, ownIsLocal: false, allIsLocal: false, now));
            }

            own.GiveBack(units);
        }

        return TakeSlowlyAsync(own, all, units);
    }

    private async ValueTask<RateDecision> TakeSlowlyAsync(RateBucket own, RateBucket all, int units)
    {
        Outcome ofOwn = await TakeAsync(own, units);
        if (!ofOwn.Taken)
        {
            return Refuse(own, ofOwn);
        }

        Outcome ofAll = await TakeAsync(all, units);
        if (!ofAll.Taken)
        {
            if (ofOwn.Local)
            {
                own.GiveBackLocal(units);
            }
            else
            {
                own.GiveBack(units);
            }

            return Refuse(all, ofAll);
        }

        return Allow(own, all, ofOwn.Local, ofAll.Local, _time.GetTimestamp());
    }

    private async ValueTask<Outcome> TakeAsync(RateBucket bucket, int units)
    {
        long now = _time.GetTimestamp();
        if (bucket.TryTakeLeased(units, now))
        {
            RefillAhead(bucket, now);
            return new Outcome(Taken: true, Local: false, TimeSpan.Zero);
        }

        if (!_shared.IsAway && bucket.MustRefuse(units, now, out long waitTicks))
        {
            return new Outcome(Taken: false, Local: false, ToTime(waitTicks));
        }

        // What is leased goes back: a large batch is measured against the whole bucket.
        long portion = bucket.NextPortion(units, now);
        if (await _shared.TakeAsync(bucket, units, portion, bucket.Drain()) is { } answer)
        {
            bucket.Saw(answer.EmptyInMicroseconds, now);
            if (units > 0 && answer.Granted == 0)
            {
                var wait = TimeSpan.FromMicroseconds(answer.WaitMicroseconds);
                return new Outcome(Taken: false, Local: false, wait);
            }

            bucket.Lease(answer.Granted - units, now);
            return new Outcome(Taken: true, Local: false, TimeSpan.Zero);
        }

        Telemetry.LocalRateDecisions.Add(1);
        return bucket.TryTakeLocal(units, now, out waitTicks)
            ? new Outcome(Taken: true, Local: true, TimeSpan.Zero)
            : new Outcome(Taken: false, Local: true, ToTime(waitTicks));
    }

    private void RefillAhead(RateBucket bucket, long now)
    {
        if (bucket.ShouldRefill())
        {
            _ = RefillAsync(bucket, now);
        }
    }

    private async Task RefillAsync(RateBucket bucket, long now)
    {
        try
        {
            if (await _shared.TakeAsync(bucket, units: 0, bucket.NextPortion(0, now), back: 0) is { } answer)
            {
                bucket.Saw(answer.EmptyInMicroseconds, now);
                bucket.Lease(answer.Granted, now);
            }
        }
        finally
        {
            bucket.Refilled();
        }
    }

    private static RateDecision Allow(RateBucket own, RateBucket all, bool ownIsLocal, bool allIsLocal, long now)
    {
        long ofOwn = own.Remaining(ownIsLocal, now);
        long ofAll = all.Remaining(allIsLocal, now);
        return ofOwn <= ofAll
            ? new RateDecision(Allowed: true, TimeSpan.Zero, own, ofOwn)
            : new RateDecision(Allowed: true, TimeSpan.Zero, all, ofAll);
    }

    private RateDecision Refuse(RateBucket bucket, in Outcome outcome)
    {
        Telemetry.RateRefusals.Add(1, new KeyValuePair<string, object?>("policy", bucket.Policy.Name));
        long remaining = bucket.Remaining(outcome.Local, _time.GetTimestamp());
        return new RateDecision(Allowed: false, outcome.RetryAfter, bucket, remaining);
    }

    private TimeSpan ToTime(long ticks) => TimeSpan.FromSeconds((double)ticks / _time.TimestampFrequency);

    private RateBucket BucketOf(RatePolicy policy, Guid id, long now) =>
        _buckets.TryGetValue((policy, id), out RateBucket? known) ? known : Add(policy, id, now);

    private RateBucket Add(RatePolicy policy, Guid id, long now)
    {
        if (_buckets.Count >= BucketsMax)
        {
            // One that nobody used for as long as it takes to fill is full, which is the same as none.
            foreach (((RatePolicy, Guid) key, RateBucket bucket) in _buckets)
            {
                if (now - bucket.UsedAt > policy.CapacityTicks)
                {
                    _buckets.TryRemove(key, out _);
                }
            }

            if (_buckets.Count >= BucketsMax)
            {
                _buckets.Clear();
            }
        }

        return _buckets.GetOrAdd((policy, id), _ => new RateBucket(policy, $"rate:{policy.Name}:{id:N}", now));
    }

    private readonly record struct Outcome(bool Taken, bool Local, TimeSpan RetryAfter);
}
