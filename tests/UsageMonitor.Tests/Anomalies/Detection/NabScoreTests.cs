using UsageMonitor.Bench;
using Xunit;

namespace UsageMonitor.Tests.Anomalies.Detection;

public sealed class NabScoreTests
{
    private static readonly (int First, int Last)[] s_window = [(40, 49)];

    [Fact]
    public void Of_WhenNothingIsSaid_ShouldBeZero() =>
        Assert.Equal(new NabResult(0, 1.1, 0), NabScore.Of([Series()], NabProfile.Standard));

    [Fact]
    public void Of_WhenTheFirstRowOfTheWindowIsFound_ShouldBeAHundredInEachProfile() =>
        Assert.All(
            NabProfile.All,
            profile => Assert.Equal(new NabResult(100, 0.9, 0), NabScore.Of([Series((40, 0.9))], profile))
        );

    [Fact]
    public void Of_WhenAFalseAlarmIsStronger_ShouldPayItsWeight()
    {
        // (1 − 0.11) − (−1) of the 1 − (−1) that there are to win; and 0.22 where false alarms weigh double.
        Assert.Equal(94.5, NabScore.Of([Series((20, 1), (40, 0.9))], NabProfile.All[0]).Score, 6);
        Assert.Equal(89, NabScore.Of([Series((20, 1), (40, 0.9))], NabProfile.All[1]).Score, 6);
    }

    [Fact]
    public void Of_WhenTheWindowIsFoundInItsMiddle_ShouldBeWorthTheSigmoidThere()
    {
        double value = NabScore.Sigmoid(-0.5) / NabScore.Sigmoid(-1);

        Assert.Equal(50 * (value + 1), NabScore.Of([Series((45, 0.5))], NabProfile.Standard).Score, 6);
    }

    [Fact]
    public void Of_WhenAnAlarmIsInTheProbationaryPart_ShouldNotCount() =>
        Assert.Equal(100, NabScore.Of([Series((14, 1), (40, 0.9))], NabProfile.Standard).Score);

    [Fact]
    public void Of_WhenOneOfTwoWindowsIsFound_ShouldBeAHalf() =>
        Assert.Equal(50, NabScore.Of([Series((40, 0.9)), Series()], NabProfile.Standard).Score);

    private static NabSeries Series(params (int Row, double Score)[] alarms)
    {
        double[] scores = new double[100];
        foreach ((int row, double score) in alarms)
        {
            scores[row] = score;
        }

        return new NabSeries("one", scores, s_window);
    }
}
