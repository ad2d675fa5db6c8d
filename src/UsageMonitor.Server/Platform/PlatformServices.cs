using StackExchange.Redis;

namespace UsageMonitor.Server.Platform;

internal static class PlatformServices
{
    private const int RedisConnectMilliseconds = 5_000;

    /// <summary>What every role has: the cache, the news of new numbers, partitions made ahead of time.</summary>
    public static IServiceCollection AddPlatform(this IServiceCollection services, string redisConnectionString)
    {
        var options = ConfigurationOptions.Parse(redisConnectionString);

        // A cache that is away must not keep the server from starting; it is connected when it comes back.
        options.AbortOnConnectFail = false;

        // Nor may it make anybody wait: what it does not answer is computed.
        options.BacklogPolicy = BacklogPolicy.FailFast;
        options.ConnectTimeout = RedisConnectMilliseconds;
        services.AddSingleton<IConnectionMultiplexer>(_ => ConnectionMultiplexer.Connect(options));
        services.AddSingleton<UsageSignal>();
        services.AddHostedService(provider => provider.GetRequiredService<UsageSignal>());
        services.AddSingleton<MonthPartitions>();
        services.AddHostedService<MonthsAhead>();
        services.AddHostedService<KeyRewrapping>();
        services.AddStackExchangeRedisCache(_ => { });
        services
            .AddOptions<Microsoft.Extensions.Caching.StackExchangeRedis.RedisCacheOptions>()
            .Configure<IConnectionMultiplexer>(
                (cache, redis) => cache.ConnectionMultiplexerFactory = () => Task.FromResult(redis)
            );
        services.AddHybridCache();
        services.AddProblemDetails();
        return services;
    }
}
