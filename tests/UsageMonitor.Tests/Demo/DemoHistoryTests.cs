using UsageMonitor.Server.Demo;
using Xunit;

namespace UsageMonitor.Tests.Demo;

public sealed class DemoHistoryTests
{
    private static readonly IReadOnlyList<DemoEnterprise> s_sample = DemoSample.Read();

    public static TheoryData<int, int> EnterprisesAndDays() =>
        new MatrixTheoryData<int, int>([0, 1, 2], [0, 1, 2, 3, 4, 5, 6]);

    [Theory]
    [MemberData(nameof(EnterprisesAndDays))]
    public void Events_WhateverTheDayOfTheStart_ShouldEndThereAndCoverNinetyDays(int enterprise, int day)
    {
        DemoEnterprise demo = s_sample[enterprise];
        var zone = TimeZoneInfo.FindSystemTimeZoneById(demo.TimeZone);
        DateTimeOffset createdAt = new DateTimeOffset(2026, 4, 3, 11, 20, 0, TimeSpan.Zero).AddDays(day);

        DemoEvent[] events = [.. new DemoHistory(demo, zone, createdAt).Events()];

        Assert.True(events.Max(one => one.Timestamp) <= createdAt.UtcDateTime);
        Assert.InRange((createdAt.UtcDateTime - events.Min(one => one.Timestamp)).TotalDays, 88, 92);
        Assert.Equal(events.Length, events.Select(one => one.EventId).Distinct().Count());
        Assert.Equal(events, new DemoHistory(demo, zone, createdAt).Events());
        double[] weekdays =
        [
            .. events
                .CountBy(one => TimeZoneInfo.ConvertTimeFromUtc(one.Timestamp, zone).DayOfWeek)
                .OrderBy(each => each.Key)
                .Select(each => (double)each.Value),
        ];
        Assert.True(weekdays[(int)DayOfWeek.Sunday] < weekdays[(int)DayOfWeek.Tuesday] / 2, "Sundays are quiet");
    }

    [Fact]
    public void EventsPerSecond_AtAnyHour_ShouldBeGentle()
    {
        DemoFlow[] flows =
        [
            .. s_sample.Select(demo => new DemoFlow(demo, TimeZoneInfo.FindSystemTimeZoneById(demo.TimeZone))),
        ];
        var start = new DateTimeOffset(2026, 4, 3, 0, 0, 0, TimeSpan.Zero);

        double[] rates =
        [
            .. Enumerable
                .Range(0, 7 * 24)
                .Select(hour => flows.Sum(flow => flow.EventsPerSecond(start.AddHours(hour)))),
        ];

        Assert.InRange(rates.Min(), 0.5, 1);
        Assert.InRange(rates.Max(), 1, 3);
    }
}
