using System.Buffers;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

/// <summary>
/// The two sealed halves of a segment. Headers are all that processing opens; properties stay where they are, and a stored
/// event points to its slot in them.
/// </summary>
/// <remarks>
/// Both halves are a container: <c>version (1) ‖ blocks (varint) ‖ (enterprise (16) ‖ sealed length (4))* ‖ sealed blocks</c>.
/// A block belongs to one enterprise and is sealed with its data key, with the enterprise and the half as associated data.
/// A header block is <c>events ‖ features ‖ types ‖ (event id ‖ user id ‖ timestamp ‖ feature ‖ type ‖ external id)*</c>, a
/// property block <c>plain length (4) ‖ Zstandard of (length ‖ JSON)*</c> (LZ4 in a container before version 4); numbers are varints, texts UTF-8 with their length.
/// <para>
/// When an enterprise has blocked events, its header block goes on with <c>events ‖ (event as above ‖ receipt id ‖ API key ‖ policy ‖
/// policy version ‖ code ‖ limit)*</c>, and their properties follow those of the accepted ones. Such a segment is of version 2;
/// the limit is there only when the code says that one refused, and makes it version 3. One without blocked events is what it always
/// was, version 1, so that while an update is rolled out the old program goes on with what it can.
/// </para>
/// </remarks>
internal static class SegmentCodec
{
    private const byte Version = 1;
    private const byte VersionWithBlocked = 2;
    private const byte VersionWithLimits = 3;

    // Of the properties alone: processing, which reads headers, does not care.
    private const byte VersionWithZstandard = 4;
    private const byte HeadersHalf = 1;
    private const byte PropertiesHalf = 2;
    private const int IdBytes = 16;

    /// <summary>What one enterprise adds to a segment.</summary>
    public sealed record Block(EnterpriseInfo Enterprise, List<ParsedEvent> Events, int Rejected)
    {
        /// <summary>Events that were refused.</summary>
        public List<BlockedAttempt> Blocked { get; init; } = [];
    }

    /// <summary>Builds a partition's segment. A block without events only carries its tally.</summary>
    public static SegmentDraft Encode(short partition, IReadOnlyList<Block> blocks)
    {
        var tallies = new SegmentTally[blocks.Count];
        var headers = new List<(Guid, byte[])>(blocks.Count);
        var properties = new List<(Guid, byte[])>(blocks.Count);
        var scratch = new ArrayBufferWriter<byte>(64 * 1024);
        byte version =
            blocks.All(block => block.Blocked.Count == 0) ? Version
            : blocks.All(block => block.Blocked.TrueForAll(attempt => attempt.Limit is null)) ? VersionWithBlocked
            : VersionWithLimits;
        for (int i = 0; i < blocks.Count; i++)
        {
            (EnterpriseInfo enterprise, List<ParsedEvent> events, int rejected) = blocks[i];
            List<BlockedAttempt> blocked = blocks[i].Blocked;
            tallies[i] = new SegmentTally(enterprise.EnterpriseId, events.Count, rejected, blocked.Count);
            if (tallies[i].Kept == 0)
            {
                continue;
            }

            scratch.ResetWrittenCount();
            WriteHeaders(scratch, events, blocked);
            headers.Add((enterprise.EnterpriseId, SealBlock(enterprise, HeadersHalf, scratch.WrittenSpan)));
            scratch.ResetWrittenCount();
            WriteProperties(scratch, events, blocked);
            (byte[] compressed, int length) = BlockCompression.Compress(scratch.WrittenSpan);
            properties.Add(
                (enterprise.EnterpriseId, SealBlock(enterprise, PropertiesHalf, compressed.AsSpan(0, length)))
            );
            ArrayPool<byte>.Shared.Return(compressed);
        }

        return new SegmentDraft(
            partition,
            tallies,
            Container(version, headers),
            Container(VersionWithZstandard, properties)
        );
    }

    /// <summary>The sealed header blocks of a segment, in the order of its tallies that have events.</summary>
    public static IEnumerable<(Guid EnterpriseId, ReadOnlyMemory<byte> Sealed)> HeaderBlocks(
        ReadOnlyMemory<byte> headers
    ) => Blocks(headers);

