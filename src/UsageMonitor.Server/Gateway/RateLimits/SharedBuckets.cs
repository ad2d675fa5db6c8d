using System.Globalization;
using StackExchange.Redis;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway.RateLimits;

/// <summary>
/// The true buckets, in Redis: one script takes units, or refuses them, in one step. Whatever instances do, what is granted
/// from a bucket in any time is at most its rate × that time + what it held.
/// </summary>
/// <remarks>
/// The script's clock is Redis's own: there is one, so instances whose clocks differ cannot fill a bucket twice. Beyond the
/// units asked for it grants a portion to lease, at most an eighth of what is left: far from the limit that is plenty, and
/// near it nothing.
/// </remarks>
internal sealed class SharedBuckets(RedisCalls redis)
{
    // Microseconds since 2026, so that the fractions of a high rate's microsecond fit into a double.
    private const string TakeScript = """
        local time = redis.call('TIME')
        local now = (tonumber(time[1]) - 1767225600) * 1000000 + tonumber(time[2])
        local cost, portion, back = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        local capacity, per_unit = tonumber(ARGV[4]), tonumber(ARGV[5])
        local full = now - capacity
        local empty = full
        local kept = redis.call('GET', KEYS[1])
        if kept then empty = math.max(tonumber(kept) - back * per_unit, full) end
        local granted, wait = 0, 0
        local taken = empty + cost * per_unit
        if taken <= now or empty <= full then
            empty = taken
            granted = cost
            local extra = math.min(portion, math.floor((now - empty) / per_unit / 8))
            if extra > 0 then
                empty = empty + extra * per_unit
                granted = granted + extra
            end
        else
            wait = math.min(taken - now, empty - full)
        end
        if granted > 0 or back > 0 then
            local left = math.ceil((empty - full) / 1000) + 1000
            redis.call('SET', KEYS[1], string.format('%.3f', empty), 'PX', string.format('%.0f', left))
        end
        return { granted, math.ceil(wait), string.format('%.0f', empty - now) }
        """;

    private static readonly string s_capacityMicroseconds = (RatePolicy.CapacitySeconds * 1_000_000).ToString(
        CultureInfo.InvariantCulture
    );

    /// <summary>Redis did not answer the last time.</summary>
    public bool IsAway => redis.IsAway;

    /// <summary>Takes units from a bucket.</summary>
    /// <param name="bucket">Which.</param>
    /// <param name="units">All or none of these; 0 to lease only.</param>
    /// <param name="portion">As many more as the bucket can spare, to lease.</param>
    /// <param name="back">Leased units that go back first.</param>
    /// <returns>Null while Redis is away.</returns>
    public async ValueTask<Taken?> TakeAsync(RateBucket bucket, long units, long portion, long back)
    {
        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database =>
                database.ScriptEvaluateAsync(
                    TakeScript,
                    [redis.Key(bucket.Name)],
                    [units, portion, back, s_capacityMicroseconds, bucket.Policy.MicrosecondsPerUnit]
                ),
            RedisCalls.CallTimeMax
        );
        return answer.TryGet(out RedisResult? result) && (RedisResult[]?)result is [var granted, var wait, var empty]
            ? new Taken((long)granted, (long)wait, (long)empty)
            : null;
    }

    /// <summary>The script's answer.</summary>
    /// <param name="Granted">The units and the portion; 0: refused.</param>
    /// <param name="WaitMicroseconds">When refused: after how long the same would pass.</param>
    /// <param name="EmptyInMicroseconds">The instant at which the bucket is empty, from now; negative: it holds something.</param>
    internal readonly record struct Taken(long Granted, long WaitMicroseconds, long EmptyInMicroseconds);
}
