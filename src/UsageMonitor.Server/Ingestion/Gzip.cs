using System.Buffers.Binary;
using System.IO.Compression;
using System.IO.Hashing;

namespace UsageMonitor.Server.Ingestion;

/// <summary>Gzip (RFC 1952) of one or several members, whole or not at all.</summary>
/// <remarks>
/// <see cref="GZipStream"/> reports a body that was cut off anywhere as one that has ended, and ignores what follows the
/// last member (measured with .NET 10.0), so a lost half of a batch would look like a whole one. Here the framing is read
/// by hand and only the raw deflate data goes to <see cref="DeflateStream"/>. That does not tell where the data ended, only
/// that it did: the end lies within the last window it took, where the trailer (the CRC-32 and the length of what came out)
/// must stand, followed by another member or nothing.
/// </remarks>
internal static class Gzip
{
    /// <summary>Each member costs a decompressor; bgzip, the only common writer of many, makes one per 64 KB.</summary>
    private const int MembersMax = 1_024;
    private const int HeaderBytes = 10;
    private const int TrailerBytes = 8;
    private const byte HeaderCrcFlag = 2;
    private const byte ExtraFlag = 4;
    private const byte NameFlag = 8;
    private const byte CommentFlag = 16;
    private const byte ReservedFlags = 0b1110_0000;

    private static ReadOnlySpan<byte> Magic => [0x1f, 0x8b, 8];

    public static DecompressionResult Decompress(ReadOnlyMemory<byte> compressed, PooledBuffer output)
    {
        ReadOnlyMemory<byte> rest = compressed;
        for (int members = 0; members < MembersMax; members++)
        {
            if (!TrySkipHeader(rest.Span, out int headerBytes))
            {
                return DecompressionResult.Invalid;
            }

            var source = new WindowStream(rest[headerBytes..]);
            int from = output.Length;
            DecompressionResult result = Inflate(source, output);
            if (result != DecompressionResult.Complete)
            {
                return result;
            }

            if (!TryFindEnd(source.LastWindowAndRest.Span, output.Written.Span[from..], out ReadOnlySpan<byte> next))
            {
                return DecompressionResult.Invalid;
            }

            if (next.IsEmpty)
            {
                return DecompressionResult.Complete;
            }

            rest = rest[^next.Length..];
        }

        return DecompressionResult.Invalid;
    }

    private static DecompressionResult Inflate(WindowStream source, PooledBuffer output)
    {
        using var inflate = new DeflateStream(source, CompressionMode.Decompress, leaveOpen: true);
        Span<byte> beyondLimit = stackalloc byte[1];
        try
        {
            while (true)
            {
                Span<byte> free = output.Free();
                int read = inflate.Read(free.IsEmpty ? beyondLimit : free);
                if (read == 0)
                {
                    return source.Starved ? DecompressionResult.Invalid : DecompressionResult.Complete;
                }

                if (free.IsEmpty)
                {
                    return DecompressionResult.TooLarge;
                }

                output.Advance(read);
            }
        }
        catch (InvalidDataException)
        {
            return DecompressionResult.Invalid;
        }
    }

    private static bool TryFindEnd(ReadOnlySpan<byte> tail, ReadOnlySpan<byte> content, out ReadOnlySpan<byte> next)
    {
        Span<byte> trailer = stackalloc byte[TrailerBytes];
        BinaryPrimitives.WriteUInt32LittleEndian(trailer, Crc32.HashToUInt32(content));
        BinaryPrimitives.WriteInt32LittleEndian(trailer[4..], content.Length);
        int windowBytes = Math.Min(tail.Length, WindowStream.WindowBytes + TrailerBytes);
        for (int searched = 0; ; )
        {
            int found = tail[searched..windowBytes].IndexOf(trailer);
            if (found < 0)
            {
                next = default;
                return false;
            }

            next = tail[(searched + found + TrailerBytes)..];
            if (next.IsEmpty || next.StartsWith(Magic))
            {
                return true;
            }

            searched += found + 1;
        }
    }

    private static bool TrySkipHeader(ReadOnlySpan<byte> member, out int bytes)
    {
        bytes = HeaderBytes;
        if (member.Length < HeaderBytes || !member.StartsWith(Magic) || (member[3] & ReservedFlags) != 0)
        {
            return false;
        }

        int flags = member[3];
        if ((flags & ExtraFlag) != 0)
        {
            if (member.Length < bytes + 2)
            {
                return false;
            }

            bytes += 2 + BinaryPrimitives.ReadUInt16LittleEndian(member[bytes..]);
        }

        if ((flags & NameFlag) != 0 && !TrySkipText(member, ref bytes))
        {
            return false;
        }

        if ((flags & CommentFlag) != 0 && !TrySkipText(member, ref bytes))
        {
            return false;
        }

        bytes += (flags & HeaderCrcFlag) != 0 ? 2 : 0;
        return bytes <= member.Length;
    }

    private static bool TrySkipText(ReadOnlySpan<byte> member, ref int bytes)
    {
        int end = bytes <= member.Length ? member[bytes..].IndexOf((byte)0) : -1;
        bytes += end + 1;
        return end >= 0;
    }

    /// <summary>Gives out bytes in windows, and remembers the last one and whether more were wanted than there are.</summary>
    private sealed class WindowStream(ReadOnlyMemory<byte> bytes) : Stream
    {
        public const int WindowBytes = 8 * 1024;
        private int _windowStart;
        private int _position;

        public bool Starved { get; private set; }

        public ReadOnlyMemory<byte> LastWindowAndRest => bytes[_windowStart..];

        public override int Read(Span<byte> buffer)
        {
            int count = Math.Min(Math.Min(buffer.Length, WindowBytes), bytes.Length - _position);
            if (count == 0)
            {
                Starved = true;
                return 0;
            }

            bytes.Span.Slice(_position, count).CopyTo(buffer);
            _windowStart = _position;
            _position += count;
            return count;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Flush() { }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