    /// <exception cref="CryptographicException">The block was altered, or the key is not the one that sealed it.</exception>
    public static HeaderBlock OpenHeaders(EnterpriseInfo enterprise, ReadOnlyMemory<byte> sealedBlock)
    {
        byte[] plain = Sealing.Open(
            enterprise.DataKey,
            sealedBlock.Span,
            Context(enterprise.EnterpriseId, HeadersHalf, stackalloc byte[IdBytes + 1])
        );
        ReadOnlySpan<byte> rest = plain;
        var events = new EventHeader[ReadNumber(ref rest)];
        string[] features = ReadTexts(ref rest);
        string[] types = ReadTexts(ref rest);
        for (int i = 0; i < events.Length; i++)
        {
            events[i] = ReadEvent(ref rest);
        }

        return new HeaderBlock(features, types, events) { Blocked = rest.IsEmpty ? [] : ReadBlocked(ref rest) };
    }

    /// <summary>The properties of one event, or an empty text when it has none.</summary>
    /// <param name="enterprise">Whose event it is.</param>
    /// <param name="properties">The segment's properties.</param>
    /// <param name="slot">The event's place among its enterprise's events in the segment, the blocked ones after the accepted.</param>
    public static string OpenProperties(EnterpriseInfo enterprise, ReadOnlyMemory<byte> properties, int slot)
    {
        IReadOnlyList<ReadOnlyMemory<byte>> all = OpenAllProperties(enterprise, properties);
        return slot < all.Count
            ? Encoding.UTF8.GetString(all[slot].Span)
            : throw new KeyNotFoundException("The segment holds nothing of this enterprise.");
    }

    /// <summary>The properties of an enterprise's events by slot, as UTF-8; none when the segment holds nothing of it.</summary>
    /// <exception cref="CryptographicException">The block was altered, or the key is not the one that sealed it.</exception>
    public static IReadOnlyList<ReadOnlyMemory<byte>> OpenAllProperties(
        EnterpriseInfo enterprise,
        ReadOnlyMemory<byte> properties
    )
    {
        var all = new List<ReadOnlyMemory<byte>>();
        foreach ((Guid enterpriseId, ReadOnlyMemory<byte> sealedBlock) in Blocks(properties))
        {
            if (enterpriseId != enterprise.EnterpriseId)
            {
                continue;
            }

            byte[] compressed = Sealing.Open(
                enterprise.DataKey,
                sealedBlock.Span,
                Context(enterpriseId, PropertiesHalf, stackalloc byte[IdBytes + 1])
            );
            byte[] plain = BlockCompression.Decompress(compressed, isLz4: properties.Span[0] < VersionWithZstandard);
            ReadOnlySpan<byte> rest = plain;
            while (!rest.IsEmpty)
            {
                int length = ReadNumber(ref rest);
                all.Add(plain.AsMemory(plain.Length - rest.Length, length));
                rest = rest[length..];
            }

            break;
        }

        return all;
    }

    private static void WriteHeaders(
        ArrayBufferWriter<byte> writer,
        List<ParsedEvent> events,
        List<BlockedAttempt> blocked
    )
    {
        var features = new Dictionary<string, int>(StringComparer.Ordinal);
        var types = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (ParsedEvent parsed in events)
        {
            features.TryAdd(parsed.FeatureName, features.Count);
            types.TryAdd(parsed.EventType, types.Count);
        }

        foreach (BlockedAttempt attempt in blocked)
        {
            features.TryAdd(attempt.Event.FeatureName, features.Count);
            types.TryAdd(attempt.Event.EventType, types.Count);
        }

        WriteNumber(writer, events.Count);
        WriteTexts(writer, features);
        WriteTexts(writer, types);
        foreach (ParsedEvent parsed in events)
        {
            WriteEvent(writer, parsed, features, types);
        }

        if (blocked.Count == 0)
        {
            return;
        }

        WriteNumber(writer, blocked.Count);
        foreach (BlockedAttempt attempt in blocked)
        {
            WriteEvent(writer, attempt.Event, features, types);
            WriteRefusal(writer, attempt);
        }
    }

    private static void WriteEvent(
        ArrayBufferWriter<byte> writer,
        in ParsedEvent parsed,
        Dictionary<string, int> features,
        Dictionary<string, int> types
    )
    {
        Span<byte> ids = writer.GetSpan((2 * IdBytes) + sizeof(long));
        parsed.EventId.TryWriteBytes(ids);
        parsed.UserId.TryWriteBytes(ids[IdBytes..]);
        BinaryPrimitives.WriteInt64LittleEndian(ids[(2 * IdBytes)..], parsed.TimestampMicroseconds);
        writer.Advance((2 * IdBytes) + sizeof(long));
        WriteNumber(writer, features[parsed.FeatureName]);
        WriteNumber(writer, types[parsed.EventType]);
        WriteText(writer, parsed.ExternalId ?? "");
    }

