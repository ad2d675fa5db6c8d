using System.Collections.Frozen;
using System.Diagnostics;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Gateway;

public sealed class RateLimiterTests(Engines engines)
{
    private const int Clients = 64;
    private readonly Caller _caller = NewCaller(Guid.NewGuid());

    /// <summary>Of an instance without Redis, so with a bucket of its own and the test's clock.</summary>
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task TakeAsync_WhenTheBucketIsEmpty_ShouldTellWhenItPasses()
    {
        RateLimiter limiter = Limiter(_time, redis: null, ("EventsPerSecondPerKey", 100));

        Assert.True((await TakeAsync(limiter, 200)).Allowed);
        RateDecision refused = await TakeAsync(limiter, 50);
        Assert.False(refused.Allowed);
        Assert.Equal(0.5, refused.RetryAfter.TotalSeconds, 3);
        Assert.True((await limiter.TakeAsync(NewCaller(_caller.EnterpriseId), RateUnit.Events, 50)).Allowed);
        _time.Advance(refused.RetryAfter);
        Assert.True((await TakeAsync(limiter, 50)).Allowed);
        Assert.False((await TakeAsync(limiter, 1)).Allowed);
    }

    [Fact]
    public async Task TakeAsync_WhenABatchIsLargerThanTheBucket_ShouldPassOnceAndKeepTheRate()
    {
        RateLimiter limiter = Limiter(_time, redis: null, ("EventsPerSecondPerKey", 100));

        Assert.True((await TakeAsync(limiter, 1_000)).Allowed);
        Assert.Equal(8.01, (await TakeAsync(limiter, 1)).RetryAfter.TotalSeconds, 3);
        RateDecision refused = await TakeAsync(limiter, 1_000);
        Assert.Equal(10, refused.RetryAfter.TotalSeconds, 3);
        _time.Advance(refused.RetryAfter);
        Assert.True((await TakeAsync(limiter, 1_000)).Allowed);
    }

    [Fact]
    public async Task TakeAsync_WhenTheEnterpriseIsAtItsLimit_ShouldRefuseAllItsCallersAndTakeNothingOfTheirs()
    {
        (string, int)[] limits = [("EventsPerSecondPerKey", 100), ("EventsPerSecondPerEnterprise", 100)];
        RateLimiter limiter = Limiter(_time, redis: null, limits);
        Caller other = NewCaller(_caller.EnterpriseId);

        Assert.True((await TakeAsync(limiter, 150)).Allowed);
        RateDecision refused = await limiter.TakeAsync(other, RateUnit.Events, 100);

        Assert.False(refused.Allowed);
        Assert.Equal("events-of-enterprise", refused.Tightest.Policy.Name);
        Assert.Equal(50, refused.Remaining);
        _time.Advance(TimeSpan.FromSeconds(1.5));
        Assert.True((await limiter.TakeAsync(other, RateUnit.Events, 200)).Allowed);
        Assert.True((await limiter.TakeAsync(NewCaller(Guid.NewGuid()), RateUnit.Events, 200)).Allowed);
    }

    [Fact]
    public async Task TakeAsync_WhenRequestsAreUsedUp_ShouldLeaveTheEvents()
    {
        RateLimiter limiter = Limiter(_time, redis: null, ("RequestsPerSecondPerCaller", 1));

        Assert.True((await limiter.TakeAsync(_caller, RateUnit.Requests, 2)).Allowed);
        Assert.False((await limiter.TakeAsync(_caller, RateUnit.Requests, 1)).Allowed);
        Assert.True((await TakeAsync(limiter, 1)).Allowed);
    }

    [Fact]
    public async Task TakeAsync_WhenManyTakeAtOnce_ShouldGiveOutTheCapacityExactly()
    {
        RateLimiter limiter = Limiter(_time, redis: null, ("EventsPerSecondPerKey", 10_000));
        int taken = 0;

        await Parallel.ForAsync(
            0,
            40_000,
            TestContext.Current.CancellationToken,
            async (_, _) =>
            {
                if ((await TakeAsync(limiter, 1)).Allowed)
                {
                    Interlocked.Increment(ref taken);
                }
            }
        );

        Assert.Equal(20_000, taken);
    }

    [Fact]
    public async Task TakeAsync_WhenThreeInstancesShareABucket_ShouldKeepTheRateTogetherAndUseIt()
    {
        const int Rate = 1_000;
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        RateLimiter[] instances =
        [
            .. Enumerable.Range(0, 3).Select(_ => Limiter(TimeProvider.System, redis, ("EventsPerSecondPerKey", Rate))),
        ];

        (long admitted, double seconds) = await PressAsync(instances, TimeSpan.FromSeconds(4), batch: 7, () => { });

        double most = (Rate * seconds) + (Rate * RatePolicy.CapacitySeconds);
        Assert.InRange(admitted, 0.8 * most, most);
    }

