using StackExchange.Redis;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Platform;

public sealed class EmbeddedCacheTests(Engines engines)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    [Fact]
    public async Task Start_WhenUsedAsACache_ShouldKeepValuesCountersAndTheirEnds()
    {
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        IDatabase database = redis.GetDatabase();
        string key = Guid.NewGuid().ToString();

        await database.StringSetAsync(key, "value", TimeSpan.FromMinutes(5));
        await database.StringIncrementAsync(key + ":n", 41);
        await database.HashIncrementAsync(key + ":h", "field", 7);

        Assert.Equal("value", await database.StringGetAsync(key));
        Assert.InRange(
            (await database.KeyTimeToLiveAsync(key))!.Value,
            TimeSpan.FromMinutes(4),
            TimeSpan.FromMinutes(5)
        );
        Assert.Equal(42, await database.StringIncrementAsync(key + ":n"));
        Assert.Equal(7, (long)await database.HashGetAsync(key + ":h", "field"));
    }

    [Fact]
    public async Task Start_WhenScriptsRunSideBySide_ShouldRunEachAsOneStep()
    {
        const string AdmitUpToLimit = """
            local used = tonumber(redis.call('GET', KEYS[1]) or '0')
            if used + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return 0 end
            redis.call('INCRBY', KEYS[1], ARGV[1])
            return 1
            """;
        const int Limit = 100;
        RedisKey key = Guid.NewGuid().ToString();
        ConnectionMultiplexer[] clients = await Task.WhenAll(
            Enumerable.Range(0, 4).Select(_ => ConnectionMultiplexer.ConnectAsync(engines.RedisConnectionString))
        );

        RedisResult[] admitted = await Task.WhenAll(
            Enumerable
                .Range(0, 4 * Limit)
                .Select(i =>
                    clients[i % clients.Length].GetDatabase().ScriptEvaluateAsync(AdmitUpToLimit, [key], [1, Limit])
                )
        );

        Assert.Equal(Limit, admitted.Sum(result => (int)result));
        Assert.Equal(Limit, (int)await clients[0].GetDatabase().StringGetAsync(key));
        foreach (ConnectionMultiplexer client in clients)
        {
            await client.DisposeAsync();
        }
    }

    [Fact]
    public async Task Start_WhenPublished_ShouldReachSubscribersOfOtherConnections()
    {
        await using ConnectionMultiplexer listener = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        await using ConnectionMultiplexer speaker = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        var channel = RedisChannel.Literal(Guid.NewGuid().ToString());
        var heard = new TaskCompletionSource<string?>(TaskCreationOptions.RunContinuationsAsynchronously);
        await listener.GetSubscriber().SubscribeAsync(channel, (_, message) => heard.TrySetResult(message));

        await speaker.GetSubscriber().PublishAsync(channel, "news");

        Assert.Equal("news", await heard.Task.WaitAsync(Patience, TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("wrong")]
    public async Task Start_WhenThePasswordIsNotGiven_ShouldLetNobodyIn(string? password)
    {
        var options = ConfigurationOptions.Parse(engines.RedisConnectionString);
        options.Password = password;
        options.AbortOnConnectFail = true;

        await Assert.ThrowsAnyAsync<RedisException>(async () =>
        {
            await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(options);
            await redis.GetDatabase().StringGetAsync("anything");
        });
    }
}
