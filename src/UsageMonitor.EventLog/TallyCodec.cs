using System.Buffers.Binary;

namespace UsageMonitor.EventLog;

/// <summary>The tallies of a segment as bytes: <c>(enterprise (16) ‖ accepted (4) ‖ rejected (4))*</c>, little-endian.</summary>
internal static class TallyCodec
{
    private const int IdBytes = 16;
    private const int TallyBytes = IdBytes + (2 * sizeof(int));

    public static byte[] Encode(IReadOnlyList<SegmentTally> tallies)
    {
        byte[] encoded = new byte[tallies.Count * TallyBytes];
        for (int i = 0; i < tallies.Count; i++)
        {
            Span<byte> tally = encoded.AsSpan(i * TallyBytes, TallyBytes);
            tallies[i].EnterpriseId.TryWriteBytes(tally);
            BinaryPrimitives.WriteInt32LittleEndian(tally[IdBytes..], tallies[i].Accepted);
            BinaryPrimitives.WriteInt32LittleEndian(tally[(IdBytes + sizeof(int))..], tallies[i].Rejected);
        }

        return encoded;
    }

    public static SegmentTally[] Decode(ReadOnlySpan<byte> encoded)
    {
        var tallies = new SegmentTally[encoded.Length / TallyBytes];
        for (int i = 0; i < tallies.Length; i++)
        {
            ReadOnlySpan<byte> tally = encoded.Slice(i * TallyBytes, TallyBytes);
            tallies[i] = new SegmentTally(
                new Guid(tally[..IdBytes]),
                BinaryPrimitives.ReadInt32LittleEndian(tally[IdBytes..]),
                BinaryPrimitives.ReadInt32LittleEndian(tally[(IdBytes + sizeof(int))..])
            );
        }

        return tallies;
    }
}
