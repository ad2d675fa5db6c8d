using System.IO.Pipelines;
using Microsoft.Net.Http.Headers;

namespace UsageMonitor.Server.Ingestion;

/// <summary>Either the body, which the receiver disposes, or why the request is refused.</summary>
internal readonly record struct BodyResult(RequestBody? Body, IngestProblem? Problem)
{
    public static implicit operator BodyResult(IngestProblem problem) => new(null, problem);
}

/// <summary>
/// A request's body: decompressed, without a byte order mark, in one piece. It owns the bytes: parsed events point into
/// them, so it is disposed only when those events are no longer needed.
/// </summary>
internal sealed class RequestBody : IDisposable
{
    /// <summary>Both on the wire and after decompression.</summary>
    public const int BodyBytesMax = 16 * 1024 * 1024;

    // A larger body gets more room as it arrives: an announced length alone must not hold memory.
    private const int ReserveBytesMax = 1024 * 1024;
    private const int CompressionRatioExpected = 8;

    private static readonly string[] s_newlineDelimitedTypes =
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
    ];

    private readonly PooledBuffer _buffer;

    private RequestBody(PooledBuffer buffer, int skipBytes, bool newlineDelimited)
    {
        _buffer = buffer;
        Bytes = buffer.Written[skipBytes..];
        NewlineDelimited = newlineDelimited;
    }

    /// <summary>Never empty; not yet known to be JSON or even UTF-8.</summary>
    public ReadOnlyMemory<byte> Bytes { get; }

    /// <summary>One event a line (NDJSON); otherwise JSON.</summary>
    public bool NewlineDelimited { get; }

    /// <summary>
    /// Reads the body. Problems: 415 <c>unsupported_media_type</c> and <c>unsupported_encoding</c>, 413
    /// <c>body_too_large</c>, 400 <c>invalid_compression</c>, 400 <c>invalid_json</c> (empty, or UTF-16 or UTF-32), and what
    /// the server says of a request that is itself broken as <c>invalid_request</c>.
    /// </summary>
    public static async Task<BodyResult> ReadAsync(HttpRequest request, CancellationToken cancellationToken)
    {
        if (!TryReadMediaType(request.ContentType, out bool newlineDelimited))
        {
            return new IngestProblem(
                StatusCodes.Status415UnsupportedMediaType,
                IngestProblem.UnsupportedMediaType,
                "The Content-Type must be application/json or application/x-ndjson, in UTF-8."
            );
        }

        string encoding = request.Headers.ContentEncoding.ToString().Trim().ToLowerInvariant();
        if (encoding is not ("" or "identity" or "gzip" or "x-gzip" or "br"))
        {
            return new IngestProblem(
                StatusCodes.Status415UnsupportedMediaType,
                IngestProblem.UnsupportedEncoding,
                "The Content-Encoding must be gzip, br or absent."
            );
        }

        if (request.ContentLength > BodyBytesMax)
        {
            return TooLarge();
        }

        var buffer = new PooledBuffer(BodyBytesMax);
        try
        {
            IngestProblem? problem = await ReadWireAsync(request, buffer, cancellationToken);
            if (problem is null && buffer.Length > 0 && encoding is "gzip" or "x-gzip" or "br")
            {
                PooledBuffer wire = buffer;
                buffer = new PooledBuffer(BodyBytesMax);
                problem = Decompress(wire, encoding, buffer);
            }

            int skipBytes = 0;
            problem ??= CheckStart(buffer.Written.Span, out skipBytes);
            if (problem is not null)
            {
                return problem;
            }

            var body = new RequestBody(buffer, skipBytes, newlineDelimited);
            buffer = null;
            return new BodyResult(body, null);
        }
        finally
        {
            buffer?.Dispose();
        }
    }

    public void Dispose() => _buffer.Dispose();

    private static async Task<IngestProblem?> ReadWireAsync(
        HttpRequest request,
        PooledBuffer buffer,
        CancellationToken cancellationToken
    )
    {
        buffer.Reserve((int)Math.Min(request.ContentLength ?? 0, ReserveBytesMax));
        PipeReader reader = request.BodyReader;
        try
        {
            while (true)
            {
                ReadResult result = await reader.ReadAsync(cancellationToken);
                bool fits = true;
                foreach (ReadOnlyMemory<byte> piece in result.Buffer)
                {
                    fits = fits && buffer.TryAppend(piece.Span);
                }

                reader.AdvanceTo(result.Buffer.End);
                if (!fits)
                {
                    return TooLarge();
                }

                if (result.IsCompleted)
                {
                    return null;
                }
            }
        }
        catch (BadHttpRequestException exception)
        {
            return exception.StatusCode == StatusCodes.Status413PayloadTooLarge
                ? TooLarge()
                : new IngestProblem(exception.StatusCode, IngestProblem.InvalidRequest, exception.Message);
        }
    }

    private static IngestProblem? Decompress(PooledBuffer wire, string encoding, PooledBuffer output)
    {
        using (wire)
        {
            output.Reserve(Math.Min(wire.Length * CompressionRatioExpected, ReserveBytesMax));
            DecompressionResult result =
                encoding == "br" ? Brotli.Decompress(wire.Written.Span, output) : Gzip.Decompress(wire.Written, output);
            return result switch
            {
                DecompressionResult.Complete => null,
                DecompressionResult.TooLarge => TooLarge(),
                _ => new IngestProblem(
                    StatusCodes.Status400BadRequest,
                    IngestProblem.InvalidCompression,
                    $"The body is not complete, valid {(encoding == "br" ? "Brotli" : "gzip")}."
                ),
            };
        }
    }

    private static IngestProblem? CheckStart(ReadOnlySpan<byte> bytes, out int skipBytes)
    {
        skipBytes = bytes.StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF]) ? 3 : 0;
        if (bytes.Length == skipBytes)
        {
            return IngestProblem.NotJson("The body is empty.");
        }

        // UTF-32's little-endian mark begins with UTF-16's.
        bool wide =
            bytes.StartsWith((ReadOnlySpan<byte>)[0xFF, 0xFE])
            || bytes.StartsWith((ReadOnlySpan<byte>)[0xFE, 0xFF])
            || bytes.StartsWith((ReadOnlySpan<byte>)[0, 0, 0xFE, 0xFF]);
        return wide ? IngestProblem.NotJson("The body is UTF-16 or UTF-32; it must be UTF-8.") : null;
    }

    private static bool TryReadMediaType(string? contentType, out bool newlineDelimited)
    {
        newlineDelimited = false;
        if (!MediaTypeHeaderValue.TryParse(contentType, out MediaTypeHeaderValue? type))
        {
            return false;
        }

        string charset = HeaderUtilities.RemoveQuotes(type.Charset).ToString();
        if (charset.Length > 0 && !charset.Equals("utf-8", StringComparison.OrdinalIgnoreCase))
        {
            return false;
        }

        string mediaType = type.MediaType.ToString();
        newlineDelimited = s_newlineDelimitedTypes.Contains(mediaType, StringComparer.OrdinalIgnoreCase);
        return newlineDelimited || mediaType.Equals("application/json", StringComparison.OrdinalIgnoreCase);
    }

    private static IngestProblem TooLarge() =>
        new(
            StatusCodes.Status413PayloadTooLarge,
            IngestProblem.BodyTooLarge,
            $"The body exceeds {BodyBytesMax / 1024 / 1024} MB, on the wire or decompressed. Send fewer events per request."
        );
}
