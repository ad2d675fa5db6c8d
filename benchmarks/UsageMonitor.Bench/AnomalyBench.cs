using System.Buffers;
using System.Diagnostics;
using System.Globalization;
using UsageMonitor.Server.Anomalies.Detection;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench anomaly</c>: every series of a folder, one sample at a time, through a detector of its own, all with one setting; and the
/// score by the Numenta Anomaly Benchmark if the folder has labels. In one thread, without a database or server.
/// </summary>
internal sealed class AnomalyBench(Options options, TextWriter progress)
{
    private const double ScoreTarget = 70;
    private const double MicrosecondsTarget = 20;

    public Report Run()
    {
        NabCorpus corpus = NabCorpus.Read(options.Input!);
        var report = new Report();
        var scored = new List<(NabFile File, NabSeries Series)>();
        long samples = 0;
        long ticks = 0;
        double bytes = 0;
        _ = ScoresOf(corpus.Files[0], out _, out _); // compiles it
        foreach (NabFile file in corpus.Files)
        {
            double[] scores = ScoresOf(file, out long took, out int size);
            samples += scores.Length;
            ticks += took;
            bytes = Math.Max(bytes, size);
            file.Write(options.Output!, scores);
            if (corpus.Windows?.TryGetValue(file.Name, out string[][]? windows) == true)
            {
                scored.Add((file, new NabSeries(file.Name, scores, [.. windows.Select(file.RowsOf).Order()])));
            }
            else if (corpus.Windows is not null)
            {
                report.Note($"{file.Name} has no entry among the labels: not scored");
            }
        }

        progress.WriteLine($"{corpus.Files.Count} series written to {options.Output}");
        Score(report, scored);
        double microseconds = ticks * 1e6 / Stopwatch.Frequency / samples;
        report.Add(new Measure("A sample (µs)", [microseconds], "≤ 20", value => value <= MicrosecondsTarget));
        report.Add(
            new Measure("A series, stored (bytes)", [bytes], "≤ 4,096", value => value <= SeriesDetector.StateBytesMax)
        );
        report.Add(
            new Measure(
                "A series, in memory (bytes)",
                [BytesInMemory()],
                "≤ 4,096",
                value => value <= SeriesDetector.StateBytesMax
            )
        );
        report.Note(Invariant($"{corpus.Files.Count} series, {samples:N0} samples, one setting for all."));
        return report;
    }

    private static void Score(Report report, List<(NabFile File, NabSeries Series)> scored)
    {
        if (scored.Count == 0)
        {
            report.Note("No score: the input has no combined_windows.json with labels of its series.");
            return;
        }

        NabSeries[] series = [.. scored.Select(one => one.Series)];
        foreach (NabProfile profile in NabProfile.All)
        {
            NabResult result = NabScore.Of(series, profile);
            bool isStandard = profile == NabProfile.Standard;
            report.Add(
                new Measure(
                    $"NAB, {profile.Name}",
                    [result.Score],
                    isStandard ? "> 70" : null,
                    isStandard ? value => value > ScoreTarget : null
                )
            );
            report.Note(
                Invariant(
                    $"{profile.Name}: threshold {result.Threshold:0.0000}, {result.FalseAlarms} rows of false alarm"
                )
            );
            if (isStandard)
            {
                double weeks = scored.Sum(one => one.File.Weeks(one.Series.FirstScored));
                report.Add(new Measure("False alarms per series and week, standard", [result.FalseAlarms / weeks]));
                Missed(report, series, result.Threshold);
            }
        }
    }

    private static void Missed(Report report, NabSeries[] corpus, double threshold)
    {
        int windows = corpus.Sum(series => series.Windows.Count);
        var missed = corpus
            .Select(series =>
                (
                    series.Name,
                    Count: series.Windows.Count(window =>
                        !series
                            .Scores.Skip(Math.Max(window.First, series.FirstScored))
                            .Take(window.Last + 1 - Math.Max(window.First, series.FirstScored))
                            .Any(score => score >= threshold)
                    )
                )
            )
            .Where(one => one.Count > 0)
            .ToList();
        report.Note(
            Invariant($"{missed.Sum(one => one.Count)} of {windows} windows missed: ")
                + string.Join(", ", missed.Select(one => $"{one.Name} {one.Count}"))
        );
    }

    private static double[] ScoresOf(NabFile file, out long ticks, out int bytes)
    {
        var detector = new SeriesDetector();
        double[] scores = new double[file.Values.Length];
        long started = Stopwatch.GetTimestamp();
        for (int row = 0; row < scores.Length; row++)
        {
            scores[row] = detector.Observe(file.UnixSeconds[row], file.Values[row]).Score;
        }

        ticks = Stopwatch.GetTimestamp() - started;
        var state = new ArrayBufferWriter<byte>();
        detector.WriteTo(state);
        bytes = state.WrittenCount;
        return scores;
    }

    private static double BytesInMemory()
    {
        const int Detectors = 100;
        var detectors = new SeriesDetector[Detectors];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Detectors; i++)
        {
            detectors[i] = new SeriesDetector();
        }

        double bytes = (GC.GetAllocatedBytesForCurrentThread() - before) / (double)Detectors;
        GC.KeepAlive(detectors);
        return bytes;
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
