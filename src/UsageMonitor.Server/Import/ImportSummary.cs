using System.Diagnostics;
using System.Globalization;

namespace UsageMonitor.Server.Import;

/// <summary>What became of an input, earlier runs that this one continues included.</summary>
internal sealed class ImportSummary(string name)
{
    private const int ExamplesMax = 5;
    private readonly long _started = Stopwatch.GetTimestamp();
    private readonly SortedDictionary<string, long> _rejected = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<RejectedLine>> _examples = [];
    private long _eventsBefore;

    /// <summary>Lines acknowledged, from the first on without a gap.</summary>
    public long Lines { get; private set; }

    public long LinesBefore { get; private set; }

    public long Accepted { get; private set; }

    public long WithoutEventId { get; private set; }

    public long RejectedCount => _rejected.Values.Sum();

    /// <summary>Events of this run alone.</summary>
    public long EventsOfRun => Accepted + RejectedCount - _eventsBefore;

    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(_started);

    public double EventsPerSecond => EventsOfRun / Math.Max(Elapsed.TotalSeconds, 0.001);

    public void ContinueFrom(ImportState state)
    {
        (Lines, LinesBefore, Accepted, WithoutEventId) = (
            state.Lines,
            state.Lines,
            state.Accepted,
            state.WithoutEventId
        );
        foreach ((string code, long count) in state.Rejected)
        {
            _rejected[code] = count;
        }

        _eventsBefore = Accepted + RejectedCount;
    }

    public void Add(ImportBatch batch, BatchOutcome outcome)
    {
        Lines = batch.LastLine;
        Accepted += outcome.Accepted;
        WithoutEventId += batch.WithoutEventId;
        foreach (RejectedLine line in outcome.Rejected)
        {
            _rejected[line.Code] = _rejected.GetValueOrDefault(line.Code) + 1;
            if (!_examples.TryGetValue(line.Code, out List<RejectedLine>? examples))
            {
                _examples[line.Code] = examples = [];
            }

            if (examples.Count < ExamplesMax)
            {
                examples.Add(line);
            }
        }
    }

    public ImportState Into(ImportState state) =>
        state with
        {
            Lines = Lines,
            Accepted = Accepted,
            WithoutEventId = WithoutEventId,
            Rejected = new Dictionary<string, long>(_rejected),
        };

    public void Write(TextWriter output, long retries)
    {
        CultureInfo plain = CultureInfo.InvariantCulture;
        output.WriteLine(name);
        string before = LinesBefore > 0 ? string.Create(plain, $"   ({LinesBefore:N0} by an earlier run)") : "";
        output.WriteLine(string.Create(plain, $"  lines     {Lines, 12:N0}{before}"));
        output.WriteLine(string.Create(plain, $"  accepted  {Accepted, 12:N0}"));
        output.WriteLine(string.Create(plain, $"  rejected  {RejectedCount, 12:N0}"));
        foreach ((string code, long count) in _rejected)
        {
            output.WriteLine(string.Create(plain, $"    {code} {count:N0}"));
            foreach (RejectedLine line in _examples.GetValueOrDefault(code) ?? [])
            {
                output.WriteLine(string.Create(plain, $"      line {line.Line}: {line.Detail}"));
            }
        }

        output.WriteLine(
            string.Create(plain, $"  duration  {Elapsed.TotalSeconds, 12:N1} s   {EventsPerSecond:N0} events/s")
        );
        if (retries > 0)
        {
            output.WriteLine(
                string.Create(plain, $"  repeated  {retries, 12:N0} requests, because the server was busy or away")
            );
        }

        if (WithoutEventId > 0)
        {
            output.WriteLine(
                string.Create(
                    plain,
                    $"  warning: {WithoutEventId:N0} lines have no eventId; sent again, they would be counted again."
                )
            );
        }
    }
}
