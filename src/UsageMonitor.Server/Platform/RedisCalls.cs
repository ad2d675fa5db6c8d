using System.Diagnostics.CodeAnalysis;
using StackExchange.Redis;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Asks Redis for what can be done without it: every question has a time limit, and while Redis is away it is asked once a
/// second rather than by everybody. That it is away is said once.
/// </summary>
internal sealed partial class RedisCalls(
    ServerSettings settings,
    TimeProvider time,
    ILogger<RedisCalls> logger,
    IConnectionMultiplexer? redis = null
)
{
    /// <summary>
    /// Not to be answered within this long is to be away. So long because a busy process may notice answers late, and taking
    /// that for an outage would let every instance limit rates by itself; while Redis hangs, one call a second waits for it.
    /// </summary>
    public const int CallMillisecondsMax = 1_000;
    private const int RetryMilliseconds = 1_000;

    public static readonly TimeSpan CallTimeMax = TimeSpan.FromMilliseconds(CallMillisecondsMax);
    private long _askAgainAt = long.MinValue;
    private int _isAway;

    /// <summary>A key of this installation; others may share the Redis.</summary>
    public RedisKey Key(string name) => settings.RedisKeyPrefix + name;

    /// <summary>Whether the last question was not answered.</summary>
    public bool IsAway => redis is null || Volatile.Read(ref _isAway) != 0;

    /// <summary>Asks. Never throws.</summary>
    /// <param name="ask">Sends the command.</param>
    /// <param name="limit">How long to wait; a limit below <see cref="CallTimeMax"/> that passes says nothing of Redis.</param>
    public async ValueTask<RedisAnswer<T>> AskAsync<T>(Func<IDatabase, Task<T>> ask, TimeSpan limit)
    {
        if (redis is null || !MayAsk())
        {
            return default;
        }

        try
        {
            Task<T> asked = ask(redis.GetDatabase());
            T value;
            try
            {
                value = await asked.WaitAsync(limit);
            }
            catch (TimeoutException) when (asked.IsCompleted)
            {
                // It was this process that was too busy to notice the answer.
                value = await asked;
            }

            if (Volatile.Read(ref _isAway) != 0 && Interlocked.Exchange(ref _isAway, 0) != 0)
            {
                Back();
            }

            return new RedisAnswer<T>(value);
        }
        catch (Exception exception) when (exception is RedisException or TimeoutException or ObjectDisposedException)
        {
            if (exception is not TimeoutException || limit >= CallTimeMax)
            {
                Volatile.Write(
                    ref _askAgainAt,
                    time.GetTimestamp() + (RetryMilliseconds * time.TimestampFrequency / 1_000)
                );
                if (Interlocked.Exchange(ref _isAway, 1) == 0)
                {
                    Away(exception);
                }
            }

            return default;
        }
    }

    // While it is away the first after a second tries, and the others go on without.
    private bool MayAsk()
    {
        if (Volatile.Read(ref _isAway) == 0)
        {
            return true;
        }

        long at = Volatile.Read(ref _askAgainAt);
        long now = time.GetTimestamp();
        return now >= at
            && Interlocked.CompareExchange(
                ref _askAgainAt,
                now + (RetryMilliseconds * time.TimestampFrequency / 1_000),
                at
            ) == at;
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Redis is away: each instance limits rates and sign-ins by itself, and caches only in memory."
    )]
    private partial void Away(Exception exception);

    [LoggerMessage(Level = LogLevel.Information, Message = "Redis is back.")]
    private partial void Back();
}

/// <summary>What Redis answered, if it did.</summary>
internal readonly struct RedisAnswer<T>(T value)
{
    private readonly bool _answered = true;
    private readonly T _value = value;

    public bool TryGet([MaybeNullWhen(false)] out T value)
    {
        value = _value;
        return _answered;
    }
}
