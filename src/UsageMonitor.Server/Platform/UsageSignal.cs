using System.Buffers.Binary;
using System.Collections.Concurrent;
using StackExchange.Redis;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Tells every instance whose numbers have changed, over Redis pub/sub: processing publishes after each step, dashboards
/// listen. Only news: a message that is lost costs a few seconds of freshness, never a number.
/// </summary>
internal sealed partial class UsageSignal(IConnectionMultiplexer redis, ILogger<UsageSignal> logger) : IHostedService
{
    private const int IdBytes = 16;
    private static readonly RedisChannel Channel = RedisChannel.Literal("usage-monitor:processed");
    private readonly ConcurrentDictionary<Guid, long> _versions = new();
    private readonly ConcurrentDictionary<Guid, ConcurrentDictionary<Action, byte>> _watchers = new();

    /// <summary>A number that rises whenever the enterprise's numbers have changed; 0 when nothing was heard yet.</summary>
    public long VersionOf(Guid enterpriseId) => _versions.GetValueOrDefault(enterpriseId);

    /// <summary>Calls back whenever the enterprise's numbers have changed, until disposed. The callback must not block.</summary>
    public IDisposable Watch(Guid enterpriseId, Action changed)
    {
        ConcurrentDictionary<Action, byte> watchers = _watchers.GetOrAdd(
            enterpriseId,
            _ => new ConcurrentDictionary<Action, byte>()
        );
        watchers[changed] = 0;
        return new Watching(watchers, changed);
    }

    /// <summary>Publishes that a step through an offset has changed these enterprises.</summary>
    public async Task PublishAsync(short partition, long offset, IReadOnlyCollection<Guid> enterprises)
    {
        byte[] message = new byte[sizeof(short) + sizeof(long) + (enterprises.Count * IdBytes)];
        BinaryPrimitives.WriteInt16LittleEndian(message, partition);
        BinaryPrimitives.WriteInt64LittleEndian(message.AsSpan(sizeof(short)), offset);
        int at = sizeof(short) + sizeof(long);
        foreach (Guid enterpriseId in enterprises)
        {
            enterpriseId.TryWriteBytes(message.AsSpan(at));
            at += IdBytes;
        }

        try
        {
            await redis.GetSubscriber().PublishAsync(Channel, message, CommandFlags.FireAndForget);
        }
        catch (RedisException exception)
        {
            LogPublishFailed(exception);
        }
    }

    // Does not wait: while Redis is away the client keeps the subscription, and subscribes when it is back.
    public Task StartAsync(CancellationToken cancellationToken) =>
        redis.GetSubscriber().SubscribeAsync(Channel, (_, message) => Receive(message), CommandFlags.FireAndForget);

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private void Receive(RedisValue value)
    {
        ReadOnlySpan<byte> message = (byte[]?)value;
        if (message.Length < sizeof(short) + sizeof(long))
        {
            return;
        }

        long offset = BinaryPrimitives.ReadInt64LittleEndian(message[sizeof(short)..]);
        for (
            ReadOnlySpan<byte> rest = message[(sizeof(short) + sizeof(long))..];
            rest.Length >= IdBytes;
            rest = rest[IdBytes..]
        )
        {
            var enterpriseId = new Guid(rest[..IdBytes]);
            _versions[enterpriseId] = offset;
            if (_watchers.TryGetValue(enterpriseId, out ConcurrentDictionary<Action, byte>? watchers))
            {
                foreach (Action changed in watchers.Keys)
                {
                    changed();
                }
            }
        }
    }

    private sealed class Watching(ConcurrentDictionary<Action, byte> watchers, Action changed) : IDisposable
    {
        public void Dispose() => watchers.TryRemove(changed, out _);
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Redis could not be told of new numbers; pages refresh when their cache expires"
    )]
    private partial void LogPublishFailed(Exception exception);
}
