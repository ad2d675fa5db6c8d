using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace UsageMonitor.Server.Identity;

/// <summary>
/// Slows down guessing: after ten failures in a quarter of an hour an e-mail address waits, twice as long with each more.
/// An attempt is counted before its password is looked at, so that many at once do not slip through together.
/// </summary>
internal sealed class SignInThrottle(TimeProvider time)
{
    public const int FailuresPerEmailMax = 10;

    /// <summary>More than per person: an office signs in from one address.</summary>
    public const int FailuresPerAddressMax = 50;
    private const int EntriesMax = 100_000;
    private static readonly TimeSpan Window = TimeSpan.FromMinutes(15);
    private static readonly TimeSpan FirstDelay = TimeSpan.FromSeconds(30);
    private readonly ConcurrentDictionary<string, Attempts> _attempts = new();

    /// <summary>Counts an attempt. False: too many, wait.</summary>
    public bool TryBegin(byte[] emailHash, IPAddress? address, out TimeSpan retryAfter) =>
        TryCount(OfEmail(emailHash), FailuresPerEmailMax, out retryAfter)
        && TryCount(OfAddress(address), FailuresPerAddressMax, out retryAfter);

    /// <summary>The attempt was no guess.</summary>
    public void Succeeded(byte[] emailHash, IPAddress? address)
    {
        _attempts.TryRemove(OfEmail(emailHash), out _);
        if (_attempts.TryGetValue(OfAddress(address), out Attempts? attempts))
        {
            lock (attempts)
            {
                attempts.Count = Math.Max(0, attempts.Count - 1);
            }
        }
    }

    private bool TryCount(string key, int failuresMax, out TimeSpan retryAfter)
    {
        DateTimeOffset now = time.GetUtcNow();
        Attempts attempts = _attempts.GetOrAdd(key, static _ => new Attempts());
        lock (attempts)
        {
            int excess = attempts.Count - failuresMax;
            TimeSpan delay = excess < 0 ? TimeSpan.Zero : FirstDelay * Math.Pow(2, Math.Min(excess, 5));
            retryAfter = attempts.LastAt + (delay < Window ? delay : Window) - now;
            if (excess >= 0 && retryAfter > TimeSpan.Zero)
            {
                return false;
            }

            attempts.Count = now - attempts.LastAt > Window ? 1 : attempts.Count + 1;
            attempts.LastAt = now;
        }

        if (_attempts.Count > EntriesMax)
        {
            Forget(now);
        }

        return true;
    }

    private void Forget(DateTimeOffset now)
    {
        foreach ((string key, Attempts attempts) in _attempts)
        {
            if (now - attempts.LastAt > Window)
            {
                _attempts.TryRemove(key, out _);
            }
        }

        if (_attempts.Count > EntriesMax)
        {
            _attempts.Clear();
        }
    }

    private static string OfEmail(byte[] emailHash) => "email:" + Convert.ToHexString(emailHash);

    private static string OfAddress(IPAddress? address)
    {
        if (address is { IsIPv4MappedToIPv6: true })
        {
            address = address.MapToIPv4();
        }

        // Whoever has one IPv6 address has the /64 around it.
        return address is { AddressFamily: AddressFamily.InterNetworkV6 }
            ? "address:" + Convert.ToHexString(address.GetAddressBytes().AsSpan(0, 8))
            : "address:" + address;
    }

    private sealed class Attempts
    {
        public DateTimeOffset LastAt { get; set; }
        public int Count { get; set; }
    }
}
