using System.Buffers.Binary;

namespace UsageMonitor.EventLog;

/// <summary>
/// The tallies of a segment as bytes: <c>version (1) ‖ (enterprise (16) ‖ accepted (4) ‖ rejected (4) ‖ blocked (4))*</c>, little-endian.
/// </summary>
/// <remarks>
/// The first version had neither the version's byte nor blocked events: <c>(enterprise ‖ accepted ‖ rejected)*</c>. Its length
/// is even and that of all others odd, so the two cannot be taken for each other. Tallies without blocked events are still
/// written so, because a program that is being updated on another machine can read them.
/// </remarks>
internal static class TallyCodec
{
    private const byte Version = 2;
    private const int IdBytes = 16;
    private const int FirstTallyBytes = IdBytes + (2 * sizeof(int));
    private const int TallyBytes = IdBytes + (3 * sizeof(int));

    public static byte[] Encode(IReadOnlyList<SegmentTally> tallies)
    {
        bool isFirst = tallies.All(tally => tally.Blocked == 0);
        int tallyBytes = isFirst ? FirstTallyBytes : TallyBytes;
        int start = isFirst ? 0 : 1;
        byte[] encoded = new byte[start + (tallies.Count * tallyBytes)];
        if (!isFirst)
        {
            encoded[0] = Version;
        }

        for (int i = 0; i < tallies.Count; i++)
        {
            Span<byte> tally = encoded.AsSpan(start + (i * tallyBytes), tallyBytes);
            tallies[i].EnterpriseId.TryWriteBytes(tally);
            BinaryPrimitives.WriteInt32LittleEndian(tally[IdBytes..], tallies[i].Accepted);
            BinaryPrimitives.WriteInt32LittleEndian(tally[(IdBytes + sizeof(int))..], tallies[i].Rejected);
            if (!isFirst)
            {
                BinaryPrimitives.WriteInt32LittleEndian(tally[(IdBytes + (2 * sizeof(int)))..], tallies[i].Blocked);
            }
        }

        return encoded;
    }

    /// <exception cref="InvalidDataException">The tallies are of a version that this program does not read.</exception>
    public static SegmentTally[] Decode(ReadOnlySpan<byte> encoded)
    {
        bool isFirst = encoded.Length % 2 == 0;
        if (!isFirst && encoded[0] != Version)
        {
            throw new InvalidDataException("The segment's tallies are of a version that this program does not read.");
        }

        int tallyBytes = isFirst ? FirstTallyBytes : TallyBytes;
        encoded = isFirst ? encoded : encoded[1..];
        var tallies = new SegmentTally[encoded.Length / tallyBytes];
        for (int i = 0; i < tallies.Length; i++)
        {
            ReadOnlySpan<byte> tally = encoded.Slice(i * tallyBytes, tallyBytes);
            tallies[i] = new SegmentTally(
                new Guid(tally[..IdBytes]),
                BinaryPrimitives.ReadInt32LittleEndian(tally[IdBytes..]),
                BinaryPrimitives.ReadInt32LittleEndian(tally[(IdBytes + sizeof(int))..]),
                isFirst ? 0 : BinaryPrimitives.ReadInt32LittleEndian(tally[(IdBytes + (2 * sizeof(int)))..])
            );
        }

        return tallies;
    }
}
