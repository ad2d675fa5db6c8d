using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace UsageMonitor.Bench;

/// <summary>One line of the table.</summary>
/// <param name="Name">What was measured, with its unit.</param>
/// <param name="Rounds">A value of each round.</param>
/// <param name="Target">What it should be, as text, or null.</param>
/// <param name="Met">Whether a median meets the target.</param>
/// <param name="IsRate">Whether it is set against the one-stream <c>COPY</c>.</param>
internal sealed record Measure(
    string Name,
    IReadOnlyList<double> Rounds,
    string? Target = null,
    Func<double, bool>? Met = null,
    bool IsRate = false
)
{
    public double Median
    {
        get
        {
            double[] sorted = [.. Rounds.Order()];
            int middle = sorted.Length / 2;
            return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
        }
    }
}

/// <summary>Collects what was measured, prints it as Markdown and leaves it as JSON.</summary>
internal sealed class Report
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { WriteIndented = true };
    private readonly List<Measure> _measures = [];
    private readonly List<string> _notes = [];

    /// <summary>The median of the one-stream <c>COPY</c>, once it is known.</summary>
    public double? CopyRowsPerSecond { get; set; }

    public bool AllMet =>
        _measures.TrueForAll(measure => measure.Met is null || measure.Met(measure.Median)) && !IsSpoilt;

    /// <summary>Events were lost or counted twice: the numbers say nothing.</summary>
    public bool IsSpoilt { get; private set; }

    public void Add(Measure measure) => _measures.Add(measure);

    public void Note(string note) => _notes.Add(note);

    public void Spoil(string why)
    {
        IsSpoilt = true;
        _notes.Add("**WRONG** " + why);
    }

    public void Print(TextWriter output)
    {
        output.WriteLine();
        output.WriteLine(Machine());
        output.WriteLine();
        output.WriteLine("| what | median | min – max | of one-stream COPY | target | |");
        output.WriteLine("| --- | ---: | ---: | ---: | ---: | --- |");
        foreach (Measure measure in _measures)
        {
            string ratio =
                measure.IsRate && CopyRowsPerSecond is { } copy
                    ? (measure.Median / copy).ToString("0.00", CultureInfo.InvariantCulture)
                    : "";
            string range = $"{Text(measure.Rounds.Min())} – {Text(measure.Rounds.Max())}";
            string met =
                measure.Met is null ? ""
                : measure.Met(measure.Median) ? "met"
                : "**missed**";
            output.WriteLine(
                $"| {measure.Name} | {Text(measure.Median)} | {range} | {ratio} | {measure.Target} | {met} |"
            );
        }

        output.WriteLine();
        foreach (string note in _notes)
        {
            output.WriteLine($"- {note}");
        }
    }

    /// <returns>The file's path.</returns>
    public string Save(string folder, Options options)
    {
        Directory.CreateDirectory(folder);
        DateTime now = DateTime.UtcNow;
        string path = Path.Combine(folder, $"{options.What}-{now:yyyyMMdd-HHmmss}.json");
        var content = new
        {
            At = now,
            Machine = Machine(),
            Options = options,
            IsSpoilt,
            Measures = _measures.Select(measure => new
            {
                measure.Name,
                measure.Median,
                measure.Rounds,
                measure.Target,
                Met = measure.Met?.Invoke(measure.Median),
                OfCopy = measure.IsRate ? measure.Median / CopyRowsPerSecond : null,
            }),
            Notes = _notes,
        };
        File.WriteAllText(path, JsonSerializer.Serialize(content, Json));
        return path;
    }

    public static string Text(double value) =>
        value.ToString(
            Math.Abs(value) switch
            {
                >= 100 => "N0",
                >= 10 => "0.0",
                _ => "0.00",
            },
            CultureInfo.InvariantCulture
        );

    private static string Machine()
    {
        string model =
            File.ReadLines("/proc/cpuinfo")
                .FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))
                ?.Split(':')[1]
                .Trim()
            ?? RuntimeInformation.ProcessArchitecture.ToString();
        string kernel = File.ReadAllText("/proc/sys/kernel/osrelease").Trim();
        long memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes >> 30;
        return $"{model}, {Environment.ProcessorCount} cores, {memory} GB, Linux {kernel}, .NET {Environment.Version}; "
            + "load generator, server and PostgreSQL on the same machine";
    }
}
