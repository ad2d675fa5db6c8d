using CsCheck;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Platform;

public sealed class LocalTimeTests
{
    private static readonly string[] s_zones =
    [
        "UTC",
        "Asia/Kolkata",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "Africa/Cairo",
        "America/Havana",
        "Asia/Beirut",
    ];

    private static readonly Gen<(TimeZoneInfo Zone, DateTime Utc)> s_instants = Gen.Select(
        Gen.Int[0, s_zones.Length - 1].Select(index => s_zones[index]).Select(TimeZoneInfo.FindSystemTimeZoneById),
        Gen.Long[
                new DateTime(2000, 1, 2).Ticks / TimeSpan.TicksPerSecond,
                new DateTime(2035, 1, 1).Ticks / TimeSpan.TicksPerSecond
            ]
            .Select(seconds => new DateTime(seconds * TimeSpan.TicksPerSecond, DateTimeKind.Utc))
    );

    [Fact]
    public void HourStart_WhenOfAnyInstant_ShouldBeAFullLocalHourOrAChangeOfOffset() =>
        s_instants.Sample(
            (zone, utc) =>
            {
                var local = new LocalTime(zone);
                DateTime start = local.HourStart(utc);
                Assert.InRange(utc - start, TimeSpan.Zero, TimeSpan.FromHours(1) - TimeSpan.FromTicks(1));
                Assert.Equal(start, local.HourStart(start));
                bool fullHour = (start + zone.GetUtcOffset(start)).TimeOfDay.Ticks % TimeSpan.TicksPerHour == 0;
                bool changes = zone.GetUtcOffset(start) != zone.GetUtcOffset(start.AddSeconds(-1));
                Assert.True(fullHour || changes, $"{zone.Id} {utc:O} → {start:O}");
            },
            iter: 5_000
        );

    [Fact]
    public void NextHour_WhenFollowed_ShouldCoverTheDayWithoutOverlap() =>
        s_instants.Sample(
            (zone, utc) =>
            {
                var local = new LocalTime(zone);
                DateOnly date = local.DateOf(utc);
                (DateTime start, DateTime end) = (local.DayStart(date), local.DayStart(date.AddDays(1)));
                Assert.InRange((end - start).TotalHours, 0, 25);
                int hours = 0;
                DateTime hour = start;
                while (hour < end)
                {
                    DateTime next = local.NextHour(hour);
                    Assert.InRange((next - hour).TotalMinutes, 1, 60);
                    Assert.Equal(hour, local.HourStart(next.AddTicks(-1)));
                    hour = next;
                    hours++;
                }

                Assert.Equal(end, hour);
                Assert.InRange(hours, 0, 26);
            },
            iter: 2_000
        );

    [Theory]
    [InlineData("Asia/Kolkata", "2026-11-22T18:30:00Z", "2026-11-22T18:30:00Z", "2026-11-22T18:30:00Z")]
    [InlineData("Asia/Kolkata", "2026-11-22T18:29:59Z", "2026-11-21T18:30:00Z", "2026-11-22T17:30:00Z")]
    [InlineData("Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-04T13:00:00Z", "2026-04-04T15:00:00Z")]
    [InlineData("America/New_York", "2026-11-01T06:30:00Z", "2026-11-01T04:00:00Z", "2026-11-01T06:00:00Z")]
    public void DayStart_WhenTheZoneHasItsOwnDays_ShouldFollowThem(string zone, string instant, string day, string hour)
    {
        var local = new LocalTime(TimeZoneInfo.FindSystemTimeZoneById(zone));
        DateTime utc = Utc(instant);

        Assert.Equal(Utc(day), local.DayStart(utc));
        Assert.Equal(Utc(hour), local.HourStart(utc));
    }

    private static DateTime Utc(string text) =>
        DateTimeOffset.Parse(text, System.Globalization.CultureInfo.InvariantCulture).UtcDateTime;
}
