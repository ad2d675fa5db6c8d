using System.Buffers.Binary;
using System.Security.Cryptography;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>A stretch of a file's plain bytes.</summary>
internal readonly record struct ByteRange(long Start, long Length)
{
    public long End => Start + Length;
}

/// <summary>What a sealed file is of; whoever opens it says so too, and it must be the same.</summary>
/// <param name="EnterpriseId">Whose key sealed it.</param>
/// <param name="Day">The local day.</param>
/// <param name="Generation">Which rewrite.</param>
internal readonly record struct SealedIdentity(Guid EnterpriseId, DateOnly Day, int Generation);

/// <summary>
/// A file sealed with an enterprise's data key in chunks (AES-256-GCM), so that it is written and opened as a stream and parts of
/// it can be opened alone.
/// </summary>
/// <remarks>
/// <para>
/// <c>header length (4) ‖ header ‖ chunks</c>, numbers little-endian. The header is <c>"UMARCHIV" ‖ version (1) ‖ chunk bytes (4) ‖
/// plain bytes (8) ‖ key id (8) ‖ salt (32) ‖ enterprise (16, big-endian) ‖ day as days since 0001-01-01 (4) ‖ generation (4) ‖
/// ranges (4) ‖ (start (8) ‖ length (8))*</c>; the ranges are the plain bytes that hold properties. Each chunk is
/// <c>ciphertext ‖ tag (16)</c>, all of the same size but the last.
/// </para>
/// <para>
/// The file's key is HKDF-SHA-256 of the data key with the file's random salt, so it seals nothing else, and a chunk's nonce can
/// be its number: <c>0 (3) ‖ number (8) ‖ 1 when it is the last (1)</c>. The associated data is the SHA-256 of the header. So a chunk
/// opens only at its own place in its own file of its own enterprise, day and generation, and a file that was cut off, put
/// together from others, or renamed to another day does not open. Destroying the data key makes it noise.
/// </para>
/// </remarks>
internal static class SealedFile
{
    /// <summary>Plain bytes of a chunk.</summary>
    public const int ChunkBytes = 256 * 1024;

    /// <summary>Stretches of properties that a header may name: one a row group.</summary>
    public const int RangesMax = 100_000;

    private const byte Version = 1;
    private const int SaltBytes = 32;
    private const int KeyIdBytes = 8;
    private const int FixedBytes = 8 + 1 + 4 + 8 + KeyIdBytes + SaltBytes + 16 + 4 + 4 + 4;
    private static ReadOnlySpan<byte> Magic => "UMARCHIV"u8;

    /// <summary>Seals a file into a stream.</summary>
    /// <returns>The SHA-256 of what was written.</returns>
    public static byte[] Seal(
        Stream plain,
        Stream destination,
        byte[] dataKey,
        SealedIdentity identity,
        IReadOnlyList<ByteRange> ranges,
        CancellationToken cancellationToken
    )
    {
        byte[] salt = RandomNumberGenerator.GetBytes(SaltBytes);
        byte[] header = WriteHeader(plain.Length, dataKey, salt, identity, ranges);
        byte[] length = new byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(length, header.Length);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Write(length);
        Write(header);
        using var aes = new AesGcm(KeyOf(dataKey, salt), Sealing.TagBytes);
        byte[] context = SHA256.HashData(header);
        byte[] buffer = new byte[ChunkBytes];
        byte[] chunk = new byte[ChunkBytes + Sealing.TagBytes];
        Span<byte> nonce = stackalloc byte[Sealing.NonceBytes];
        long chunks = ChunksOf(plain.Length);
        for (long number = 0; number < chunks; number++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = (int)Math.Min(ChunkBytes, plain.Length - (number * ChunkBytes));
            plain.ReadExactly(buffer.AsSpan(0, count));
            Nonce(nonce, number, number == chunks - 1);
            aes.Encrypt(
                nonce,
                buffer.AsSpan(0, count),
                chunk.AsSpan(0, count),
                chunk.AsSpan(count, Sealing.TagBytes),
                context
            );
            Write(chunk.AsSpan(0, count + Sealing.TagBytes));
        }

        return hash.GetHashAndReset();

        void Write(ReadOnlySpan<byte> bytes)
        {
            hash.AppendData(bytes);
            destination.Write(bytes);
        }
    }

