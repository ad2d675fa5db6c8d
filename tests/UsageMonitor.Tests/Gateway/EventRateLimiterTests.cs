using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Server.Gateway;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Gateway;

public sealed class EventRateLimiterTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly Guid _key = Guid.NewGuid();

    [Fact]
    public void TryTake_WhenTheBucketIsEmpty_ShouldTellWhenItPasses()
    {
        EventRateLimiter limiter = Limiter(100);

        Assert.True(limiter.TryTake(_key, 200, out _));
        Assert.False(limiter.TryTake(_key, 50, out TimeSpan retryAfter));
        Assert.Equal(0.5, retryAfter.TotalSeconds, 3);
        Assert.True(limiter.TryTake(Guid.NewGuid(), 50, out _));
        _time.Advance(retryAfter);
        Assert.True(limiter.TryTake(_key, 50, out _));
        Assert.False(limiter.TryTake(_key, 1, out _));
    }

    [Fact]
    public void TryTake_WhenABatchIsLargerThanTheBucket_ShouldPassOnceAndKeepTheRate()
    {
        EventRateLimiter limiter = Limiter(100);

        Assert.True(limiter.TryTake(_key, 1_000, out _));
        Assert.False(limiter.TryTake(_key, 1, out TimeSpan retryAfter));
        Assert.Equal(8.01, retryAfter.TotalSeconds, 3);
        Assert.False(limiter.TryTake(_key, 1_000, out retryAfter));
        Assert.Equal(10, retryAfter.TotalSeconds, 3);
        _time.Advance(retryAfter);
        Assert.True(limiter.TryTake(_key, 1_000, out _));
    }

    [Fact]
    public void TryTake_WhenManyTakeAtOnce_ShouldGiveOutTheCapacityExactly()
    {
        EventRateLimiter limiter = Limiter(10_000);
        int taken = 0;

        Parallel.For(
            0,
            40_000,
            _ =>
            {
                if (limiter.TryTake(_key, 1, out TimeSpan _))
                {
                    Interlocked.Increment(ref taken);
                }
            }
        );

        Assert.Equal(20_000, taken);
    }

    private EventRateLimiter Limiter(int rate)
    {
        IConfiguration configuration = new ConfigurationBuilder()
            .AddInMemoryCollection([new("RateLimits:EventsPerSecondPerKey", $"{rate}")])
            .Build();
        return new EventRateLimiter(ServerSettings.Load(configuration), _time);
    }
}
