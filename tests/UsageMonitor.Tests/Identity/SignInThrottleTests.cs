using System.Net;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class SignInThrottleTests(Engines engines)
{
    private readonly FakeTimeProvider _time = new();
    private readonly byte[] _account = Guid.NewGuid().ToByteArray();
    private readonly IPAddress _address = new(Guid.NewGuid().ToByteArray()); // an IPv6 address nobody else has

    [Fact]
    public async Task TryBeginAsync_WhenAnAccountKeepsFailing_ShouldDoubleTheWaitUpToAnHour()
    {
        SignInThrottle throttle = Throttle(redis: null);
        await FailAsync(throttle, ThrottleKind.Password, SignInThrottle.FailuresPerEmailMax);
        var waits = new List<double>();

        for (int more = 0; more < 9; more++)
        {
            ThrottleDecision refused = await throttle.TryBeginAsync(ThrottleKind.Password, _account, _address);
            Assert.False(refused.Allowed);
            waits.Add(refused.RetryAfter.TotalSeconds);
            _time.Advance(refused.RetryAfter);
            Assert.True((await throttle.TryBeginAsync(ThrottleKind.Password, _account, _address)).Allowed);
        }

        Assert.Equal([30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600], waits);
        _time.Advance(TimeSpan.FromSeconds(ThrottleLimits.DelaySecondsMax + ThrottleLimits.ForgetSeconds));
        await FailAsync(throttle, ThrottleKind.Password, SignInThrottle.FailuresPerEmailMax);
    }

    [Theory]
    [InlineData(ThrottleKind.Password, 10)]
    [InlineData(ThrottleKind.SecondFactor, 5)]
    [InlineData(ThrottleKind.OneTimeLink, 10)]
    public async Task TryBeginAsync_WhenInstancesShareRedis_ShouldCountOverAll(int kindNumber, int free)
    {
        var kind = (ThrottleKind)kindNumber;
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        SignInThrottle one = Throttle(redis);
        SignInThrottle other = Throttle(redis);

        ThrottleDecision[] decisions = await Task.WhenAll(
            Enumerable
                .Range(0, 40)
                .Select(attempt => (attempt % 2 == 0 ? one : other).TryBeginAsync(kind, _account, _address).AsTask())
        );

        Assert.Equal(free, decisions.Count(decision => decision.Allowed));
        Assert.All(
            decisions.Where(decision => !decision.Allowed),
            refused => Assert.InRange(refused.RetryAfter.TotalSeconds, 1, 30)
        );
        Assert.True((await other.TryBeginAsync(kind, Guid.NewGuid().ToByteArray(), _address)).Allowed);
    }

    [Fact]
    public async Task TryBeginAsync_WhenAnAddressGuessesAtManyAccounts_ShouldMakeTheWholeNetworkWait()
    {
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        foreach (SignInThrottle throttle in new[] { Throttle(redis), Throttle(redis: null) })
        {
            for (int attempt = 0; attempt < SignInThrottle.FailuresPerAddressMax; attempt++)
            {
                byte[] account = Guid.NewGuid().ToByteArray();
                Assert.True((await throttle.TryBeginAsync(ThrottleKind.Password, account, _address)).Allowed);
            }

            byte[] neighbour = _address.GetAddressBytes();
            neighbour[15] ^= 1;
            var sameNetwork = new IPAddress(neighbour);
            Assert.False((await throttle.TryBeginAsync(ThrottleKind.Password, _account, sameNetwork)).Allowed);

            // It could not lock the account for others, nor for another purpose.
            Assert.True(
                (await throttle.TryBeginAsync(ThrottleKind.Password, _account, IPAddress.Parse("192.0.2.1"))).Allowed
            );
            Assert.True((await throttle.TryBeginAsync(ThrottleKind.SecondFactor, _account, _address)).Allowed);
        }
    }

    [Fact]
    public async Task SucceededAsync_WhenSomebodySignsIn_ShouldForgetTheirFailuresAndTheAttempt()
    {
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        foreach (SignInThrottle throttle in new[] { Throttle(redis), Throttle(redis: null) })
        {
            for (int round = 0; round < 10; round++)
            {
                for (int attempt = 0; attempt < SignInThrottle.FailuresPerEmailMax; attempt++)
                {
                    ThrottleDecision begun = await throttle.TryBeginAsync(ThrottleKind.Password, _account, _address);
                    Assert.True(begun.Allowed);
                    await throttle.SucceededAsync(ThrottleKind.Password, _account, _address);
                }
            }
        }
    }

    [Fact]
    public async Task TryBeginAsync_WhenRedisHasTheCounts_ShouldShowItNoAccountAndNoAddress()
    {
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString + ",allowAdmin=true"
        );
        string prefix = $"throttle-test-{Guid.NewGuid():N}:";
        SignInThrottle throttle = Throttle(redis, prefix);
        await throttle.TryBeginAsync(ThrottleKind.Password, _account, _address);

        string[] keys = (string[])(await redis.GetDatabase().ExecuteAsync("KEYS", prefix + "*"))!;

        Assert.Equal(2, keys.Length);
        foreach (byte[] secret in new[] { _account, _address.GetAddressBytes()[..8] })
        {
            Assert.All(
                keys,
                key => Assert.DoesNotContain(Convert.ToHexString(secret), key, StringComparison.OrdinalIgnoreCase)
            );
        }
    }

    private async Task FailAsync(SignInThrottle throttle, ThrottleKind kind, int times)
    {
        for (int attempt = 0; attempt < times; attempt++)
        {
            Assert.True((await throttle.TryBeginAsync(kind, _account, _address)).Allowed);
        }
    }

    private SignInThrottle Throttle(IConnectionMultiplexer? redis, string prefix = "throttle-tests:")
    {
        IConfiguration configuration = new ConfigurationBuilder()
            .AddInMemoryCollection([new("RedisKeyPrefix", prefix)])
            .Build();
        var settings = ServerSettings.Load(configuration);
        var calls = new RedisCalls(settings, _time, NullLogger<RedisCalls>.Instance, redis);
        return new SignInThrottle(calls, Engines.MasterKey, new LocalThrottle(_time));
    }
}