    private static EventHeader ReadEvent(ref ReadOnlySpan<byte> rest)
    {
        var eventId = new Guid(rest[..IdBytes]);
        var userId = new Guid(rest.Slice(IdBytes, IdBytes));
        long timestamp = BinaryPrimitives.ReadInt64LittleEndian(rest[(2 * IdBytes)..]);
        rest = rest[((2 * IdBytes) + sizeof(long))..];
        int feature = ReadNumber(ref rest);
        int type = ReadNumber(ref rest);
        string external = ReadText(ref rest);
        return new EventHeader(eventId, userId, external.Length == 0 ? null : external, feature, type, timestamp);
    }

    // An absent API key or policy is the nil UUID.
    private static void WriteRefusal(ArrayBufferWriter<byte> writer, BlockedAttempt attempt)
    {
        Span<byte> ids = writer.GetSpan(3 * IdBytes);
        attempt.ReceiptId.TryWriteBytes(ids);
        (attempt.ApiKeyId ?? Guid.Empty).TryWriteBytes(ids[IdBytes..]);
        (attempt.PolicyId ?? Guid.Empty).TryWriteBytes(ids[(2 * IdBytes)..]);
        writer.Advance(3 * IdBytes);
        WriteNumber(writer, attempt.PolicyVersion ?? 0);
        WriteText(writer, attempt.Code);
        if (attempt.Limit is { } limit)
        {
            Span<byte> fixedPart = writer.GetSpan(IdBytes + (4 * sizeof(long)));
            limit.LimitId.TryWriteBytes(fixedPart);
            BinaryPrimitives.WriteInt64LittleEndian(fixedPart[IdBytes..], limit.LimitValue);
            BinaryPrimitives.WriteInt64LittleEndian(fixedPart[(IdBytes + 8)..], limit.Used);
            BinaryPrimitives.WriteInt64LittleEndian(fixedPart[(IdBytes + 16)..], limit.Window.Start.Ticks);
            BinaryPrimitives.WriteInt64LittleEndian(fixedPart[(IdBytes + 24)..], limit.Window.End.Ticks);
            writer.Advance(IdBytes + (4 * sizeof(long)));
            WriteNumber(writer, limit.LimitVersion);
        }
    }

    private static LimitRefusal ReadLimit(ref ReadOnlySpan<byte> rest)
    {
        var limitId = new Guid(rest[..IdBytes]);
        long value = BinaryPrimitives.ReadInt64LittleEndian(rest[IdBytes..]);
        long used = BinaryPrimitives.ReadInt64LittleEndian(rest[(IdBytes + 8)..]);
        var start = new DateTime(BinaryPrimitives.ReadInt64LittleEndian(rest[(IdBytes + 16)..]), DateTimeKind.Utc);
        var end = new DateTime(BinaryPrimitives.ReadInt64LittleEndian(rest[(IdBytes + 24)..]), DateTimeKind.Utc);
        rest = rest[(IdBytes + (4 * sizeof(long)))..];
        return new LimitRefusal(limitId, ReadNumber(ref rest), value, used, new WindowSpan(start, end));
    }

    private static BlockedHeader[] ReadBlocked(ref ReadOnlySpan<byte> rest)
    {
        var blocked = new BlockedHeader[ReadNumber(ref rest)];
        for (int i = 0; i < blocked.Length; i++)
        {
            EventHeader header = ReadEvent(ref rest);
            var receiptId = new Guid(rest[..IdBytes]);
            var apiKeyId = new Guid(rest.Slice(IdBytes, IdBytes));
            var policyId = new Guid(rest.Slice(2 * IdBytes, IdBytes));
            rest = rest[(3 * IdBytes)..];
            int version = ReadNumber(ref rest);
            string code = ReadText(ref rest);
            blocked[i] = new BlockedHeader(
                header,
                receiptId,
                code,
                apiKeyId == Guid.Empty ? null : apiKeyId,
                policyId == Guid.Empty ? null : policyId,
                policyId == Guid.Empty ? null : version
            )
            {
                Limit = code == DecisionCodes.LimitReached ? ReadLimit(ref rest) : null,
            };
        }

        return blocked;
    }

