using System.Globalization;
using System.IO.Compression;
using System.Text.Json;

namespace UsageMonitor.Bench;

/// <summary>One file of a corpus.</summary>
/// <param name="Path">Relative to the corpus, as the file is named.</param>
/// <param name="Texts">The timestamps as they are written.</param>
internal sealed record NabFile(string Path, IReadOnlyList<string> Texts, long[] UnixSeconds, double[] Values)
{
    private const string Packed = ".gz";

    /// <summary>As the labels name it: without <c>.gz</c>.</summary>
    public string Name => Path.EndsWith(Packed, StringComparison.Ordinal) ? Path[..^Packed.Length] : Path;

    public double Weeks(int firstRow) =>
        firstRow < UnixSeconds.Length ? (UnixSeconds[^1] - UnixSeconds[firstRow]) / (7 * 86_400.0) : 0;

    /// <exception cref="BenchException">The file is not of <c>timestamp,value</c>.</exception>
    public static NabFile Read(string folder, string path)
    {
        using FileStream file = File.OpenRead(System.IO.Path.Combine(folder, path));
        using var reader = new StreamReader(IsPacked(path) ? new GZipStream(file, CompressionMode.Decompress) : file);
        var texts = new List<string>();
        var seconds = new List<long>();
        var values = new List<double>();
        reader.ReadLine();
        while (reader.ReadLine() is { } line)
        {
            string[] cells = line.Split(',');
            if (line.Length == 0)
            {
                continue;
            }

            if (
                cells.Length < 2
                || !TryRead(cells[0], out long time)
                || !double.TryParse(cells[1], NumberStyles.Float, CultureInfo.InvariantCulture, out double value)
            )
            {
                throw new BenchException($"{path}, row {texts.Count + 1}: «{line}» is not timestamp,value");
            }

            texts.Add(cells[0]);
            seconds.Add(time);
            values.Add(value);
        }

        return new NabFile(path, texts, [.. seconds], [.. values]);
    }

    public void Write(string folder, IReadOnlyList<double> scores)
    {
        string path = System.IO.Path.Combine(folder, Path);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        using FileStream file = File.Create(path);
        using var writer = new StreamWriter(IsPacked(Path) ? new GZipStream(file, CompressionLevel.Fastest) : file);
        writer.Write("timestamp,value,anomaly_score\n");
        for (int row = 0; row < Values.Length; row++)
        {
            writer.Write(
                string.Create(CultureInfo.InvariantCulture, $"{Texts[row]},{Values[row]:R},{scores[row]:R}\n")
            );
        }
    }

    /// <summary>The rows of a window's ends, each the first of its time.</summary>
    /// <exception cref="BenchException">The window does not begin and end with a row.</exception>
    public (int First, int Last) RowsOf(string[] window)
    {
        int Row(string text) =>
            TryRead(text, out long time) && Array.IndexOf(UnixSeconds, time) is >= 0 and int row
                ? row
                : throw new BenchException($"{Name} has no row of {text}, which a window names");
        return (Row(window[0]), Row(window[1]));
    }

    private static bool IsPacked(string path) => path.EndsWith(Packed, StringComparison.Ordinal);

    private static bool TryRead(string text, out long unixSeconds)
    {
        bool isTime = DateTimeOffset.TryParse(
            text,
            CultureInfo.InvariantCulture,
            DateTimeStyles.AssumeUniversal,
            out DateTimeOffset time
        );
        unixSeconds = time.ToUnixTimeSeconds();
        return isTime;
    }
}

/// <summary>A folder of <c>category/name.csv[.gz]</c>, and the labelled windows if it has them.</summary>
internal sealed record NabCorpus(IReadOnlyList<NabFile> Files, IReadOnlyDictionary<string, string[][]>? Windows)
{
    private const string WindowsFile = "combined_windows.json";

    /// <exception cref="BenchException">There is no series in the folder.</exception>
    public static NabCorpus Read(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new BenchException($"there is no folder {folder}");
        }

        List<NabFile> files =
        [
            .. Directory
                .EnumerateFiles(folder, "*", SearchOption.AllDirectories)
                .Select(path => Path.GetRelativePath(folder, path).Replace('\\', '/'))
                .Where(path =>
                    path.EndsWith(".csv", StringComparison.Ordinal)
                    || path.EndsWith(".csv.gz", StringComparison.Ordinal)
                )
                .Order(StringComparer.Ordinal)
                .Select(path => NabFile.Read(folder, path)),
        ];
        if (files.Count == 0)
        {
            throw new BenchException($"{folder} has no .csv or .csv.gz");
        }

        string? labels = new[]
        {
            Path.Combine(folder, WindowsFile),
            Path.Combine(folder, "labels", WindowsFile),
        }.FirstOrDefault(File.Exists);
        return new NabCorpus(
            files,
            labels is null ? null : JsonSerializer.Deserialize<Dictionary<string, string[][]>>(File.ReadAllText(labels))
        );
    }
}
