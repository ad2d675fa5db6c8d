using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace UsageMonitor.Server.Archive;

/// <summary>One event, wherever it is kept.</summary>
/// <param name="EventId">As sent.</param>
/// <param name="UserId">Who.</param>
/// <param name="FeatureName">What of.</param>
/// <param name="EventType">What kind.</param>
/// <param name="Timestamp">When it happened, UTC, to the microsecond.</param>
/// <param name="ReceivedAt">When it was received, UTC.</param>
/// <param name="Properties">JSON, or null when there are none.</param>
internal readonly record struct ArchivedEvent(
    Guid EventId,
    Guid UserId,
    string FeatureName,
    string EventType,
    DateTime Timestamp,
    DateTime ReceivedAt,
    string? Properties
)
{
    /// <summary>
    /// 64 bits of everything that the event is. Two sets of events are held to be the same when they are as many and their hashes
    /// have the same sum modulo 2^64, in whatever order they come.
    /// </summary>
    /// <param name="scratch">Reused from one event to the next.</param>
    public ulong Hash(ArrayBufferWriter<byte> scratch)
    {
        scratch.ResetWrittenCount();
        Span<byte> head = scratch.GetSpan(48);
        EventId.TryWriteBytes(head);
        UserId.TryWriteBytes(head[16..]);
        BinaryPrimitives.WriteInt64LittleEndian(head[32..], Timestamp.Ticks);
        BinaryPrimitives.WriteInt64LittleEndian(head[40..], ReceivedAt.Ticks);
        scratch.Advance(48);
        Write(scratch, FeatureName);
        Write(scratch, EventType);
        Write(scratch, Properties ?? "");
        return XxHash3.HashToUInt64(scratch.WrittenSpan);
    }

    private static void Write(ArrayBufferWriter<byte> scratch, string text)
    {
        int length = Encoding.UTF8.GetByteCount(text);
        Span<byte> bytes = scratch.GetSpan(sizeof(int) + length);
        BinaryPrimitives.WriteInt32LittleEndian(bytes, length);
        Encoding.UTF8.GetBytes(text, bytes[sizeof(int)..]);
        scratch.Advance(sizeof(int) + length);
    }
}

/// <summary>A set of events, by number and sum of hashes.</summary>
internal readonly record struct Content(long Events, ulong Hash)
{
    public Content With(ulong hash) => new(Events + 1, unchecked(Hash + hash));

    public static Content operator +(Content one, Content other) =>
        new(one.Events + other.Events, unchecked(one.Hash + other.Hash));
}
