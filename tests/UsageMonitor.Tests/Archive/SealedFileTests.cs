using System.Security.Cryptography;
using UsageMonitor.Server.Archive;
using Xunit;

namespace UsageMonitor.Tests.Archive;

public sealed class SealedFileTests
{
    private static readonly byte[] s_key = RandomNumberGenerator.GetBytes(32);
    private static readonly SealedIdentity s_identity = new(Guid.NewGuid(), new DateOnly(2026, 3, 1), 2);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(SealedFile.ChunkBytes - 1)]
    [InlineData(SealedFile.ChunkBytes)]
    [InlineData(SealedFile.ChunkBytes + 1)]
    [InlineData((3 * SealedFile.ChunkBytes) + 77)]
    public void Open_WhenSealed_ShouldGiveTheSameBytes(int length)
    {
        byte[] plain = RandomNumberGenerator.GetBytes(length);
        byte[] file = Seal(plain, out byte[] sha256);
        Assert.Equal(SHA256.HashData(file), sha256);
        Assert.Equal(plain, Open(file, s_key, s_identity));
    }

    [Fact]
    public void Open_WhenAnyByteIsAltered_ShouldRefuse()
    {
        byte[] file = Seal(RandomNumberGenerator.GetBytes(SealedFile.ChunkBytes + 100), out _);
        var random = new Random(1);
        foreach (
            int at in Enumerable.Range(0, 120).Concat(Enumerable.Range(0, 60).Select(_ => random.Next(file.Length)))
        )
        {
            byte[] altered = [.. file];
            altered[at] ^= 1;
            Assert.ThrowsAny<Exception>(() => Open(altered, s_key, s_identity));
        }
    }

    [Fact]
    public void Open_WhenCutOffAtAChunk_ShouldRefuse()
    {
        byte[] file = Seal(RandomNumberGenerator.GetBytes(3 * SealedFile.ChunkBytes), out _);
        Assert.ThrowsAny<Exception>(() => Open(file[..^(SealedFile.ChunkBytes + 16)], s_key, s_identity));
        Assert.ThrowsAny<Exception>(() => Open([.. file, .. new byte[16]], s_key, s_identity));
    }

    [Fact]
    public void Open_WhenChunksAreExchanged_ShouldRefuse()
    {
        const int Sealed = SealedFile.ChunkBytes + 16;
        byte[] file = Seal(new byte[3 * SealedFile.ChunkBytes], out _);
        int header = file.Length - (3 * Sealed);
        byte[] exchanged =
        [
            .. file[..header],
            .. file[(header + Sealed)..(header + (2 * Sealed))],
            .. file[header..(header + Sealed)],
            .. file[(header + (2 * Sealed))..],
        ];
        Assert.ThrowsAny<CryptographicException>(() => Open(exchanged, s_key, s_identity));
    }

    [Fact]
    public void Open_WhenItIsAnotherEnterprisesOrDays_ShouldRefuse()
    {
        byte[] file = Seal([1, 2, 3], out _);
        Assert.ThrowsAny<CryptographicException>(() => Open(file, RandomNumberGenerator.GetBytes(32), s_identity));
        Assert.ThrowsAny<CryptographicException>(() =>
            Open(file, s_key, s_identity with { EnterpriseId = Guid.NewGuid() })
        );
        Assert.ThrowsAny<CryptographicException>(() => Open(file, s_key, s_identity with { Generation = 3 }));
        Assert.ThrowsAny<CryptographicException>(() =>
            Open(file, s_key, s_identity with { Day = s_identity.Day.AddDays(1) })
        );
    }

    [Fact]
    public void Open_WhenWithoutProperties_ShouldLeaveOnlyTheirChunksOut()
    {
        byte[] plain = RandomNumberGenerator.GetBytes((8 * SealedFile.ChunkBytes) + 5);
        var properties = new ByteRange(SealedFile.ChunkBytes / 2, 4 * SealedFile.ChunkBytes);
        var later = new ByteRange(6 * SealedFile.ChunkBytes, SealedFile.ChunkBytes);
        byte[] file = Seal(plain, out _, properties, later);
        byte[] opened = Open(file, s_key, s_identity, withProperties: false);
        Assert.Equal(plain.Length, opened.Length);
        for (int at = 0; at < plain.Length; at++)
        {
            bool isIn(ByteRange range) => at >= range.Start && at < range.End;
            if (!isIn(properties) && !isIn(later))
            {
                Assert.Equal(plain[at], opened[at]);
            }
        }

        Assert.All(opened[SealedFile.ChunkBytes..(4 * SealedFile.ChunkBytes)], one => Assert.Equal(0, one));
        Assert.All(opened[(6 * SealedFile.ChunkBytes)..(7 * SealedFile.ChunkBytes)], one => Assert.Equal(0, one));
    }

    [Fact]
    public void Seal_WhenTheSameFileIsSealedTwice_ShouldShareNoChunk() =>
        Assert.NotEqual(Seal(new byte[100], out _)[^116..], Seal(new byte[100], out _)[^116..]);

    private static byte[] Seal(byte[] plain, out byte[] sha256, params ByteRange[] properties)
    {
        using var destination = new MemoryStream();
        sha256 = SealedFile.Seal(
            new MemoryStream(plain),
            destination,
            s_key,
            s_identity,
            properties,
            TestContext.Current.CancellationToken
        );
        return destination.ToArray();
    }

    private static byte[] Open(byte[] file, byte[] key, SealedIdentity identity, bool withProperties = true)
    {
        using var destination = new MemoryStream();
        SealedFile.Open(
            new MemoryStream(file),
            destination,
            key,
            identity,
            withProperties,
            TestContext.Current.CancellationToken
        );
        return destination.ToArray();
    }
}
