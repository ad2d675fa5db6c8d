using System.Net.Http.Headers;

namespace UsageMonitor.Server.Alerts;

/// <summary>When what failed is tried again.</summary>
internal static class DeliveryRetry
{
    public static readonly TimeSpan FirstDelay = TimeSpan.FromSeconds(5);
    public static readonly TimeSpan DelayMax = TimeSpan.FromHours(1);
    public static readonly TimeSpan GivenUpAfter = TimeSpan.FromHours(24);

    /// <summary>The part of a delay that chance adds or takes, so that many that failed together do not come back together.</summary>
    public const double Jitter = 0.2;
    private const int DoublingsMax = 16;

    /// <param name="createdAt">When the delivery was written.</param>
    /// <param name="now">When the attempt failed.</param>
    /// <param name="attempt">Which it was: 1, 2, …</param>
    /// <param name="retryAfter">How long the receiver asks to be left alone, which is honoured up to <see cref="DelayMax"/>.</param>
    /// <param name="chance">0 to 1.</param>
    /// <returns>Null: it is given up, because a day has passed by then.</returns>
    public static DateTime? Next(DateTime createdAt, DateTime now, int attempt, TimeSpan? retryAfter, double chance)
    {
        TimeSpan delay = FirstDelay * Math.Pow(2, Math.Clamp(attempt - 1, 0, DoublingsMax));
        delay = (delay < DelayMax ? delay : DelayMax) * (1 - Jitter + (2 * Jitter * chance));
        if (retryAfter > delay)
        {
            delay = retryAfter.Value < DelayMax ? retryAfter.Value : DelayMax;
        }

        DateTime next = now + delay;
        return next <= createdAt + GivenUpAfter ? next : null;
    }

    /// <summary>Retry-After of a 429 or 503, in either of its forms.</summary>
    public static TimeSpan? RetryAfter(int status, RetryConditionHeaderValue? header, DateTimeOffset now) =>
        status is 429 or 503 ? header?.Delta ?? (header?.Date - now) : null;
}
