namespace UsageMonitor.EndToEnd.Counting;

/// <summary>One event, as its sender means it.</summary>
internal readonly record struct Usage(string UserId, string FeatureName, DateTimeOffset At);

/// <summary>An event in its enterprise's time.</summary>
/// <param name="Day">The local date.</param>
/// <param name="Hour">The instant at which the local hour begins.</param>
internal sealed record LocalUsage(string UserId, string FeatureName, DateTimeOffset At, DateOnly Day, DateTime Hour);

/// <summary>
/// What an enterprise's numbers must be, counted from its events by the plainest means: it shares nothing with the server.
/// </summary>
internal sealed class IndependentCount
{
    private readonly ILookup<DateOnly, LocalUsage> _byDay;

    public IndependentCount(IEnumerable<Usage> events, TimeZoneInfo zone)
    {
        Zone = zone;
        All =
        [
            .. events.Select(usage => new LocalUsage(
                usage.UserId,
                usage.FeatureName,
                usage.At,
                DayOf(usage.At.UtcDateTime),
                HourOf(usage.At.UtcDateTime)
            )),
        ];
        _byDay = All.ToLookup(usage => usage.Day);
    }

    public TimeZoneInfo Zone { get; }

    public IReadOnlyList<LocalUsage> All { get; }

    public DateOnly FirstDay => All.Min(usage => usage.Day);

    /// <summary>The day after the last.</summary>
    public DateOnly EndDay => All.Max(usage => usage.Day).AddDays(1);

    public IEnumerable<string> Features => All.Select(usage => usage.FeatureName).Distinct();

    public IEnumerable<IGrouping<string, LocalUsage>> Users => All.GroupBy(usage => usage.UserId);

    /// <summary>The events of the days from one to before another.</summary>
    public IReadOnlyList<LocalUsage> Between(DateOnly from, DateOnly to) =>
        [.. Days(from, to).SelectMany(day => _byDay[day])];

    public static IEnumerable<DateOnly> Days(DateOnly from, DateOnly to) =>
        Enumerable.Range(from.DayNumber, to.DayNumber - from.DayNumber).Select(DateOnly.FromDayNumber);

    public static int ActiveUsers(IEnumerable<LocalUsage> events) =>
        events.Select(usage => usage.UserId).Distinct().Count();

    public DateOnly DayOf(DateTime utc) => DateOnly.FromDateTime(TimeZoneInfo.ConvertTimeFromUtc(utc, Zone));

    /// <summary>
    /// Back minute by minute until the clock shows a full hour or was put forward or back: where that happens inside an
    /// hour, a bucket begins as well.
    /// </summary>
    public DateTime HourOf(DateTime utc)
    {
        DateTime minute = utc.AddTicks(-(utc.Ticks % TimeSpan.TicksPerMinute));
        while (
            TimeZoneInfo.ConvertTimeFromUtc(minute, Zone).Minute != 0
            && Zone.GetUtcOffset(minute) == Zone.GetUtcOffset(minute.AddMinutes(-1))
        )
        {
            minute = minute.AddMinutes(-1);
        }

        return minute;
    }

    /// <summary>The Monday of a day's week.</summary>
    public static DateOnly WeekOf(DateOnly day)
    {
        while (day.DayOfWeek != DayOfWeek.Monday)
        {
            day = day.AddDays(-1);
        }

        return day;
    }

    public static DateOnly MonthOf(DateOnly day) => new(day.Year, day.Month, 1);
}