    /// <summary>Opens a sealed file into another.</summary>
    /// <param name="source">The sealed file, seekable.</param>
    /// <param name="destination">Where the plain bytes go, at their places; its length becomes that of the plain file.</param>
    /// <param name="dataKey">The enterprise's.</param>
    /// <param name="identity">What it must be.</param>
    /// <param name="withProperties">False: chunks of nothing but properties stay holes.</param>
    /// <param name="cancellationToken">Cancels between chunks.</param>
    /// <returns>The bytes that were opened.</returns>
    /// <exception cref="CryptographicException">Another key, or the file is not what was sealed.</exception>
    public static long Open(
        Stream source,
        Stream destination,
        byte[] dataKey,
        SealedIdentity identity,
        bool withProperties,
        CancellationToken cancellationToken
    )
    {
        Header header = ReadHeader(source, dataKey);
        if (header.Identity != identity)
        {
            throw new CryptographicException("The file is of another enterprise, day or generation.");
        }

        using var aes = new AesGcm(KeyOf(dataKey, header.Salt), Sealing.TagBytes);
        byte[] buffer = new byte[ChunkBytes + Sealing.TagBytes];
        byte[] plain = new byte[ChunkBytes];
        Span<byte> nonce = stackalloc byte[Sealing.NonceBytes];
        destination.SetLength(header.PlainBytes);
        long chunks = ChunksOf(header.PlainBytes);
        int range = 0;
        long opened = 0;
        for (long number = 0; number < chunks; number++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            long start = number * ChunkBytes;
            int count = (int)Math.Min(ChunkBytes, header.PlainBytes - start);
            while (range < header.Ranges.Count && header.Ranges[range].End < start + count)
            {
                range++;
            }

            if (!withProperties && range < header.Ranges.Count && header.Ranges[range].Start <= start)
            {
                continue;
            }

            source.Position = header.Bytes + (number * (ChunkBytes + Sealing.TagBytes));
            source.ReadExactly(buffer.AsSpan(0, count + Sealing.TagBytes));
            Nonce(nonce, number, number == chunks - 1);
            aes.Decrypt(
                nonce,
                buffer.AsSpan(0, count),
                buffer.AsSpan(count, Sealing.TagBytes),
                plain.AsSpan(0, count),
                header.Context
            );
            destination.Position = start;
            destination.Write(plain.AsSpan(0, count));
            opened += count;
        }

        if (source.Length != header.Bytes + header.PlainBytes + (chunks * Sealing.TagBytes))
        {
            throw new CryptographicException("The file is longer or shorter than what was sealed.");
        }

        return opened;
    }

    /// <summary>What a sealed file says that it is, before anything of it is known to be true.</summary>
    public static SealedIdentity Identify(Stream source)
    {
        source.Position = 0;
        return Parse(ReadHeaderBytes(source)).Identity;
    }

    private sealed record Header(
        long PlainBytes,
        byte[] KeyId,
        byte[] Salt,
        SealedIdentity Identity,
        List<ByteRange> Ranges
    )
    {
        public byte[] Context { get; init; } = [];

        public long Bytes { get; init; }
    }

    private static byte[] WriteHeader(
        long plainBytes,
        byte[] dataKey,
        byte[] salt,
        SealedIdentity identity,
        IReadOnlyList<ByteRange> ranges
    )
    {
        byte[] header = new byte[FixedBytes + (ranges.Count * 16)];
        Span<byte> rest = header;
        Magic.CopyTo(rest);
        rest[8] = Version;
        BinaryPrimitives.WriteInt32LittleEndian(rest[9..], ChunkBytes);
        BinaryPrimitives.WriteInt64LittleEndian(rest[13..], plainBytes);
        KeyIdOf(dataKey).CopyTo(rest[21..]);
        salt.CopyTo(rest[29..]);
        identity.EnterpriseId.TryWriteBytes(rest[61..], bigEndian: true, out _);
        BinaryPrimitives.WriteInt32LittleEndian(rest[77..], identity.Day.DayNumber);
        BinaryPrimitives.WriteInt32LittleEndian(rest[81..], identity.Generation);
        BinaryPrimitives.WriteInt32LittleEndian(rest[85..], ranges.Count);
        for (int i = 0; i < ranges.Count; i++)
        {
            BinaryPrimitives.WriteInt64LittleEndian(rest[(FixedBytes + (i * 16))..], ranges[i].Start);
            BinaryPrimitives.WriteInt64LittleEndian(rest[(FixedBytes + (i * 16) + 8)..], ranges[i].Length);
        }

        return header;
    }

