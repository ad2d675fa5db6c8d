using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// The second level behind a <see cref="VersionedCache{TKey,TValue}"/>: values that another instance has read, in Redis,
/// held against the same version. Without Redis everything is a miss.
/// </summary>
/// <remarks>
/// Values decide who may do what, and a Redis is easier to write to than a database. So each is sealed with a key that only
/// instances have (AES-256-GCM), its name is authenticated with it, and what cannot be opened is a miss: whoever can write
/// Redis can neither make a value nor move one to another name, and whoever reads it learns nothing. An old value put back
/// is of an old version. After the database was restored to an earlier state, empty Redis: versions count anew.
/// </remarks>
internal sealed class SharedCache(RedisCalls redis, MasterKey masterKey, IdentityVersion version)
{
    public const int LifetimeSeconds = 300;

    /// <summary>The database answers about as fast as this.</summary>
    private const int CallMillisecondsMax = 50;
    private const int HeaderBytes = sizeof(long) + GuidBytes;
    private const int GuidBytes = 16;
    private static readonly TimeSpan CallTimeMax = TimeSpan.FromMilliseconds(CallMillisecondsMax);
    private static readonly TimeSpan Lifetime = TimeSpan.FromSeconds(LifetimeSeconds);
    private readonly byte[] _key = masterKey.Derive("shared-cache");

    /// <summary>What is kept under a name, or null when there is nothing that still holds.</summary>
    /// <param name="name">Of the value, with its kind before it: <c>credential:…</c>. No secret.</param>
    public async ValueTask<Shared?> GetAsync(string name)
    {
        RedisAnswer<StackExchange.Redis.RedisValue> answer = await redis.AskAsync(
            database => database.StringGetAsync(redis.Key(name)),
            CallTimeMax
        );
        if (!answer.TryGet(out StackExchange.Redis.RedisValue found) || found.IsNullOrEmpty)
        {
            return null;
        }

        byte[] plain;
        try
        {
            plain = Sealing.Open(_key, (byte[])found!, Encoding.UTF8.GetBytes(name));
        }
        catch (CryptographicException)
        {
            return null;
        }

        if (plain.Length < HeaderBytes)
        {
            return null;
        }

        long readAt = BinaryPrimitives.ReadInt64LittleEndian(plain);
        var enterpriseId = new Guid(plain.AsSpan(sizeof(long), GuidBytes));

        // One of a version that this instance has not seen yet may be of another history; it holds at the next poll.
        return readAt <= version.Current && version.Holds(readAt, version.Of(enterpriseId))
            ? new Shared(readAt, enterpriseId, plain.AsMemory(HeaderBytes))
            : null;
    }

    /// <summary>Keeps a value for the other instances; does not wait for it.</summary>
    /// <param name="name">As it is asked for.</param>
    /// <param name="enterpriseId">Whose it is: it holds until that enterprise changes.</param>
    /// <param name="readAt">The <see cref="IdentityVersion.Current"/> from before the value was read.</param>
    /// <param name="value">The value.</param>
    public void Set(string name, Guid enterpriseId, long readAt, ReadOnlySpan<byte> value)
    {
        byte[] plain = new byte[HeaderBytes + value.Length];
        BinaryPrimitives.WriteInt64LittleEndian(plain, readAt);
        enterpriseId.TryWriteBytes(plain.AsSpan(sizeof(long)));
        value.CopyTo(plain.AsSpan(HeaderBytes));
        byte[] sealedValue = Sealing.Seal(_key, plain, Encoding.UTF8.GetBytes(name));
        _ = redis
            .AskAsync(
                database => database.StringSetAsync(redis.Key(name), sealedValue, Lifetime),
                RedisCalls.CallTimeMax
            )
            .AsTask();
    }
}

/// <summary>A value that another instance has read.</summary>
/// <param name="Version">The version it was read at.</param>
/// <param name="EnterpriseId">Whose it is.</param>
/// <param name="Value">The value.</param>
internal sealed record Shared(long Version, Guid EnterpriseId, ReadOnlyMemory<byte> Value);
