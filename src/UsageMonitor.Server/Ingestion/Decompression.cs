using System.Buffers;
using System.IO.Compression;

namespace UsageMonitor.Server.Ingestion;

internal enum DecompressionResult
{
    /// <summary>All of the input was used and its end was reached.</summary>
    Complete,

    /// <summary>The output would exceed the buffer's limit.</summary>
    TooLarge,

    /// <summary>Corrupt, cut off, or followed by something else.</summary>
    Invalid,
}

/// <summary>Brotli (RFC 7932), whole or not at all.</summary>
/// <remarks>
/// <see cref="BrotliStream"/> reports a stream that was cut off as one that has ended, and ignores what follows it
/// (measured with .NET 10.0). <see cref="BrotliDecoder"/> tells both.
/// </remarks>
internal static class Brotli
{
    public static DecompressionResult Decompress(ReadOnlySpan<byte> compressed, PooledBuffer output)
    {
        var decoder = new BrotliDecoder();
        try
        {
            while (true)
            {
                Span<byte> free = output.Free();
                OperationStatus status = decoder.Decompress(compressed, free, out int consumed, out int written);
                output.Advance(written);
                compressed = compressed[consumed..];
                switch (status)
                {
                    case OperationStatus.Done:
                        return compressed.IsEmpty ? DecompressionResult.Complete : DecompressionResult.Invalid;
                    case OperationStatus.DestinationTooSmall when free.IsEmpty:
                        return DecompressionResult.TooLarge;
                    case OperationStatus.DestinationTooSmall:
                        break;
                    default:
                        return DecompressionResult.Invalid;
                }
            }
        }
        finally
        {
            decoder.Dispose();
        }
    }
}
