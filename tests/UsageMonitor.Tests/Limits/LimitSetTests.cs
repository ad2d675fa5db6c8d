using System.Collections.Frozen;
using System.Globalization;
using UsageMonitor.Server.Limits;
using Xunit;
using static UsageMonitor.Tests.Limits.LimitMaking;

namespace UsageMonitor.Tests.Limits;

public sealed class LimitSetTests
{
    private static readonly DateTime s_now = Utc("2026-03-10T12:00:00Z");

    [Fact]
    public void Find_WhenOneNamesTheUser_ShouldGoBeforeOneForEach()
    {
        LimitSet set = Set(Limit(1, 10), Limit(2, 500, subject: Ana));

        Assert.Equal(500, Find(set, Ana)!.LimitValue);
        Assert.Equal(10, Find(set, Bob)!.LimitValue);
    }

    [Fact]
    public void Find_WhenALimitHasAnEnd_ShouldGoBeforeALastingOneUntilItEnds()
    {
        LimitSet set = Set(Limit(1, 10), Limit(2, 100, startsAt: s_now, expiresAt: s_now.AddDays(1)));

        Assert.Equal(10, Find(set, Ana, s_now.AddTicks(-1))!.LimitValue);
        Assert.Equal(100, Find(set, Ana, s_now)!.LimitValue);
        Assert.Equal(100, Find(set, Ana, s_now.AddDays(1).AddTicks(-1))!.LimitValue);
        Assert.Equal(10, Find(set, Ana, s_now.AddDays(1))!.LimitValue);
    }

    [Fact]
    public void Find_WhenATemporaryOneIsForEach_ShouldStillLeaveTheUsersOwn()
    {
        LimitSet set = Set(Limit(1, 100, expiresAt: s_now.AddDays(1)), Limit(2, 5, subject: Ana));

        Assert.Equal(5, Find(set, Ana)!.LimitValue);
        Assert.Equal(100, Find(set, Bob)!.LimitValue);
    }

    [Fact]
    public void Find_WhenNothingElseDiffers_ShouldTakeTheLowest()
    {
        LimitSet set = Set(Limit(1, 30), Limit(2, 20), Limit(3, 25));

        Assert.Equal(20, Find(set, Ana)!.LimitValue);
        Assert.Single(set.Meters);
    }

    [Fact]
    public void Find_WhenActionsDiffer_ShouldHaveOneOfEach()
    {
        LimitSet set = Set(Limit(1, 10), Limit(2, 8, action: LimitAction.Alert, subject: Ana));
        MeterLimits meter = Assert.Single(set.MetersOf("export"));

        Assert.Equal(10, meter.Find(LimitAction.Block, Ana, s_now)!.LimitValue);
        Assert.Equal(8, meter.Find(LimitAction.Alert, Ana, s_now)!.LimitValue);
        Assert.Null(meter.Find(LimitAction.Alert, Bob, s_now));
        Assert.True(set.HasBlocking);
        Assert.False(Set(Limit(1, 1, action: LimitAction.Alert)).HasBlocking);
    }

    [Theory]
    [InlineData("export", "export", true)]
    [InlineData("export", "exports", false)]
    [InlineData("export", "Export", false)]
    [InlineData("export*", "export", true)]
    [InlineData("export*", "export.pdf", true)]
    [InlineData("export*", "expor", false)]
    [InlineData("export*", "Export.pdf", false)]
    [InlineData("*", "anything", true)]
    public void MetersOf_WhenThereIsAPattern_ShouldCoverByTheBeginning(string pattern, string feature, bool isCovered)
    {
        LimitSet set = Set(Limit(1, 10, pattern));

        Assert.Equal(isCovered, set.MetersOf(feature).Length == 1);
        Assert.Equal(isCovered, set.MetersOf(feature).Length == 1); // as remembered
    }

    [Fact]
    public void MetersOf_WhenWindowsScopesOrFeaturesDiffer_ShouldBeMetersOfTheirOwn()
    {
        LimitSet set = Set(
            Limit(1, 10),
            Limit(2, 10, window: LimitWindow.Hourly),
            Limit(3, 10, scope: LimitScope.Enterprise),
            Limit(4, 10, "exp*"),
            Limit(5, 10, scope: LimitScope.Role, role: "Analyst")
        );

        Assert.Equal(5, set.MetersOf("export").Select(meter => meter.Meter.MeterId).Distinct().Count());
    }

    [Fact]
    public void MetersOf_WhenMoreFeaturesComeThanAreRemembered_ShouldStillAnswer()
    {
        LimitSet set = Set(Limit(1, 10, "f7*"));

        for (int feature = 0; feature < (3 * LimitSet.RememberedFeaturesMax) + 7; feature++)
        {
            string name = string.Create(CultureInfo.InvariantCulture, $"f{feature}");
            Assert.Equal(name.StartsWith("f7", StringComparison.Ordinal), set.MetersOf(name).Length == 1);
        }
    }

    [Fact]
    public void Counts_WhenTheMeterIsARoles_ShouldBeOfItsHoldersOnly()
    {
        var members = new Dictionary<string, FrozenSet<Guid>> { ["Analyst"] = [Ana] }.ToFrozenDictionary();
        StoredLimit ofRole = Limit(1, 10, scope: LimitScope.Role, role: "Analyst");
        StoredLimit ofNobody = Limit(2, 10, scope: LimitScope.Role, role: "Auditor");
        var set = new LimitSet([ofRole, ofNobody, Limit(3, 10)], members);

        Assert.True(set.Counts(ofRole.Meter, Ana));
        Assert.False(set.Counts(ofRole.Meter, Bob));
        Assert.False(set.Counts(ofNobody.Meter, Ana));
        Assert.True(set.Counts(Limit(3, 10).Meter, Bob));
        Assert.Equal(Guid.Empty, ofRole.Meter.SubjectOf(Ana));
        Assert.Equal(Ana, Limit(3, 10).Meter.SubjectOf(Ana));
    }

    private static StoredLimit? Find(LimitSet set, Guid userId, DateTime? at = null) =>
        Assert.Single(set.MetersOf("export")).Find(LimitAction.Block, userId, at ?? s_now);
}
