namespace UsageMonitor.Bench;

/// <summary>How much a right alarm, a false one and a missed window weigh.</summary>
internal sealed record NabProfile(string Name, double Found, double FalseAlarm, double Missed)
{
    public static readonly NabProfile Standard = new("standard", 1, 0.11, 1);

    public static readonly IReadOnlyList<NabProfile> All =
    [
        Standard,
        new("reward low false positives", 1, 0.22, 1),
        new("reward low false negatives", 1, 0.11, 2),
    ];
}

/// <summary>One series with its scores and labelled windows.</summary>
/// <param name="Scores">Of every row.</param>
/// <param name="Windows">First and last row of each, in their order.</param>
internal sealed record NabSeries(
    string Name,
    IReadOnlyList<double> Scores,
    IReadOnlyList<(int First, int Last)> Windows
)
{
    private const double ProbationShare = 0.15;
    private const int ProbationRows = 5_000;

    /// <summary>The first row that counts: what comes before is there to learn from.</summary>
    public int FirstScored =>
        (int)Math.Ceiling(Math.Min(Math.Floor(ProbationShare * Scores.Count), ProbationShare * ProbationRows));
}

/// <param name="Score">0 for no alarm at all to 100 for every window found at its first row and no false alarm.</param>
/// <param name="Threshold">The score from which a row is an alarm; the best for the corpus.</param>
/// <param name="FalseAlarms">Rows outside windows at that threshold.</param>
internal sealed record NabResult(double Score, double Threshold, int FalseAlarms);

/// <summary>
/// The score of the Numenta Anomaly Benchmark as it is published: Lavin and Ahmad, «Evaluating Real-time Anomaly Detection Algorithms»
/// (2015), and the code of NAB 1.1.
/// </summary>
internal static class NabScore
{
    /// <summary>A threshold that no score reaches.</summary>
    private const double Never = 1.1;

    private const double Steepness = 5;
    private const double FarPast = 3;

    /// <summary>The value of an alarm at a position relative to a window: −1 its first row, 0 just after its last.</summary>
    public static double Sigmoid(double position) =>
        position > FarPast ? -1 : (2 / (1 + Math.Exp(Steepness * position))) - 1;

    public static NabResult Of(IReadOnlyList<NabSeries> corpus, NabProfile profile)
    {
        List<Row> rows = RowsOf(corpus, out int windows);
        var found = new Dictionary<int, double>();
        foreach (Row row in rows.Where(row => row.Window >= 0))
        {
            found[row.Window] = -profile.Missed;
        }

        double none = -profile.Missed * found.Count;
        double perfect = windows * profile.Found;
        double total = none;
        var best = new NabResult(0, Never, 0);
        double most = none;
        int alarms = 0;
        rows.Sort((left, right) => right.Score.CompareTo(left.Score));
        for (int i = 0; i < rows.Count; i++)
        {
            Row row = rows[i];
            if (row.Window < 0)
            {
                total += row.Value * profile.FalseAlarm;
                alarms++;
            }
            else if (row.Value * profile.Found > found[row.Window])
            {
                total += (row.Value * profile.Found) - found[row.Window];
                found[row.Window] = row.Value * profile.Found;
            }

            bool isWhole = i + 1 == rows.Count || rows[i + 1].Score != row.Score;
            if (isWhole && total > most)
            {
                most = total;
                best = new NabResult(100 * (total - none) / (perfect - none), row.Score, alarms);
            }
        }

        return best;
    }

    private static List<Row> RowsOf(IReadOnlyList<NabSeries> corpus, out int windows)
    {
        var rows = new List<Row>();
        windows = 0;
        foreach (NabSeries series in corpus)
        {
            for (int row = series.FirstScored; row < series.Scores.Count; row++)
            {
                rows.Add(RowOf(series, row, windows));
            }

            windows += series.Windows.Count;
        }

        return rows;
    }

    private static Row RowOf(NabSeries series, int row, int windowsBefore)
    {
        (int First, int Last)? past = null;
        for (int i = 0; i < series.Windows.Count; i++)
        {
            (int first, int last) = series.Windows[i];
            if (first <= row && row <= last)
            {
                double position = -(last - row + 1.0) / (last - first + 1.0);
                return new Row(series.Scores[row], windowsBefore + i, Sigmoid(position) / Sigmoid(-1));
            }

            past = last < row ? (first, last) : past;
        }

        double value = past is { } window ? Sigmoid((row - window.Last) / (double)(window.Last - window.First)) : -1;
        return new Row(series.Scores[row], -1, value);
    }

    private readonly record struct Row(double Score, int Window, double Value);
}
