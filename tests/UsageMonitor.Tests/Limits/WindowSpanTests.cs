using CsCheck;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using Xunit;
using static UsageMonitor.Tests.Limits.LimitMaking;

namespace UsageMonitor.Tests.Limits;

/// <summary>Windows follow the enterprise's clock, on the days too on which it is changed.</summary>
public sealed class WindowSpanTests
{
    [Theory]
    [InlineData("Europe/Berlin", "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", 23)]
    [InlineData("Europe/Berlin", "2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", 25)]
    [InlineData("America/New_York", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", 23)]
    [InlineData("America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", 23)] // midnight is skipped
    [InlineData("Asia/Kolkata", "2026-03-10T18:29:59Z", "2026-03-09T18:30:00Z", 24)]
    [InlineData("Asia/Kolkata", "2026-03-10T18:30:00Z", "2026-03-10T18:30:00Z", 24)]
    public void Of_WhenDaily_ShouldBeTheLocalDay(string zone, string at, string start, int hours)
    {
        var window = WindowSpan.Of(LimitWindow.Daily, Local(zone), Utc(at));

        Assert.Equal((Utc(start), Utc(start).AddHours(hours)), (window.Start, window.End));
    }

    [Theory]
    [InlineData("Asia/Kolkata", "2026-03-10T12:10:00Z", "2026-03-10T11:30:00Z", "2026-03-10T12:30:00Z")]
    [InlineData("Asia/Kolkata", "2026-03-10T12:30:00Z", "2026-03-10T12:30:00Z", "2026-03-10T13:30:00Z")]
    [InlineData("Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z")]
    [InlineData("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z")] // 02:30 for the first time
    [InlineData("Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z")] // and for the second
    [InlineData("Australia/Lord_Howe", "2026-04-04T14:45:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z")] // by half an hour
    public void Of_WhenHourly_ShouldBeTheLocalHour(string zone, string at, string start, string end)
    {
        var window = WindowSpan.Of(LimitWindow.Hourly, Local(zone), Utc(at));

        Assert.Equal((Utc(start), Utc(end)), (window.Start, window.End));
    }

    [Theory]
    [InlineData("Asia/Kolkata", "2026-02-28T18:30:00Z", "2026-02-28T18:30:00Z", "2026-03-31T18:30:00Z")]
    [InlineData("Europe/Berlin", "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z")]
    [InlineData("America/New_York", "2024-02-29T12:00:00Z", "2024-02-01T05:00:00Z", "2024-03-01T05:00:00Z")]
    [InlineData("UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")]
    public void Of_WhenMonthly_ShouldBeTheLocalMonth(string zone, string at, string start, string end)
    {
        var window = WindowSpan.Of(LimitWindow.Monthly, Local(zone), Utc(at));

        Assert.Equal((Utc(start), Utc(end)), (window.Start, window.End));
    }

    [Fact]
    public void Of_WhateverTheInstant_ShouldHoldItAndJoinItsNeighbours()
    {
        string[] zones =
        [
            "UTC",
            "Asia/Kolkata",
            "Europe/Berlin",
            "America/St_Johns",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
        ];
        LimitWindow[] windows = [LimitWindow.Hourly, LimitWindow.Daily, LimitWindow.Monthly];
        Gen.Select(OneOf(zones), OneOf(windows), Gen.Long[0, 366L * 24 * 3600 * 3])
            .Sample(
                (zone, of, seconds) =>
                {
                    LocalTime local = Local(zone);
                    DateTime at = Utc("2025-01-01T00:00:00Z").AddSeconds(seconds);
                    var window = WindowSpan.Of(of, local, at);
                    Assert.True(window.Contains(at));
                    Assert.Equal(window, WindowSpan.Of(of, local, window.Start));
                    Assert.Equal(window, WindowSpan.Of(of, local, window.End.AddTicks(-1)));
                    Assert.Equal(window.End, WindowSpan.Of(of, local, window.End).Start);
                }
            );
    }
}
