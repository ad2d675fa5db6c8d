using System.Text;
using UsageMonitor.Server.Ingestion;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

public sealed class RequestBodyTests
{
    private static readonly byte[] s_plain = Encoding.UTF8.GetBytes(
        string.Concat(Enumerable.Range(0, 3_000).Select(number => $$"""{"number":{{number * 7919 % 10007}}}"""))
    );

    [Theory]
    [InlineData(null, true)]
    [InlineData(null, false)]
    [InlineData("identity", true)]
    [InlineData("gzip", true)]
    [InlineData("GZIP", false)]
    [InlineData("br", false)]
    public async Task ReadAsync_WhenEncoded_ShouldGiveThePlainBytes(string? encoding, bool withLength)
    {
        BodyResult result = await Parsing.ReadAsync(
            Encode(s_plain, encoding),
            encoding: encoding,
            withLength: withLength
        );

        using RequestBody body = result.Body!;
        Assert.True(body.Bytes.Span.SequenceEqual(s_plain));
    }

    [Theory]
    [InlineData("application/json", false)]
    [InlineData("Application/JSON; charset=UTF-8", false)]
    [InlineData("application/json; charset=\"utf-8\"", false)]
    [InlineData("application/x-ndjson", true)]
    [InlineData("application/ndjson", true)]
    [InlineData("application/jsonl; charset=utf-8", true)]
    public async Task ReadAsync_WhenTheTypeIsKnown_ShouldTellItsForm(string contentType, bool newlineDelimited)
    {
        BodyResult result = await Parsing.ReadAsync("{}"u8.ToArray(), contentType);

        using RequestBody body = result.Body!;
        Assert.Equal(newlineDelimited, body.NewlineDelimited);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("json")]
    [InlineData("text/plain")]
    [InlineData("application/xml")]
    [InlineData("application/json; charset=utf-16")]
    [InlineData("application/json, application/json")]
    public async Task ReadAsync_WhenTheTypeIsNot_ShouldRefuse(string? contentType) =>
        AssertProblem(415, "unsupported_media_type", await Parsing.ReadAsync("{}"u8.ToArray(), contentType));

    [Theory]
    [InlineData("deflate")]
    [InlineData("zstd")]
    [InlineData("gzip, br")]
    [InlineData("gzip, gzip")]
    public async Task ReadAsync_WhenTheEncodingIsNotKnown_ShouldRefuse(string encoding) =>
        AssertProblem(415, "unsupported_encoding", await Parsing.ReadAsync("{}"u8.ToArray(), encoding: encoding));

    [Theory]
    [InlineData("")]
    [InlineData("EFBBBF")]
    [InlineData("FFFE7B007D00")]
    [InlineData("FEFF007B007D")]
    [InlineData("FFFE00007B000000")]
    [InlineData("0000FEFF0000007B")]
    public async Task ReadAsync_WhenEmptyOrWide_ShouldRefuse(string hex) =>
        AssertProblem(400, "invalid_json", await Parsing.ReadAsync(Convert.FromHexString(hex)));

