using CsCheck;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using Xunit;
using static UsageMonitor.Tests.Limits.LimitMaking;

namespace UsageMonitor.Tests.Limits;

/// <summary>Forecasts on histories of which it is plain what they should say. 9 March 2026 is a Monday.</summary>
public sealed class LimitForecastTests
{
    private const string Kolkata = "Asia/Kolkata";

    [Fact]
    public void Of_WhenUsageIsFlat_ShouldBeWhereTheLineComesToTheLimit()
    {
        LimitForecast forecast = Daily(Flat(28), "2026-03-10T06:00:00+05:30", used: 60, limit: 120);

        Assert.Equal((LimitOutcomes.Likely, 28), (forecast.Outcome, forecast.DaysLearned));
        AssertNear("2026-03-10T12:00:00+05:30", forecast.Likely);
        Assert.InRange(forecast.Earliest!.Value, At("2026-03-10T09:30:00+05:30"), At("2026-03-10T11:59:00+05:30"));
        Assert.InRange(forecast.Latest!.Value, At("2026-03-10T12:01:00+05:30"), At("2026-03-10T15:30:00+05:30"));
        Assert.Equal(240, forecast.ExpectedAtReset);
        Assert.Equal(TimeSpan.FromHours(5.5), forecast.Likely!.Value.Offset);
    }

    [Fact]
    public void Of_WhenNightsAreQuiet_ShouldNotGoOnThroughTheNight()
    {
        // 10 an hour from 9 to 17: in the evening the day's 80 are used, and a line would see 90 before midnight.
        Assert.Equal(
            LimitOutcomes.NotInWindow,
            Daily(Office, "2026-03-10T18:00:00+05:30", used: 80, limit: 90).Outcome
        );

        // In the early morning it is hours until anybody begins.
        LimitForecast morning = Daily(Office, "2026-03-10T05:00:00+05:30", used: 0, limit: 40);
        AssertNear("2026-03-10T13:00:00+05:30", morning.Likely);
        Assert.True(morning.Earliest > At("2026-03-10T09:00:00+05:30"));
    }

    [Fact]
    public void Of_WhenWeekendsAreQuiet_ShouldGoOnOnMonday()
    {
        LimitForecast forecast = Monthly(Office, "2026-03-13T18:00:00+05:30", used: 800, limit: 840, today: 80);

        AssertNear("2026-03-16T13:00:00+05:30", forecast.Likely);
        Assert.True(forecast.Earliest >= At("2026-03-16T09:00:00+05:30"));
        Assert.True(forecast.Latest < At("2026-03-17T17:00:00+05:30"));
    }

    [Fact]
    public void Of_WhenThereIsNoFullDayYet_ShouldSayThatItIsUnknown()
    {
        LimitForecast nothing = Daily((_, _) => 0, "2026-03-10T12:00:00+05:30", used: 0, limit: 10);
        LimitForecast begun = Daily((_, _) => 0, "2026-03-10T12:00:00+05:30", used: 7, limit: 10);

        Assert.Equal((LimitOutcomes.Unknown, 0, null), (nothing.Outcome, nothing.DaysLearned, nothing.ExpectedAtReset));
        Assert.Equal(LimitOutcomes.Unknown, begun.Outcome);
    }

    [Theory]
    [InlineData(10, 10)]
    [InlineData(11, 10)]
    [InlineData(0, 0)]
    public void Of_WhenItIsReachedAlready_ShouldSaySo(long used, long limit)
    {
        LimitForecast forecast = Daily(Flat(28), "2026-03-10T12:00:00+05:30", used, limit);

        Assert.Equal((LimitOutcomes.Reached, null), (forecast.Outcome, forecast.Likely));
    }

    [Fact]
    public void Of_WhenTodayIsBusier_ShouldExpectItSooner()
    {
        // Both have 60 left, and usually 10 an hour come.
        LimitForecast usual = Daily(Flat(28), "2026-03-10T06:00:00+05:30", used: 60, limit: 120);
        LimitForecast busy = Daily(Flat(28), "2026-03-10T06:00:00+05:30", used: 180, limit: 240);

        Assert.True(busy.Likely < usual.Likely!.Value.AddMinutes(-60), $"{busy.Likely} {usual.Likely}");
    }

    [Fact]
    public void Of_WhenDaysDifferMore_ShouldHaveAWiderRange()
    {
        LimitForecast even = Daily(Flat(28), "2026-03-10T06:00:00+05:30", used: 60, limit: 120);
        LimitForecast uneven = Daily(
            (date, hour) => Flat(28)(date, hour) * (date.DayNumber / 7 % 2 == 0 ? 2 : 0) + 1,
            "2026-03-10T06:00:00+05:30",
            used: 66,
            limit: 132
        );

        Assert.True(uneven.Earliest < even.Earliest, $"{uneven.Earliest} {even.Earliest}");
        Assert.True(uneven.Latest is null || uneven.Latest > even.Latest);
    }

    [Fact]
    public void Of_WhenItWouldTakeAnUnusualDay_ShouldBePossible()
    {
        LimitForecast forecast = Daily(Flat(28), "2026-03-10T06:00:00+05:30", used: 60, limit: 255);

        Assert.Equal((LimitOutcomes.Possible, null, null), (forecast.Outcome, forecast.Likely, forecast.Latest));
        Assert.NotNull(forecast.Earliest);
    }

