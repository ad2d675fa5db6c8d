using System.Buffers.Binary;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// The ids of refusals: UUIDv7s, whose first 48 bits are the milliseconds of the decision. So a receipt says in which month it
/// is kept, and receipts in order are refusals in order.
/// </summary>
internal static class ReceiptIds
{
    private static readonly long s_millisecondsMax = DateTimeOffset.MaxValue.ToUnixTimeMilliseconds();

    /// <summary>A new receipt of a decision made now.</summary>
    public static Guid Create(DateTimeOffset now) => Guid.CreateVersion7(now);

    /// <summary>When the decision was made, to the millisecond; null for what is no receipt.</summary>
    public static DateTimeOffset? InstantOf(Guid receiptId)
    {
        Span<byte> bytes = stackalloc byte[16];
        receiptId.TryWriteBytes(bytes, bigEndian: true, out _);
        long milliseconds =
            ((long)BinaryPrimitives.ReadUInt32BigEndian(bytes) << 16)
            | BinaryPrimitives.ReadUInt16BigEndian(bytes[4..]);
        return receiptId.Version == 7 && milliseconds <= s_millisecondsMax
            ? DateTimeOffset.FromUnixTimeMilliseconds(milliseconds)
            : null;
    }
}