    [Theory]
    [InlineData(null)]
    [InlineData("gzip")]
    [InlineData("br")]
    public async Task ReadAsync_WhenThereIsAByteOrderMark_ShouldSkipIt(string? encoding)
    {
        BodyResult result = await Parsing.ReadAsync(
            Encode([0xEF, 0xBB, 0xBF, .. "{}"u8], encoding),
            encoding: encoding
        );

        using RequestBody body = result.Body!;
        Assert.Equal("{}", Encoding.UTF8.GetString(body.Bytes.Span));
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    public async Task ReadAsync_WhenCutAnywhere_ShouldRefuse(string encoding)
    {
        byte[] whole = Encode(s_plain, encoding);
        int[] lengths = [.. Enumerable.Range(1, 40), .. Enumerable.Range(1, 40).Select(cut => whole.Length - cut)];

        foreach (int length in lengths)
        {
            AssertProblem(400, "invalid_compression", await Parsing.ReadAsync(whole[..length], encoding: encoding));
        }
    }

    [Theory]
    [InlineData("gzip", "00")]
    [InlineData("gzip", "0000000000000000000000000000000000000000000000")]
    [InlineData("gzip", "1F")]
    [InlineData("gzip", "1F8B")]
    [InlineData("gzip", "1F8B08")]
    [InlineData("gzip", "1F8B0800000000000003")]
    [InlineData("br", "00")]
    [InlineData("br", "0B028000")]
    public async Task ReadAsync_WhenSomethingFollows_ShouldRefuse(string encoding, string hex) =>
        AssertProblem(
            400,
            "invalid_compression",
            await Parsing.ReadAsync([.. Encode(s_plain, encoding), .. Convert.FromHexString(hex)], encoding: encoding)
        );

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    public async Task ReadAsync_WhenItIsNotCompressed_ShouldRefuse(string encoding) =>
        AssertProblem(400, "invalid_compression", await Parsing.ReadAsync(s_plain, encoding: encoding));

    [Fact]
    public async Task ReadAsync_WhenAnyBitOfGzipFlips_ShouldGiveThePlainBytesOrRefuse()
    {
        byte[] whole = Parsing.Gzip(s_plain);
        for (int at = 0; at < whole.Length; at += at < 32 || at > whole.Length - 32 ? 1 : 61)
        {
            byte[] flipped = [.. whole];
            flipped[at] ^= (byte)(1 << (at % 8));

            BodyResult result = await Parsing.ReadAsync(flipped, encoding: "gzip");

            using RequestBody? body = result.Body;
            Assert.True(body is null || body.Bytes.Span.SequenceEqual(s_plain), $"byte {at}");
        }
    }

    [Fact]
    public async Task ReadAsync_WhenGzipHasSeveralMembers_ShouldJoinThem()
    {
        byte[] first = Parsing.Gzip(s_plain);
        byte[] second = Parsing.Gzip("tail"u8.ToArray());

        BodyResult result = await Parsing.ReadAsync([.. first, .. second, .. first], encoding: "gzip");

        using RequestBody body = result.Body!;
        Assert.True(body.Bytes.Span.SequenceEqual((byte[])[.. s_plain, .. "tail"u8, .. s_plain]));
        byte[] cut = [.. first, .. first[..(first.Length / 2)]];
        AssertProblem(400, "invalid_compression", await Parsing.ReadAsync(cut, encoding: "gzip"));
    }

    [Fact]
    public async Task ReadAsync_WhenGzipHasEveryOptionalField_ShouldSkipThem()
    {
        byte[] gzip = Parsing.Gzip(s_plain);
        byte[] header = [0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 3];
        byte[] fields = [3, 0, 1, 2, 3, .. "name\0"u8, .. "comment\0"u8, 0xAA, 0xBB];

        BodyResult result = await Parsing.ReadAsync([.. header, .. fields, .. gzip[10..]], encoding: "gzip");

        using RequestBody body = result.Body!;
        Assert.True(body.Bytes.Span.SequenceEqual(s_plain));
        for (int length = 1; length < header.Length + fields.Length; length++)
        {
            byte[] cut = [.. ((byte[])[.. header, .. fields])[..length]];
            AssertProblem(400, "invalid_compression", await Parsing.ReadAsync(cut, encoding: "gzip"));
        }
    }

    [Fact]
    public async Task ReadAsync_WhenGzipHasThousandsOfMembers_ShouldRefuse()
    {
        byte[] member = Parsing.Gzip("x"u8.ToArray());
        byte[] body = [.. Enumerable.Repeat(member, 5_000).SelectMany(bytes => bytes)];

        AssertProblem(400, "invalid_compression", await Parsing.ReadAsync(body, encoding: "gzip"));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("gzip")]
    [InlineData("br")]
    public async Task ReadAsync_WhenAtTheLimit_ShouldAcceptItAndRefuseOneMore(string? encoding)
    {
        byte[] most = new byte[RequestBody.BodyBytesMax];
        most.AsSpan().Fill((byte)' ');

        BodyResult result = await Parsing.ReadAsync(Encode(most, encoding), encoding: encoding, withLength: false);

        using (RequestBody body = result.Body!)
        {
            Assert.Equal(RequestBody.BodyBytesMax, body.Bytes.Length);
        }

        byte[] tooMuch = Encode([.. most, (byte)' '], encoding);
        foreach (bool withLength in new[] { true, false })
        {
            AssertProblem(
                413,
                "body_too_large",
                await Parsing.ReadAsync(tooMuch, encoding: encoding, withLength: withLength)
            );
        }
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    public void Decompress_WhenItIsABomb_ShouldStopAtTheLimit(string encoding)
    {
        const int bombBytes = 256 * 1024 * 1024;
        byte[] bomb = Encode(new byte[bombBytes], encoding);
        using var output = new PooledBuffer(RequestBody.BodyBytesMax);
        long before = GC.GetAllocatedBytesForCurrentThread();

        DecompressionResult result = encoding == "br" ? Brotli.Decompress(bomb, output) : Gzip.Decompress(bomb, output);

        // The buffer, and those it has outgrown: a quarter, a sixteenth and so on.
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(DecompressionResult.TooLarge, result);
        Assert.InRange(allocated, 0, RequestBody.BodyBytesMax * 3L / 2);
    }

    [Fact]
    public async Task ReadAsync_WhenOnlyTheAnnouncedLengthIsTooLarge_ShouldRefuseWithoutReading()
    {
        Microsoft.AspNetCore.Http.HttpRequest request = Parsing.Request([], "application/json", null);
        request.ContentLength = RequestBody.BodyBytesMax + 1L;

        AssertProblem(413, "body_too_large", await RequestBody.ReadAsync(request, CancellationToken.None));
    }

    private static byte[] Encode(byte[] plain, string? encoding) =>
        encoding?.ToUpperInvariant() switch
        {
            "GZIP" => Parsing.Gzip(plain),
            "BR" => Parsing.Brotli(plain),
            _ => plain,
        };

    private static void AssertProblem(int status, string code, BodyResult result)
    {
        Assert.Null(result.Body);
        Assert.Equal((status, code), (result.Problem!.Status, result.Problem.Code));
    }
}