    [Fact]
    public void Of_WhenHourly_ShouldStayWithinTheHour()
    {
        LocalTime local = Local(Kolkata);
        DateTime now = At("2026-03-10T12:30:00+05:30").UtcDateTime;
        UsageRhythm? rhythm = Learn(Flat(28), local, now);
        var hour = WindowSpan.Of(LimitWindow.Hourly, local, now);

        LimitForecast near = LimitForecaster.Of(rhythm, local, new(hour, now, 5, 7, 5, hour.Start));
        LimitForecast far = LimitForecaster.Of(rhythm, local, new(hour, now, 5, 100, 5, hour.Start));

        AssertNear("2026-03-10T12:42:00+05:30", near.Likely);
        Assert.Equal(LimitOutcomes.NotInWindow, far.Outcome);
    }

    [Fact]
    public void Of_WhateverTheHistory_ShouldBeInOrderAndInTheWindow()
    {
        string[] zones = [Kolkata, "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
        LimitWindow[] windows = [LimitWindow.Hourly, LimitWindow.Daily, LimitWindow.Monthly];
        Gen.Select(
                OneOf(zones),
                OneOf(windows),
                Gen.Int[0, 365 * 24 * 60],
                Gen.Long[0, 50].Array[24 * 7],
                Gen.Select(Gen.Long[0, 5000], Gen.Long[1, 5000])
            )
            .Sample(
                (zone, window, minutes, pattern, amounts) =>
                {
                    LocalTime local = Local(zone);
                    DateTime now = Utc("2026-01-01T00:00:00Z").AddMinutes(minutes);
                    var span = WindowSpan.Of(window, local, now);
                    UsageRhythm? rhythm = Learn((date, hour) => pattern[((int)date.DayOfWeek * 24) + hour], local, now);
                    DateTime lately = window == LimitWindow.Hourly ? span.Start : local.DayStart(now);
                    (long used, long left) = amounts;
                    LimitForecast forecast = LimitForecaster.Of(
                        rhythm,
                        local,
                        new(span, now, used, used + left, used / 2, lately)
                    );
                    DateTimeOffset[] ends =
                    [
                        .. new[] { forecast.Earliest, forecast.Likely, forecast.Latest }
                            .TakeWhile(end => end is not null)
                            .Select(end => end!.Value),
                    ];
                    Assert.Equal(ends.Order(), ends);
                    Assert.All(ends, end => Assert.InRange(end.UtcDateTime, now.AddMinutes(-1), span.End));
                    Assert.True(forecast.Earliest is not null || forecast.Likely is null);
                    Assert.True(forecast.Likely is not null || forecast.Latest is null);
                    Assert.InRange(
                        forecast.ExpectedAtReset ?? used,
                        forecast.ExpectedLow ?? used,
                        forecast.ExpectedHigh ?? used
                    );
                }
            );
    }

    private static Func<DateOnly, int, long> Flat(int days) =>
        (date, _) => date >= new DateOnly(2026, 3, 10).AddDays(-days) ? 10 : 0;

    private static long Office(DateOnly date, int hour) =>
        date.DayOfWeek is not (DayOfWeek.Saturday or DayOfWeek.Sunday) && hour is >= 9 and < 17 ? 10 : 0;

    private static LimitForecast Daily(Func<DateOnly, int, long> usage, string now, long used, long limit)
    {
        LocalTime local = Local(Kolkata);
        DateTime utc = At(now).UtcDateTime;
        var window = WindowSpan.Of(LimitWindow.Daily, local, utc);
        return LimitForecaster.Of(Learn(usage, local, utc), local, new(window, utc, used, limit, used, window.Start));
    }

    private static LimitForecast Monthly(Func<DateOnly, int, long> usage, string now, long used, long limit, long today)
    {
        LocalTime local = Local(Kolkata);
        DateTime utc = At(now).UtcDateTime;
        var window = WindowSpan.Of(LimitWindow.Monthly, local, utc);
        return LimitForecaster.Of(
            Learn(usage, local, utc),
            local,
            new(window, utc, used, limit, today, local.DayStart(utc))
        );
    }

    // As the aggregates would have it: by the beginning of local hours, and by local days.
    private static UsageRhythm? Learn(Func<DateOnly, int, long> usage, LocalTime local, DateTime now)
    {
        var hours = new Dictionary<DateTime, long>();
        for (DateTime hour = local.DayStart(local.DateOf(now).AddDays(-35)); hour < now; hour = local.NextHour(hour))
        {
            if (usage(local.DateOf(hour), local.Show(hour).Hour) is > 0 and var count)
            {
                hours[hour] = count;
            }
        }

        return UsageRhythm.Learn(
            local.DateOf(now),
            hours
                .GroupBy(hour => local.DateOf(hour.Key))
                .ToDictionary(day => day.Key, day => day.Sum(hour => hour.Value)),
            hours,
            local
        );
    }

    private static DateTimeOffset At(string text) =>
        DateTimeOffset.Parse(text, System.Globalization.CultureInfo.InvariantCulture);

    private static void AssertNear(string expected, DateTimeOffset? actual) =>
        Assert.InRange(actual!.Value, At(expected).AddMinutes(-2), At(expected).AddMinutes(2));
}