    private static byte[] ReadHeaderBytes(Stream source)
    {
        Span<byte> length = stackalloc byte[sizeof(int)];
        source.ReadExactly(length);
        int bytes = BinaryPrimitives.ReadInt32LittleEndian(length);
        if (bytes < FixedBytes || bytes > FixedBytes + (RangesMax * 16))
        {
            throw new CryptographicException("The file is not a sealed file of the archive.");
        }

        byte[] header = new byte[bytes];
        source.ReadExactly(header);
        return header;
    }

    private static Header ReadHeader(Stream source, byte[] dataKey)
    {
        source.Position = 0;
        byte[] bytes = ReadHeaderBytes(source);
        Header header = Parse(bytes);
        return header.KeyId.AsSpan().SequenceEqual(KeyIdOf(dataKey))
            ? header with
            {
                Context = SHA256.HashData(bytes),
                Bytes = sizeof(int) + bytes.Length,
            }
            : throw new CryptographicException("The file was sealed with another key.");
    }

    private static Header Parse(byte[] bytes)
    {
        ReadOnlySpan<byte> rest = bytes;
        int ranges = BinaryPrimitives.ReadInt32LittleEndian(rest[85..]);
        if (
            !rest[..8].SequenceEqual(Magic)
            || rest[8] != Version
            || BinaryPrimitives.ReadInt32LittleEndian(rest[9..]) != ChunkBytes
            || rest.Length != FixedBytes + (ranges * 16)
        )
        {
            throw new CryptographicException("The file is not a sealed file of the archive.");
        }

        long plainBytes = BinaryPrimitives.ReadInt64LittleEndian(rest[13..]);
        int day = BinaryPrimitives.ReadInt32LittleEndian(rest[77..]);
        if (plainBytes < 0 || day < 0 || day > DateOnly.MaxValue.DayNumber)
        {
            throw new CryptographicException("The file is not a sealed file of the archive.");
        }

        var properties = new List<ByteRange>(ranges);
        for (int i = 0; i < ranges; i++)
        {
            properties.Add(
                new ByteRange(
                    BinaryPrimitives.ReadInt64LittleEndian(rest[(FixedBytes + (i * 16))..]),
                    BinaryPrimitives.ReadInt64LittleEndian(rest[(FixedBytes + (i * 16) + 8)..])
                )
            );
        }

        return new Header(
            plainBytes,
            bytes[21..29],
            bytes[29..61],
            new SealedIdentity(
                new Guid(rest.Slice(61, 16), bigEndian: true),
                DateOnly.FromDayNumber(day),
                BinaryPrimitives.ReadInt32LittleEndian(rest[81..])
            ),
            properties
        );
    }

    // An empty file has one chunk of nothing: else nothing would say that it is whole.
    private static long ChunksOf(long plainBytes) => Math.Max(1, (plainBytes + ChunkBytes - 1) / ChunkBytes);

    private static void Nonce(Span<byte> nonce, long number, bool isLast)
    {
        nonce.Clear();
        BinaryPrimitives.WriteInt64LittleEndian(nonce[3..], number);
        nonce[^1] = isLast ? (byte)1 : (byte)0;
    }

    private static byte[] KeyOf(byte[] dataKey, byte[] salt) =>
        HKDF.DeriveKey(
            HashAlgorithmName.SHA256,
            dataKey,
            MasterKey.KeyBytes,
            salt,
            "usage-monitor archive file v1"u8.ToArray()
        );

    // Tells a wrong key from an altered file, and nothing of the key.
    private static byte[] KeyIdOf(byte[] dataKey) =>
        HKDF.DeriveKey(
            HashAlgorithmName.SHA256,
            dataKey,
            KeyIdBytes,
            salt: null,
            "usage-monitor archive key id"u8.ToArray()
        );
}
