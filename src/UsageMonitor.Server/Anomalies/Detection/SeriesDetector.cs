using System.Buffers;
using System.Runtime.InteropServices;

namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>
/// Learns what is usual in one series, sample by sample, and says how unusual each sample is. Samples come in the order of their time,
/// about regularly; gaps are no samples. Memory is constant and everything it knows is in <see cref="WriteTo"/>. Not thread-safe.
/// </summary>
internal sealed class SeriesDetector
{
    /// <summary>The most bytes that <see cref="WriteTo"/> writes.</summary>
    public const int StateBytesMax = 4_096;

    private const int Version = 1;
    private const int HoursOfWeek = 168;
    private const int SamplesOfWarmUp = 168;
    private const long SecondsOfWarmUp = 2 * 86_400;
    private const double LevelRate = 0.1;
    private const double ScaleRate = 0.01;
    private const double SeasonRate = 0.3;
    private const double TypicalDeviations = 4;

    private readonly double[] _season = new double[HoursOfWeek];
    private readonly double[] _known = new double[HoursOfWeek];
    private Numbers _now;

    public SeriesDetector() { }

    /// <summary>Takes in a sample.</summary>
    /// <returns>What is to be said of it by all that came before.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The value is no number, or the time is before the last one.</exception>
    public SampleVerdict Observe(long unixSeconds, double value, double sensitivity = Sensitivities.Normal)
    {
        SampleVerdict verdict = Expect(unixSeconds, value, sensitivity);
        int hour = HourOfWeek(unixSeconds);
        if (_now.Samples == 0)
        {
            _now.FirstSeconds = unixSeconds;
            _now.Level = value;
            _now.LongLevel = value;
        }

        double error = value - verdict.Expected;
        double season = _season[hour];
        double rate = Math.Max(LevelRate, 1 / (_now.Samples + 1.0));
        _now.Level += rate * (value - season - _now.Level);
        _now.LongLevel += Math.Max(1.0 / HoursOfWeek / 4, 1 / (_now.Samples + 1.0)) * (value - _now.LongLevel);
        _season[hour] += (_known[hour] == 0 ? 0.5 : SeasonRate) * (value - _now.LongLevel - season);
        _known[hour] = 1;
        double bounded = Math.Min(Math.Abs(error), _now.Samples < SamplesOfWarmUp ? double.MaxValue : 10 * _now.Scale);
        _now.Scale += Math.Max(ScaleRate, 1 / (_now.Samples + 1.0)) * (bounded - _now.Scale);
        _now.Samples++;
        _now.LastSeconds = unixSeconds;
        _now.Greatest = Math.Max(_now.Greatest, Math.Abs(value));
        return verdict;
    }

    /// <summary>What <see cref="Observe"/> would say of a sample, learning nothing: for an hour that is still running.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is no number, or the time is before the last one.</exception>
    public SampleVerdict Expect(long unixSeconds, double value, double sensitivity = Sensitivities.Normal)
    {
        if (!double.IsFinite(value))
        {
            throw new ArgumentOutOfRangeException(nameof(value), value, "A sample must be a finite number.");
        }

        double threshold = Sensitivities.ThresholdOf(sensitivity);
        if (_now.Samples > 0)
        {
            ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(unixSeconds, _now.LastSeconds);
        }

        bool isWarmingUp = _now.Samples < SamplesOfWarmUp || unixSeconds - _now.FirstSeconds < SecondsOfWarmUp;
        double expected = _now.Samples == 0 ? value : _now.Level + _season[HourOfWeek(unixSeconds)];
        double scale = Math.Max(_now.Scale, Math.Max(1e-9, 1e-6 * _now.Greatest));
        double deviations = Math.Abs(value - expected) / scale;
        double score = isWarmingUp ? 0 : deviations / (deviations + (2 * TypicalDeviations));
        double half = 2 * TypicalDeviations * threshold / Math.Max(1 - threshold, 1e-3) * scale;
        SampleKind kind =
            isWarmingUp || score < threshold ? SampleKind.Normal
            : value > expected ? SampleKind.Spike
            : value == 0 ? SampleKind.Stopped
            : SampleKind.Drop;
        return new SampleVerdict(kind, score, expected, expected - half, expected + half, isWarmingUp);
    }

    /// <summary>Writes all it knows, at most <see cref="StateBytesMax"/> bytes.</summary>
    public void WriteTo(IBufferWriter<byte> writer)
    {
        writer.Write([(byte)Version]);
        writer.Write(MemoryMarshal.AsBytes(MemoryMarshal.CreateReadOnlySpan(ref _now, 1)));
        writer.Write(MemoryMarshal.AsBytes<double>(_season));
        writer.Write(MemoryMarshal.AsBytes<double>(_known));
    }

    /// <summary>The detector that wrote the state.</summary>
    /// <exception cref="FormatException">No state of this version.</exception>
    public static SeriesDetector Read(ReadOnlySpan<byte> state)
    {
        var detector = new SeriesDetector();
        Span<byte> numbers = MemoryMarshal.AsBytes(MemoryMarshal.CreateSpan(ref detector._now, 1));
        Span<byte> season = MemoryMarshal.AsBytes(detector._season.AsSpan());
        Span<byte> known = MemoryMarshal.AsBytes(detector._known.AsSpan());
        if (state.Length != 1 + numbers.Length + season.Length + known.Length || state[0] != Version)
        {
            throw new FormatException("This is no state of an anomaly detector, or one of another version.");
        }

        state = state[1..];
        state[..numbers.Length].CopyTo(numbers);
        state = state[numbers.Length..];
        state[..season.Length].CopyTo(season);
        state[season.Length..].CopyTo(known);
        return detector;
    }

    private static int HourOfWeek(long unixSeconds) =>
        (int)(((unixSeconds / 3600 % HoursOfWeek) + HoursOfWeek) % HoursOfWeek);

    [StructLayout(LayoutKind.Sequential, Pack = 8)]
    private struct Numbers
    {
        public long FirstSeconds;
        public long LastSeconds;
        public long Samples;
        public double Level;
        public double LongLevel;
        public double Scale;
        public double Greatest;
    }
}
