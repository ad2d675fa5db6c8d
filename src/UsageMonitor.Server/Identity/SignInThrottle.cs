using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using StackExchange.Redis;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>
/// Slows down guessing, by account and by address, over all instances: after some failures each more doubles the wait, up to
/// an hour. An attempt is counted before its password or code is looked at, so that many at once do not slip through
/// together.
/// </summary>
/// <remarks>
/// Accounts are counted by a hash, whether they exist or not, so the answer tells nothing of that. Redis sees a keyed hash
/// of that hash or of the address. While it is away each instance counts by itself.
/// </remarks>
internal sealed class SignInThrottle(RedisCalls redis, MasterKey masterKey, LocalThrottle local)
{
    public const int FailuresPerEmailMax = 10;
    public const int FailuresPerAddressMax = 50;

    // The value is "failures instant-of-the-last"; the clock is Redis's own, and forgetting is the key's expiry.
    private const string BeginScript = """
        local time = redis.call('TIME')
        local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
        local max, first, longest, forget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
        local failures, last = 0, 0
        local kept = redis.call('GET', KEYS[1])
        if kept then
            local a, b = string.match(kept, '^(%d+) (%d+)$')
            failures, last = tonumber(a), tonumber(b)
        end
        local function delay(count)
            if count < max then return 0 end
            return math.min(longest, first * 2 ^ math.min(count - max, 30))
        end
        local left = last + delay(failures) - now
        if left > 0 then return left end
        failures = failures + 1
        redis.call('SET', KEYS[1], string.format('%.0f %.0f', failures, now),
            'PX', string.format('%.0f', delay(failures) + forget))
        return 0
        """;

    // One attempt less, and what is left of the time to forget it.
    private const string SucceedScript = """
        local kept = redis.call('GET', KEYS[1])
        if not kept then return 0 end
        local a, b = string.match(kept, '^(%d+) (%d+)$')
        local left = redis.call('PTTL', KEYS[1])
        if tonumber(a) <= 1 or left <= 0 then
            redis.call('DEL', KEYS[1])
        else
            redis.call('SET', KEYS[1], string.format('%.0f %s', tonumber(a) - 1, b), 'PX', string.format('%.0f', left))
        end
        return 1
        """;

    private static readonly RedisValue[] s_delays =
    [
        ThrottleLimits.FirstDelaySeconds * 1_000,
        ThrottleLimits.DelaySecondsMax * 1_000,
        ThrottleLimits.ForgetSeconds * 1_000,
    ];

    private readonly byte[] _key = masterKey.Derive("throttle");

    /// <summary>Counts an attempt.</summary>
    /// <param name="kind">What is guessed at.</param>
    /// <param name="accountHash">Whose it is, hashed, whether they exist or not.</param>
    /// <param name="address">Where it comes from.</param>
    public async ValueTask<ThrottleDecision> TryBeginAsync(ThrottleKind kind, byte[] accountHash, IPAddress? address)
    {
        // The address first: one that has to wait must not be able to lock accounts as well.
        ThrottleLimits limits = ThrottleLimits.Of(kind);
        ThrottleDecision ofAddress = await CountAsync(OfAddress(kind, address), limits.PerAddressMax);
        return ofAddress.Allowed ? await CountAsync(OfAccount(kind, accountHash), limits.PerAccountMax) : ofAddress;
    }

    /// <summary>The attempt was no guess.</summary>
    public async ValueTask SucceededAsync(ThrottleKind kind, byte[] accountHash, IPAddress? address)
    {
        string account = OfAccount(kind, accountHash);
        string from = OfAddress(kind, address);
        local.Forget(account);
        local.Uncount(from);
        await redis.AskAsync(database => database.KeyDeleteAsync(redis.Key(account)), RedisCalls.CallTimeMax);
        await redis.AskAsync(
            database => database.ScriptEvaluateAsync(SucceedScript, [redis.Key(from)]),
            RedisCalls.CallTimeMax
        );
    }

    private async ValueTask<ThrottleDecision> CountAsync(string name, int max)
    {
        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(BeginScript, [redis.Key(name)], [max, .. s_delays]),
            RedisCalls.CallTimeMax
        );
        if (!answer.TryGet(out RedisResult? result))
        {
            return local.TryCount(name, max);
        }

        long leftMilliseconds = (long)result;
        return new ThrottleDecision(leftMilliseconds == 0, TimeSpan.FromMilliseconds(leftMilliseconds));
    }

    private string OfAccount(ThrottleKind kind, byte[] accountHash) => Name(kind, 'a', accountHash);

    private string OfAddress(ThrottleKind kind, IPAddress? address)
    {
        if (address is { IsIPv4MappedToIPv6: true })
        {
            address = address.MapToIPv4();
        }

        // Whoever has one IPv6 address has the /64 around it.
        byte[] bytes = address?.GetAddressBytes() ?? [];
        return Name(kind, 'i', address is { AddressFamily: AddressFamily.InterNetworkV6 } ? bytes.AsSpan(0, 8) : bytes);
    }

    private string Name(ThrottleKind kind, char what, ReadOnlySpan<byte> of)
    {
        byte[] text = [(byte)kind, (byte)what, .. of];
        return string.Create(
            CultureInfo.InvariantCulture,
            $"throttle:{Convert.ToHexStringLower(HMACSHA256.HashData(_key, text))}"
        );
    }
}
