using System.Buffers.Binary;
using Npgsql;
using StackExchange.Redis;

namespace UsageMonitor.Server.Platform;

/// <summary>What one look at the database found.</summary>
/// <param name="Version">Every change up to this one is committed, and known to whoever has read this and all before.</param>
/// <param name="EverythingVersion">The last change that was of no single enterprise.</param>
/// <param name="Changes">The enterprises that changed since the look before, with their last change.</param>
internal sealed record IdentityChanges(
    long Version,
    long EverythingVersion,
    IReadOnlyList<(Guid EnterpriseId, long Version)> Changes
);

/// <summary>
/// Where instances learn of each other's changes to identity: read from PostgreSQL, where their order is, and nudged over
/// Redis to read at once. A nudge that is lost costs the wait for the next poll.
/// </summary>
internal sealed partial class IdentityNews(
    Database database,
    ILogger<IdentityNews> logger,
    IConnectionMultiplexer? redis = null
)
{
    private const int ReadTimeoutSeconds = 2;
    private static readonly RedisChannel Channel = RedisChannel.Literal("usage-monitor:identity");

    // One statement, so one snapshot: the version and the changes are of the same moment.
    private const string ReadChanges = """
        SELECT v.version, v.everything_version, c.enterprise_id, c.version
        FROM identity_version v LEFT JOIN identity_changes c ON c.version > $1
        """;

    public async Task<IdentityChanges> ReadAsync(long since, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(ReadChanges);
        command.CommandTimeout = ReadTimeoutSeconds;
        command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = since });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        (long version, long everything) = (0L, 0L);
        var changes = new List<(Guid, long)>();
        while (await reader.ReadAsync(cancellationToken))
        {
            (version, everything) = (reader.GetInt64(0), reader.GetInt64(1));
            if (!reader.IsDBNull(2))
            {
                changes.Add((reader.GetGuid(2), reader.GetInt64(3)));
            }
        }

        return new IdentityChanges(version, everything, changes);
    }

    /// <summary>Tells the other instances that there is something to read.</summary>
    public void Publish(long version)
    {
        byte[] message = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(message, version);
        try
        {
            redis?.GetSubscriber().Publish(Channel, message, CommandFlags.FireAndForget);
        }
        catch (RedisException exception)
        {
            PublishFailed(exception);
        }
    }

    /// <summary>Calls back with the version that an instance has told of. Does not wait: while Redis is away the client keeps the subscription.</summary>
    public void Listen(Action<long> heard) =>
        redis
            ?.GetSubscriber()
            .Subscribe(
                Channel,
                (_, value) =>
                {
                    ReadOnlySpan<byte> message = (byte[]?)value;
                    if (message.Length == sizeof(long))
                    {
                        heard(BinaryPrimitives.ReadInt64LittleEndian(message));
                    }
                },
                CommandFlags.FireAndForget
            );

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Redis could not be told of a change to identity; other instances find it within half a second."
    )]
    private partial void PublishFailed(Exception exception);
}
