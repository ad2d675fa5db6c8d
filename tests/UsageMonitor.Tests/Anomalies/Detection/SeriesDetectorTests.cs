using System.Buffers;
using CsCheck;
using UsageMonitor.Server.Anomalies.Detection;
using Xunit;
using static UsageMonitor.Tests.Anomalies.Detection.SeriesMaking;

namespace UsageMonitor.Tests.Anomalies.Detection;

public sealed class SeriesDetectorTests
{
    [Theory]
    [InlineData(2_000, 0)]
    [InlineData(2_000, 0.05)]
    [InlineData(50, 0)]
    public void Observe_WhenAnOfficeWorksForTenWeeks_ShouldAlarmAtMostOnceInFourOfThem(double level, double growth)
    {
        int alarms = Enumerable
            .Range(0, 4)
            .Sum(seed =>
                new SeriesDetector()
                    .Feed(Office(seed, 10, level, growth))
                    .Count(verdict => verdict.Kind != SampleKind.Normal)
            );

        Assert.InRange(alarms, 0, 1);
    }

    [Fact]
    public void Observe_WhenAnHourHasThreeTimesAsMuch_ShouldCallItASpike()
    {
        double[] values = Office(1);
        values[Noon] *= 3;

        List<SampleVerdict> verdicts = new SeriesDetector().Feed(values);

        Assert.Equal(SampleKind.Spike, verdicts[Noon].Kind);
        Assert.True(values[Noon] > verdicts[Noon].High);
        Assert.InRange(verdicts[Noon].Expected, values[Noon] / 3 * 0.8, values[Noon] / 3 * 1.2);
    }

    [Fact]
    public void Observe_WhenNoonIsQuietAsTheNight_ShouldCallItADrop()
    {
        double[] values = Office(2);
        values[Noon] = Math.Round(values[Noon] * 0.2);

        SampleVerdict verdict = new SeriesDetector().Feed(values)[Noon];

        Assert.Equal(SampleKind.Drop, verdict.Kind);
        Assert.True(values[Noon] < verdict.Low);
    }

    [Fact]
    public void Observe_WhenTheNightIsBusyAsNoon_ShouldCallItASpike()
    {
        double[] values = Office(3);
        values[Noon - 12] = values[Noon];

        Assert.Equal(SampleKind.Spike, new SeriesDetector().Feed(values)[Noon - 12].Kind);
    }

    [Fact]
    public void Observe_WhenNothingArrivesAtNoon_ShouldSayItStoppedOnce()
    {
        double[] values = Office(4);
        values.AsSpan(Noon, 6).Clear();

        List<SampleVerdict> verdicts = new SeriesDetector().Feed(values);

        Assert.Equal(SampleKind.Stopped, verdicts[Noon].Kind);
        Assert.InRange(verdicts.Skip(Noon).Take(24).Count(verdict => verdict.Kind != SampleKind.Normal), 1, 3);
    }

    [Fact]
    public void Observe_WhenTheLevelShifts_ShouldAlarmAndThenFindItNormal()
    {
        double[] values = Office(5, 12);
        foreach (ref double value in values.AsSpan(Noon))
        {
            value *= 3;
        }

        List<SampleVerdict> verdicts = new SeriesDetector().Feed(values);

        Assert.Equal(SampleKind.Spike, verdicts[Noon].Kind);
        Assert.DoesNotContain(verdicts.Skip(Noon + Week), verdict => verdict.Kind != SampleKind.Normal);
    }

    [Fact]
    public void Observe_WhenItWarmsUp_ShouldNeverAlarm() =>
        Gen.OneOf(Gen.Const(0.0), Gen.Const(7.0), Gen.Double[-1e30, 1e30], Gen.Double[0, 100])
            .Array[SeriesDetector.SamplesOfWarmUp]
            .Sample(
                values =>
                    Assert.All(
                        new SeriesDetector().Feed(values, sensitivity: 1),
                        verdict =>
                        {
                            Assert.True(verdict.IsWarmingUp);
                            Assert.Equal((SampleKind.Normal, 0), (verdict.Kind, verdict.Score));
                        }
                    ),
                iter: 50
            );