    private static void WriteProperties(
        ArrayBufferWriter<byte> writer,
        List<ParsedEvent> events,
        List<BlockedAttempt> blocked
    )
    {
        foreach (ParsedEvent parsed in events)
        {
            WriteNumber(writer, parsed.Properties.Length);
            writer.Write(parsed.Properties.Span);
        }

        foreach (BlockedAttempt attempt in blocked)
        {
            WriteNumber(writer, attempt.Event.Properties.Length);
            writer.Write(attempt.Event.Properties.Span);
        }
    }

    private static byte[] SealBlock(EnterpriseInfo enterprise, byte half, ReadOnlySpan<byte> plain) =>
        Sealing.Seal(enterprise.DataKey, plain, Context(enterprise.EnterpriseId, half, stackalloc byte[IdBytes + 1]));

    private static Span<byte> Context(Guid enterpriseId, byte half, Span<byte> context)
    {
        enterpriseId.TryWriteBytes(context);
        context[IdBytes] = half;
        return context;
    }

    private static byte[] Container(byte version, List<(Guid EnterpriseId, byte[] Sealed)> blocks)
    {
        var writer = new ArrayBufferWriter<byte>(16 + blocks.Sum(block => block.Sealed.Length + IdBytes + sizeof(int)));
        writer.GetSpan(1)[0] = version;
        writer.Advance(1);
        WriteNumber(writer, blocks.Count);
        foreach ((Guid enterpriseId, byte[] sealedBlock) in blocks)
        {
            Span<byte> entry = writer.GetSpan(IdBytes + sizeof(int));
            enterpriseId.TryWriteBytes(entry);
            BinaryPrimitives.WriteInt32LittleEndian(entry[IdBytes..], sealedBlock.Length);
            writer.Advance(IdBytes + sizeof(int));
        }

        foreach ((_, byte[] sealedBlock) in blocks)
        {
            writer.Write(sealedBlock);
        }

        return writer.WrittenSpan.ToArray();
    }

    private static (Guid EnterpriseId, ReadOnlyMemory<byte> Sealed)[] Blocks(ReadOnlyMemory<byte> container)
    {
        ReadOnlySpan<byte> rest = container.Span;
        if (rest.Length < 2 || rest[0] is < Version or > VersionWithZstandard)
        {
            throw new InvalidDataException("The segment is of a version that this program does not read.");
        }

        rest = rest[1..];
        var blocks = new (Guid, ReadOnlyMemory<byte>)[ReadNumber(ref rest)];
        int start = container.Length - rest.Length + (blocks.Length * (IdBytes + sizeof(int)));
        for (int i = 0; i < blocks.Length; i++)
        {
            int length = BinaryPrimitives.ReadInt32LittleEndian(rest[IdBytes..]);
            blocks[i] = (new Guid(rest[..IdBytes]), container.Slice(start, length));
            start += length;
            rest = rest[(IdBytes + sizeof(int))..];
        }

        return blocks;
    }

    private static void WriteTexts(ArrayBufferWriter<byte> writer, Dictionary<string, int> texts)
    {
        WriteNumber(writer, texts.Count);
        foreach (string text in texts.Keys)
        {
            WriteText(writer, text);
        }
    }

    private static string[] ReadTexts(ref ReadOnlySpan<byte> rest)
    {
        string[] texts = new string[ReadNumber(ref rest)];
        for (int i = 0; i < texts.Length; i++)
        {
            texts[i] = ReadText(ref rest);
        }

        return texts;
    }

    private static void WriteText(ArrayBufferWriter<byte> writer, string text)
    {
        WriteNumber(writer, Encoding.UTF8.GetByteCount(text));
        writer.Advance(Encoding.UTF8.GetBytes(text, writer.GetSpan(Encoding.UTF8.GetMaxByteCount(text.Length))));
    }

    private static string ReadText(ref ReadOnlySpan<byte> rest)
    {
        int length = ReadNumber(ref rest);
        string text = Encoding.UTF8.GetString(rest[..length]);
        rest = rest[length..];
        return text;
    }

    private static void WriteNumber(ArrayBufferWriter<byte> writer, int number)
    {
        Span<byte> bytes = writer.GetSpan(Varint.BytesMax);
        writer.Advance(Varint.Write(bytes, (uint)number));
    }

    private static int ReadNumber(ref ReadOnlySpan<byte> rest) => checked((int)Varint.Read(ref rest));
}
