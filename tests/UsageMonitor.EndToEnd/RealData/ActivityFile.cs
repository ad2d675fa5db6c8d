using System.Globalization;
using System.IO.Compression;
using System.Text.Json;
using UsageMonitor.EndToEnd.Counting;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.RealData;

/// <summary>A file of activity, one enterprise's.</summary>
internal sealed record ActivityFile(string Path)
{
    private const string Pattern = "*.ndjson.gz";
    private const int SampleSeed = 20_150_517;

    /// <summary>From 2014 on: none of it is in the future.</summary>
    private const int SampleDaysMax = 3_600;

    private static readonly string[] s_sampleNames = ["bakery", "clinic", "ferry", "museum", "quarry", "radio"];
    private static readonly string[] s_sampleTypes = ["add", "change", "use"];

    public string Name => System.IO.Path.GetFileName(Path).Split('.')[0];

    /// <summary>The real files where there are any, else files of our own making in a folder.</summary>
    public static (IReadOnlyList<ActivityFile> Files, string Source) FindOrMake(TemporaryFolder folder)
    {
        if (Directory.Exists(Repository.ActivityFolder))
        {
            string[] real = Directory.GetFiles(Repository.ActivityFolder, Pattern);
            return (
                [.. real.Order(StringComparer.Ordinal).Select(path => new ActivityFile(path))],
                Repository.ActivityFolder
            );
        }

        var random = new Random(SampleSeed);
        var made = s_sampleNames.Select(name => Make(folder.File(name + ".ndjson.gz"), random)).ToList();
        return (made, $"a sample of our own, since there is no {Repository.ActivityFolder}");
    }

    /// <summary>The events as they stand in the file.</summary>
    public IEnumerable<Usage> Read()
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(Path), CompressionMode.Decompress));
        while (reader.ReadLine() is { } line)
        {
            using var usage = JsonDocument.Parse(line);
            JsonElement fields = usage.RootElement;
            yield return new Usage(
                fields.GetProperty("userId").GetString()!,
                fields.GetProperty("featureName").GetString()!,
                DateTimeOffset.Parse(fields.GetProperty("eventTimestamp").GetString()!, CultureInfo.InvariantCulture)
            );
        }
    }

    // Shaped like the real ones: people of many offsets, few features used often and many seldom, years of history.
    private static ActivityFile Make(string path, Random random)
    {
        string[] users =
        [
            .. Enumerable
                .Range(0, random.Next(20, 200))
                .Select(i => i % 3 == 0 ? $"person-{i}@{System.IO.Path.GetFileName(path)}.example" : NextId(random)),
        ];
        string[] features = [.. Enumerable.Range(0, random.Next(10, 40)).Select(i => $"feature {i} – ü")];
        var at = new DateTimeOffset(2014, 2, 6, 0, 0, 0, TimeSpan.Zero);
        using var writer = new StreamWriter(new GZipStream(File.Create(path), CompressionLevel.Fastest));
        int events = random.Next(1_000, 3_000);
        double meanStepDays = random.Next(2_000, SampleDaysMax) / (double)events;
        for (int i = 0; i < events; i++)
        {
            // Mostly minutes apart, now and then weeks: the mean of x⁸ over 0–1 is a ninth.
            at += TimeSpan.FromMilliseconds(
                Math.Floor(Math.Pow(random.NextDouble(), 8) * 9 * meanStepDays * TimeSpan.FromDays(1).TotalMilliseconds)
            );
            DateTimeOffset shown = at.ToOffset(TimeSpan.FromMinutes(30 * random.Next(-24, 29)));
            writer.WriteLine(
                JsonSerializer.Serialize(
                    new
                    {
                        eventId = NextId(random),
                        userId = users[(int)(Math.Pow(random.NextDouble(), 3) * users.Length)],
                        featureName = features[(int)(Math.Pow(random.NextDouble(), 2) * features.Length)],
                        eventType = s_sampleTypes[random.Next(s_sampleTypes.Length)],
                        eventTimestamp = shown.ToString("yyyy-MM-ddTHH:mm:ss.fffzzz", CultureInfo.InvariantCulture),
                        properties = new { files = random.Next(100) },
                    }
                )
            );
        }

        return new ActivityFile(path);
    }

    private static string NextId(Random random)
    {
        byte[] bytes = new byte[16];
        random.NextBytes(bytes);
        return new Guid(bytes).ToString();
    }
}
