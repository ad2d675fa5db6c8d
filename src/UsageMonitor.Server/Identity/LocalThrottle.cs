using System.Collections.Concurrent;

namespace UsageMonitor.Server.Identity;

/// <summary>What <see cref="SignInThrottle"/> counts by while Redis is away: the same rules, in this process.</summary>
internal sealed class LocalThrottle(TimeProvider time)
{
    private const int EntriesMax = 100_000;
    private static readonly TimeSpan ForgetAfter = TimeSpan.FromSeconds(ThrottleLimits.ForgetSeconds);
    private readonly ConcurrentDictionary<string, Attempts> _attempts = new();

    /// <summary>Counts an attempt, unless it has to wait.</summary>
    public ThrottleDecision TryCount(string name, int max)
    {
        DateTimeOffset now = time.GetUtcNow();
        Attempts attempts = _attempts.GetOrAdd(name, static _ => new Attempts());
        lock (attempts)
        {
            TimeSpan left = attempts.WaitUntil - now;
            if (left > TimeSpan.Zero)
            {
                return new ThrottleDecision(Allowed: false, left);
            }

            attempts.Count = now >= attempts.ForgottenAt ? 1 : attempts.Count + 1;
            attempts.WaitUntil = now + TimeSpan.FromSeconds(ThrottleLimits.DelaySeconds(attempts.Count, max));
            attempts.ForgottenAt = attempts.WaitUntil + ForgetAfter;
        }

        if (_attempts.Count > EntriesMax)
        {
            Tidy(now);
        }

        return new ThrottleDecision(Allowed: true, TimeSpan.Zero);
    }

    public void Forget(string name) => _attempts.TryRemove(name, out _);

    /// <summary>One attempt less.</summary>
    public void Uncount(string name)
    {
        if (_attempts.TryGetValue(name, out Attempts? attempts))
        {
            lock (attempts)
            {
                attempts.Count = Math.Max(0, attempts.Count - 1);
            }
        }
    }

    private void Tidy(DateTimeOffset now)
    {
        foreach ((string name, Attempts attempts) in _attempts)
        {
            if (now >= attempts.ForgottenAt)
            {
                _attempts.TryRemove(name, out _);
            }
        }

        if (_attempts.Count > EntriesMax)
        {
            _attempts.Clear();
        }
    }

    private sealed class Attempts
    {
        public int Count { get; set; }
        public DateTimeOffset WaitUntil { get; set; } = DateTimeOffset.MinValue;
        public DateTimeOffset ForgottenAt { get; set; } = DateTimeOffset.MinValue;
    }
}