    [Theory]
    [InlineData(0)]
    [InlineData(42)]
    public void Observe_WhenTheSeriesIsConstant_ShouldNeverAlarm(double value) =>
        Assert.All(
            new SeriesDetector().Feed(Enumerable.Repeat(value, 4 * Week)),
            verdict => Assert.Equal(SampleKind.Normal, verdict.Kind)
        );

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    [InlineData(double.NegativeInfinity)]
    [InlineData(1e31)]
    public void Observe_WhenTheValueIsNoUsableNumber_ShouldRefuseItAndLearnNothing(double value)
    {
        var detector = new SeriesDetector();
        detector.Feed(Office(6, 1));
        byte[] before = StateOf(detector);

        Assert.Throws<ArgumentOutOfRangeException>(() => detector.Observe(Start + (Week * 3_600), value));
        Assert.Equal(before, StateOf(detector));
    }

    [Fact]
    public void Observe_WhenTheSensitivityDiffers_ShouldLearnAndScoreTheSame()
    {
        double[] values = Office(7, 4);
        SeriesDetector low = new();
        SeriesDetector high = new();

        IEnumerable<double> lowScores = low.Feed(values, sensitivity: Sensitivities.Low).Select(one => one.Score);
        IEnumerable<double> highScores = high.Feed(values, sensitivity: Sensitivities.High).Select(one => one.Score);

        Assert.Equal(lowScores, highScores);
        Assert.Equal(StateOf(low), StateOf(high));
    }

    [Fact]
    public void Expect_WhenAsked_ShouldSayWhatObserveWouldAndLearnNothing()
    {
        var detector = new SeriesDetector();
        detector.Feed(Office(8, 5));
        byte[] before = StateOf(detector);
        long next = Start + (5 * Week * 3_600);

        SampleVerdict expected = detector.Expect(next, 9_999);

        Assert.Equal(before, StateOf(detector));
        Assert.Equal(expected, detector.Observe(next, 9_999));
    }

    [Fact]
    public void Read_WhenSavedAtAnyPoint_ShouldChangeNoLaterVerdict() =>
        Gen.Select(Gen.Int[0, 5 * Week], Gen.Double[-1e30, 1e30].Array[0, 5], Gen.Int[0, 1_000])
            .Sample(
                (at, odd, seed) =>
                {
                    double[] values = [.. Office(seed, 5), .. odd, .. Office(seed + 1, 1)];
                    var kept = new SeriesDetector();
                    kept.Feed(values.Take(at));
                    byte[] state = StateOf(kept);
                    SeriesDetector read = SeriesDetector.Read(state);

                    Assert.InRange(state.Length, 1, SeriesDetector.StateBytesMax);
                    Assert.Equal(kept.Feed(values.Skip(at), at), read.Feed(values.Skip(at), at));
                    Assert.Equal(StateOf(kept), StateOf(read));
                },
                iter: 30
            );

    [Fact]
    public void Observe_WhenValuesAreHuge_ShouldSayNumbersOnly() =>
        Assert.All(
            new SeriesDetector().Feed(Enumerable.Range(0, 3 * Week).Select(i => i % 5 == 0 ? 1e30 : -5e29 * (i % 3))),
            verdict =>
            {
                Assert.InRange(verdict.Score, 0, 1);
                Assert.True(double.IsFinite(verdict.Expected + verdict.Low + verdict.High));
            }
        );

    [Fact]
    public void Read_WhenTheStateIsNone_ShouldRefuseIt()
    {
        byte[] state = StateOf(new SeriesDetector());
        byte[] otherVersion = [.. state];
        otherVersion[0]++;

        Assert.Throws<FormatException>(() => SeriesDetector.Read([]));
        Assert.Throws<FormatException>(() => SeriesDetector.Read(state.AsSpan()[..^1]));
        Assert.Throws<FormatException>(() => SeriesDetector.Read(otherVersion));
    }

    private static byte[] StateOf(SeriesDetector detector)
    {
        var writer = new ArrayBufferWriter<byte>();
        detector.WriteTo(writer);
        return writer.WrittenSpan.ToArray();
    }
}
