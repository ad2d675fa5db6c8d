using System.Buffers;

namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>
/// Learns what is usual in one series, sample by sample, and says how unusual each sample is by all that came before it. Samples come
/// in the order of their time, about regularly; a gap is no sample. Memory is constant. One setting serves all series. Not thread-safe.
/// The method and what it was measured with: <c>docs/decisions/0014-anomaly-detection.md</c>.
/// </summary>
internal sealed class SeriesDetector
{
    /// <summary>The most bytes that <see cref="WriteTo"/> writes.</summary>
    public const int StateBytesMax = 4_096;

    /// <summary>Samples beyond it, either side of zero, are refused: their squares must remain numbers.</summary>
    public const double ValueMax = 1e30;

    /// <summary>A week of hours: before it, a weekend is news.</summary>
    public const int SamplesOfWarmUp = 168;

    /// <summary>Two days: before it, so is a night.</summary>
    public const long SecondsOfWarmUp = 2 * 86_400;

    /// <summary>
    /// The evidence that scores a half: one as strange is to be expected in a hundred such histories.
    /// </summary>
    private const double EvidenceOfHalf = 2;

    /// <summary>A mean absolute error is 0.8 of a standard deviation; three of them hold 98 of 100 normal samples.</summary>
    private const double ErrorsOfRange = 3;

    private const int Silence = 3;

    private DetectorState _state;

    public SeriesDetector() { }

    /// <summary>Takes in a sample.</summary>
    /// <param name="unixSeconds">Its time.</param>
    /// <param name="value">The sample.</param>
    /// <param name="sensitivity">Moves what is held for an anomaly; neither what is learned nor the score.</param>
    /// <returns>What is to be said of it by all that came before.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The value is no number or beyond <see cref="ValueMax"/>.</exception>
    public SampleVerdict Observe(long unixSeconds, double value, double sensitivity = Sensitivities.Normal) =>
        Step(ref _state, unixSeconds, value, sensitivity);

    /// <summary>What <see cref="Observe"/> would say of a sample, learning nothing: for an hour that is still running.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is no number or beyond <see cref="ValueMax"/>.</exception>
    public SampleVerdict Expect(long unixSeconds, double value, double sensitivity = Sensitivities.Normal)
    {
        DetectorState copy = _state;
        return Step(ref copy, unixSeconds, value, sensitivity);
    }

    /// <summary>Writes all it knows, at most <see cref="StateBytesMax"/> bytes.</summary>
    public void WriteTo(IBufferWriter<byte> writer)
    {
        writer.Write([DetectorState.Version]);
        writer.Write(DetectorState.BytesOf(ref _state));
    }

    /// <summary>The detector that wrote the state.</summary>
    /// <exception cref="FormatException">No state of this version.</exception>
    public static SeriesDetector Read(ReadOnlySpan<byte> state)
    {
        var detector = new SeriesDetector();
        Span<byte> bytes = DetectorState.BytesOf(ref detector._state);
        if (state.Length != bytes.Length + 1 || state[0] != DetectorState.Version)
        {
            throw new FormatException("This is no state of an anomaly detector, or one of another version.");
        }

        state[1..].CopyTo(bytes);
        return detector._state.IsSound
            ? detector
            : throw new FormatException("The state of an anomaly detector is damaged.");
    }

    private static SampleVerdict Step(ref DetectorState state, long unixSeconds, double value, double sensitivity)
    {
        if (!(Math.Abs(value) <= ValueMax))
        {
            throw new ArgumentOutOfRangeException(nameof(value), value, $"A sample is a number of at most {ValueMax}.");
        }

        double threshold = Sensitivities.ThresholdOf(sensitivity);
        if (state.Samples == 0)
        {
            state.FirstSeconds = unixSeconds;
            state.Previous = value;
        }

        long samples = state.Samples;
        bool isWarmingUp = samples < SamplesOfWarmUp || unixSeconds - state.FirstSeconds < SecondsOfWarmUp;
        Expectation expectation = samples == 0 ? new(value, 0, IsHourly: false) : state.Rhythm.Expect(unixSeconds);
        (double plain, double rhythmic) = Weigh(ref state, value, expectation, isWarmingUp, out bool isSilence);
        // Where the hours foretell the series, what they did not foretell is what counts.
        double evidence = state.Hold.News(expectation.IsHourly ? rhythmic : state.Usual.Discount(unixSeconds, plain));
        state.Rhythm.Learn(unixSeconds, value, expectation, samples);
        bool isSame = value == state.Previous;
        state.Previous = value;
        state.Samples++;

        double score = evidence / (evidence + EvidenceOfHalf);
        SampleKind kind =
            evidence == 0 || score < threshold ? SampleKind.Normal
            : (value == 0 && expectation.Expected > 0) || (isSilence && isSame && !expectation.IsHourly)
                ? SampleKind.Stopped
            : value < expectation.Expected ? SampleKind.Drop
            : SampleKind.Spike;
        double half = ErrorsOfRange * expectation.Error;
        double low = expectation.Expected - half;
        return new SampleVerdict(
            kind,
            score,
            expectation.Expected,
            state.Rhythm.IsNeverNegative ? Math.Max(0, low) : low,
            expectation.Expected + half,
            isWarmingUp
        );
    }

    /// <returns>The evidence of the sample's looks and of its hour, each less what so many samples bring forth by chance.</returns>
    private static (double Plain, double Rhythmic) Weigh(
        ref DetectorState state,
        double value,
        in Expectation expectation,
        bool isWarmingUp,
        out bool isSilence
    )
    {
        bool fades = state.Samples > Tail.SamplesOfMemory;
        Span<double> strangeness = stackalloc double[Tails.Count];
        state.Views.Look(value, state.Samples, fades, strangeness);
        strangeness[Views.Count] = expectation.StrangenessOf(value);
        strangeness[Views.Count + 1] = state.Rhythm.LeanWith(value, expectation);
        double plain = 0;
        double rhythmic = 0;
        double most = 0;
        isSilence = false;
        Span<Tail> tails = state.Tails.AsSpan();
        for (int view = 0; view < Tails.Count; view++)
        {
            double one = isWarmingUp ? 0 : tails[view].EvidenceOf(strangeness[view]);
            if (view < Views.Count)
            {
                tails[view].Add(strangeness[view]);
                plain += one;
                isSilence = one > most ? view == Silence : isSilence;
                most = Math.Max(most, one);
            }
            else if (expectation.IsHourly)
            {
                // What was not foretold before the hours were known says nothing of how well they foretell.
                tails[view].Add(strangeness[view]);
                rhythmic += one;
            }
        }

        return (
            Math.Max(0, plain - Math.Log10(tails[0].Samples)),
            Math.Max(0, rhythmic - Math.Log10(tails[Views.Count].Samples))
        );
    }
}
