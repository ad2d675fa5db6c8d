using System.Diagnostics;
using System.Globalization;

namespace UsageMonitor.Server.Import;

/// <summary>A bar on a terminal, otherwise a plain line every few seconds.</summary>
internal sealed class ImportProgress(ImportFile file, ImportSummary summary, TextWriter error, bool isTerminal)
    : IDisposable
{
    private const int BarLetters = 30;
    private const int BarMilliseconds = 100;
    private const int LineMilliseconds = 5_000;
    private long _shownAt = Stopwatch.GetTimestamp();
    private long? _startedAtBytes;
    private int _width;

    public void Show(long inputBytesRead)
    {
        // What an earlier run had acknowledged is passed over fast and would flatter the estimate.
        _startedAtBytes ??= summary.LinesBefore > 0 ? inputBytesRead : 0;
        if (Stopwatch.GetElapsedTime(_shownAt).TotalMilliseconds < (isTerminal ? BarMilliseconds : LineMilliseconds))
        {
            return;
        }

        _shownAt = Stopwatch.GetTimestamp();
        string line = Describe(inputBytesRead);
        if (isTerminal)
        {
            error.Write('\r' + line.PadRight(_width));
            _width = line.Length;
        }
        else
        {
            error.WriteLine(line);
        }
    }

    /// <summary>Clears the bar.</summary>
    public void Dispose()
    {
        if (_width > 0)
        {
            error.Write('\r' + new string(' ', _width) + '\r');
        }
    }

    private string Describe(long read)
    {
        CultureInfo plain = CultureInfo.InvariantCulture;
        string counts = string.Create(
            plain,
            $"{summary.Accepted + summary.RejectedCount:N0} events  {summary.EventsPerSecond:N0}/s"
        );
        if (file.LengthBytes is not > 0)
        {
            return $"{file.Name}  {counts}";
        }

        long length = file.LengthBytes.Value;
        double share = Math.Clamp((double)read / length, 0, 1);
        double sinceStart = read - (_startedAtBytes ?? 0);
        string left = sinceStart > 0 ? Clock(summary.Elapsed * ((length - read) / sinceStart)) : "?";
        int filled = (int)(share * BarLetters);
        string bar = isTerminal ? $"[{new string('#', filled)}{new string('.', BarLetters - filled)}] " : "";
        return string.Create(plain, $"{file.Name}  {bar}{share * 100:0} %  {counts}  {left} left");
    }

    private static string Clock(TimeSpan span) =>
        span.TotalHours >= 1
            ? span.ToString(@"h\:mm\:ss", CultureInfo.InvariantCulture)
            : span.ToString(@"m\:ss", CultureInfo.InvariantCulture);
}
