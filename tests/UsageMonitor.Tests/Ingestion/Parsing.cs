using System.IO.Compression;
using System.Text;
using Microsoft.AspNetCore.Http;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Ingestion;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

/// <summary>What the parser's tests share: a fixed clock and enterprise, and short ways to parse.</summary>
internal static class Parsing
{
    public static readonly DateTimeOffset Now = new(2026, 3, 15, 12, 0, 0, TimeSpan.Zero);
    public static readonly Guid Enterprise = Guid.Parse("0190f3a0-0000-7000-8000-000000000001");

    public static ParseOutcome Parse(string body, bool newlineDelimited = false, bool mayBackfill = false) =>
        Parse(Encoding.UTF8.GetBytes(body), newlineDelimited, mayBackfill);

    public static ParseOutcome Parse(byte[] body, bool newlineDelimited = false, bool mayBackfill = false) =>
        EventParser.Parse(body, newlineDelimited, Enterprise, Now, mayBackfill);

    public static ParsedEvent Accepted(string body, bool mayBackfill = false)
    {
        ParsedBatch batch = Batch(Parse(body, mayBackfill: mayBackfill));
        Assert.Empty(batch.Rejected);
        return Assert.Single(batch.Accepted);
    }

    public static RejectedEvent Rejected(string body, bool mayBackfill = false)
    {
        ParsedBatch batch = Batch(Parse(body, mayBackfill: mayBackfill));
        Assert.Empty(batch.Accepted);
        return Assert.Single(batch.Rejected);
    }

    public static ParsedBatch Batch(ParseOutcome outcome)
    {
        Assert.Null(outcome.Problem);
        return Assert.IsType<ParsedBatch>(outcome.Batch);
    }

    /// <summary>An event with these members besides a userId and a featureName.</summary>
    public static string Event(string members) =>
        """{"userId":"ann","featureName":"export" """ + (members.Length > 0 ? "," + members : "") + "}";

    public static string Properties(string json) => Event("\"properties\":" + json);

    public static byte[] Gzip(byte[] plain) =>
        Compress(plain, stream => new GZipStream(stream, CompressionLevel.Fastest));

    public static byte[] Brotli(byte[] plain) =>
        Compress(plain, stream => new BrotliStream(stream, CompressionLevel.Fastest));

    public static HttpRequest Request(byte[] body, string? contentType, string? encoding, bool withLength = true)
    {
        var context = new DefaultHttpContext();
        context.Request.Body = new MemoryStream(body);
        context.Request.ContentType = contentType;
        context.Request.ContentLength = withLength ? body.Length : null;
        if (encoding is not null)
        {
            context.Request.Headers.ContentEncoding = encoding;
        }

        return context.Request;
    }

    public static async Task<BodyResult> ReadAsync(
        byte[] body,
        string? contentType = "application/json",
        string? encoding = null,
        bool withLength = true
    ) => await RequestBody.ReadAsync(Request(body, contentType, encoding, withLength), CancellationToken.None);

    private static byte[] Compress(byte[] plain, Func<Stream, Stream> compressor)
    {
        var compressed = new MemoryStream();
        using (Stream stream = compressor(compressed))
        {
            stream.Write(plain);
        }

        return compressed.ToArray();
    }
}