    [Fact]
    public async Task TakeAsync_WhenABatchIsLargerThanTheSharedBucket_ShouldPassOnceAndLeaveADebtToAll()
    {
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        RateLimiter one = Limiter(TimeProvider.System, redis, ("EventsPerSecondPerKey", 10));
        RateLimiter other = Limiter(TimeProvider.System, redis, ("EventsPerSecondPerKey", 10));

        Assert.True((await TakeAsync(one, 1_000)).Allowed);
        RateDecision refused = await TakeAsync(other, 1);
        RateDecision again = await TakeAsync(one, 1_000);

        Assert.False(refused.Allowed);
        Assert.InRange(refused.RetryAfter.TotalSeconds, 90, 98.2);
        Assert.False(again.Allowed);
        Assert.InRange(again.RetryAfter.TotalSeconds, 90, 100);
    }

    [Fact]
    public async Task TakeAsync_WhenFarFromTheLimit_ShouldRarelyAskRedis()
    {
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        RateLimiter limiter = Limiter(TimeProvider.System, redis, ("EventsPerSecondPerKey", 1_000_000));
        long before = redis.OperationCount;
        int answeredAtOnce = 0;
        const int Requests = 20_000;

        for (int request = 0; request < Requests; request++)
        {
            ValueTask<RateDecision> decision = limiter.TakeAsync(_caller, RateUnit.Events, 1);
            answeredAtOnce += decision.IsCompleted ? 1 : 0;
            Assert.True((await decision).Allowed);
        }

        Assert.InRange(answeredAtOnce, Requests * 0.98, Requests);
        Assert.InRange(redis.OperationCount - before, 2, Requests / 50);
    }

    [Fact]
    public async Task TakeAsync_WhenRedisIsKilledMidway_ShouldGoOnByItselfWithoutAnError()
    {
        string folder = Directory.CreateTempSubdirectory("usage-monitor-cache-").FullName;
        EmbeddedCache cache = EmbeddedCache.Start(folder, NullLoggerFactory.Instance);
        var options = ConfigurationOptions.Parse(cache.ConnectionString);
        options.BacklogPolicy = BacklogPolicy.FailFast;
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(options);
        RateLimiter[] instances =
        [
            .. Enumerable
                .Range(0, 2)
                .Select(_ => Limiter(TimeProvider.System, redis, ("EventsPerSecondPerKey", 1_000))),
        ];

        (long admitted, double seconds) = await PressAsync(instances, TimeSpan.FromSeconds(4), batch: 1, cache.Dispose);

        // Each instance by itself now, and each with a full bucket once.
        Assert.InRange(admitted, 1_000 * seconds, 3 * ((1_000 * seconds) + 2_000));
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>Many clients over all instances, as fast as they can; half-way something happens.</summary>
    private async Task<(long Admitted, double Seconds)> PressAsync(
        RateLimiter[] instances,
        TimeSpan duration,
        int batch,
        Action halfway
    )
    {
        long admitted = 0;
        bool happened = false;
        long started = Stopwatch.GetTimestamp();
        await Task.WhenAll(
            Enumerable
                .Range(0, Clients)
                .Select(client =>
                    Task.Run(async () =>
                    {
                        // Paced, or refused clients would leave the other tests no processor.
                        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(2));
                        while (Stopwatch.GetElapsedTime(started) < duration)
                        {
                            if (client == 0 && !happened && Stopwatch.GetElapsedTime(started) > duration / 2)
                            {
                                happened = true;
                                halfway();
                            }

                            RateDecision decision = await TakeAsync(instances[client % instances.Length], batch);
                            if (decision.Allowed)
                            {
                                Interlocked.Add(ref admitted, batch);
                            }

                            await timer.WaitForNextTickAsync(TestContext.Current.CancellationToken);
                        }
                    })
                )
        );
        return (admitted, Stopwatch.GetElapsedTime(started).TotalSeconds);
    }

    private ValueTask<RateDecision> TakeAsync(RateLimiter limiter, int events) =>
        limiter.TakeAsync(_caller, RateUnit.Events, events);

    private static Caller NewCaller(Guid enterpriseId) =>
        new()
        {
            EnterpriseId = enterpriseId,
            ApiKeyId = Guid.NewGuid(),
            Permissions = FrozenSet<string>.Empty,
        };

    private static RateLimiter Limiter(
        TimeProvider time,
        IConnectionMultiplexer? redis,
        params (string Name, int PerSecond)[] limits
    )
    {
        IConfiguration configuration = new ConfigurationBuilder()
            .AddInMemoryCollection(
                limits.Select(limit => new KeyValuePair<string, string?>(
                    "RateLimits:" + limit.Name,
                    $"{limit.PerSecond}"
                ))
            )
            .Build();
        var settings = ServerSettings.Load(configuration);
        var calls = new RedisCalls(settings, time, NullLogger<RedisCalls>.Instance, redis);
        return new RateLimiter(new SharedBuckets(calls), settings, time);
    }
}
