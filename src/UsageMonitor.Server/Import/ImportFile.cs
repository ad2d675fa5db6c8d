using System.Buffers;
using System.IO.Compression;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Import;

/// <summary>An input of one JSON event a line, read as a stream of batches; gzip is recognised by its first bytes.</summary>
internal sealed class ImportFile : IAsyncDisposable
{
    public const string StandardInput = "-";

    /// <summary>The server takes 16 MB; half of it leaves room and keeps a repetition cheap.</summary>
    public const int BatchBytesMax = 8 << 20;

    /// <summary>The server refuses an event over 32 KB; a line so much longer is refused here, without holding it.</summary>
    public const int LineBytesMax = 1 << 20;

    private readonly Stream _input;
    private long _bytesRead;

    private ImportFile(string name, Stream input, long? length)
    {
        (Name, _input, LengthBytes) = (name, input, length);
    }

    public string Name { get; }

    /// <summary>Bytes on disk, or null of a pipe.</summary>
    public long? LengthBytes { get; }

    public static ImportFile Open(string path)
    {
        if (path == StandardInput)
        {
            return new ImportFile("standard input", Console.OpenStandardInput(), null);
        }

        var file = new FileStream(
            path,
            new FileStreamOptions { Options = FileOptions.SequentialScan | FileOptions.Asynchronous }
        );
        return new ImportFile(Path.GetFileName(path), file, file.Length);
    }

    public ValueTask DisposeAsync() => _input.DisposeAsync();

    /// <param name="afterLine">Lines to pass over: those acknowledged by an earlier run.</param>
    /// <exception cref="InvalidDataException">The gzip stream is damaged or ends early.</exception>
    public async IAsyncEnumerable<ImportBatch> ReadBatchesAsync(
        long afterLine,
        int eventsMax,
        [EnumeratorCancellation] CancellationToken cancel
    )
    {
        PipeReader lines = await OpenLinesAsync(cancel);
        var batch = new ImportBatch();
        long line = 0;
        bool tooLong = false;
        bool ended = false;
        while (!ended)
        {
            ReadResult read = await lines.ReadAsync(cancel);
            ReadOnlySequence<byte> rest = read.Buffer;
            ended = read.IsCompleted;
            while (TryTakeLine(ref rest, ended, out ReadOnlySequence<byte> json))
            {
                line++;
                if (line > afterLine)
                {
                    json = Trimmed(json, isFirst: line == 1);
                    bool full = batch.Events > 0 && batch.BodyBytes + json.Length >= BatchBytesMax;
                    if (full || batch.Events == eventsMax)
                    {
                        yield return Finished(batch, line - 1);
                        batch = new ImportBatch();
                    }

                    if (tooLong || json.Length > LineBytesMax)
                    {
                        string detail = $"The line is longer than {LineBytesMax} bytes.";
                        batch.RejectedHere.Add(new RejectedLine(line, RejectionCodes.EventTooLarge, detail));
                    }
                    else if (json.Length > 0)
                    {
                        batch.Add(line, json);
                    }
                }

                tooLong = false;
            }

            if (rest.Length > LineBytesMax)
            {
                tooLong = true;
                rest = rest.Slice(rest.End);
            }

            lines.AdvanceTo(rest.Start, rest.End);
        }

        if (tooLong)
        {
            // The input ended inside an overlong line whose bytes were let go.
            string detail = $"The line is longer than {LineBytesMax} bytes.";
            batch.RejectedHere.Add(new RejectedLine(++line, RejectionCodes.EventTooLarge, detail));
        }

        if (line > afterLine)
        {
            yield return Finished(batch, line);
        }
    }

    private ImportBatch Finished(ImportBatch batch, long lastLine)
    {
        batch.LastLine = lastLine;
        batch.InputBytesRead = Interlocked.Read(ref _bytesRead);
        return batch;
    }

    private async Task<PipeReader> OpenLinesAsync(CancellationToken cancel)
    {
        const int ReadBytes = 64 << 10;
        PipeReader raw = PipeReader.Create(
            new CountingStream(_input, bytes => Interlocked.Add(ref _bytesRead, bytes)),
            new StreamPipeReaderOptions(bufferSize: ReadBytes)
        );
        ReadResult head = await raw.ReadAtLeastAsync(2, cancel);
        bool gzip = StartsAsGzip(head.Buffer);
        raw.AdvanceTo(head.Buffer.Start);
        return gzip
            ? PipeReader.Create(
                new GZipStream(raw.AsStream(), CompressionMode.Decompress),
                new StreamPipeReaderOptions(bufferSize: ReadBytes)
            )
            : raw;
    }

    private static bool StartsAsGzip(in ReadOnlySequence<byte> head)
    {
        Span<byte> magic = stackalloc byte[2];
        if (head.Length < magic.Length)
        {
            return false;
        }

        head.Slice(0, magic.Length).CopyTo(magic);
        return magic is [0x1f, 0x8b];
    }

    private static bool TryTakeLine(ref ReadOnlySequence<byte> rest, bool ended, out ReadOnlySequence<byte> line)
    {
        if (rest.PositionOf((byte)'\n') is { } newline)
        {
            line = rest.Slice(0, newline);
            rest = rest.Slice(rest.GetPosition(1, newline));
            return true;
        }

        // The last line needs no newline.
        line = rest;
        bool isLast = ended && rest.Length > 0;
        if (isLast)
        {
            rest = rest.Slice(rest.End);
        }

        return isLast;
    }

    /// <summary>Without a byte order mark and the white space around; blank lines become empty.</summary>
    private static ReadOnlySequence<byte> Trimmed(ReadOnlySequence<byte> line, bool isFirst)
    {
        var reader = new SequenceReader<byte>(line);
        if (isFirst)
        {
            reader.IsNext([0xef, 0xbb, 0xbf], advancePast: true);
        }

        reader.AdvancePastAny((byte)' ', (byte)'\t', (byte)'\r');
        ReadOnlySequence<byte> rest = reader.UnreadSequence;
        return rest.Length > 0 && rest.Slice(rest.Length - 1).FirstSpan[0] == (byte)'\r'
            ? rest.Slice(0, rest.Length - 1)
            : rest;
    }
}
