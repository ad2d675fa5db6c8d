using System.Buffers.Binary;

namespace UsageMonitor.Bench;

/// <summary>Ids as random to an index as UUIDv4, at a few nanoseconds each, and never twice: each source has its own stream.</summary>
internal sealed class UniqueIds
{
    private const int StreamShift = 40;
    private static long _streams = 1 << 20;
    private ulong _next = (ulong)Interlocked.Increment(ref _streams) << StreamShift;

    public Guid Next() => From(_next++);

    public static Guid From(ulong number)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, Mix(number));
        BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], Mix(~number));
        bytes[6] = (byte)((bytes[6] & 0x0f) | 0x40);
        bytes[8] = (byte)((bytes[8] & 0x3f) | 0x80);
        return new Guid(bytes, bigEndian: true);
    }

    /// <summary>The finaliser of SplitMix64: a bijection (https://prng.di.unimi.it/splitmix64.c).</summary>
    private static ulong Mix(ulong value)
    {
        value += 0x9e3779b97f4a7c15;
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
        value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
        return value ^ (value >> 31);
    }
}
