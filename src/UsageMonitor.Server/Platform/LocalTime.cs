namespace UsageMonitor.Server.Platform;

/// <summary>
/// An enterprise's days and hours. A day is a local date, whatever its length; an hour begins at a full local hour, or at
/// the change of offset inside one. A bucket is named by the UTC instant at which it begins.
/// </summary>
internal sealed class LocalTime(TimeZoneInfo zone)
{
    private const int CachedDaysMax = 4_096;
    private readonly Dictionary<int, DateTime> _dayStarts = [];

    /// <summary>The local date of an instant.</summary>
    public DateOnly DateOf(DateTime utc) => DateOnly.FromDateTime(utc + zone.GetUtcOffset(utc));

    /// <summary>The UTC instant at which the local day of an instant begins.</summary>
    public DateTime DayStart(DateTime utc) => DayStart(DateOf(utc));

    /// <summary>The UTC instant at which a local date begins: after the gap when midnight is skipped, the first when it comes twice.</summary>
    public DateTime DayStart(DateOnly date)
    {
        if (_dayStarts.TryGetValue(date.DayNumber, out DateTime start))
        {
            return start;
        }

        DateTime midnight = date.ToDateTime(TimeOnly.MinValue);
        TimeSpan offset =
            zone.IsAmbiguousTime(midnight) ? zone.GetAmbiguousTimeOffsets(midnight).Max()
            : zone.IsInvalidTime(midnight) ? zone.GetUtcOffset(midnight.AddHours(-3))
            : zone.GetUtcOffset(midnight);
        start = DateTime.SpecifyKind(midnight - offset, DateTimeKind.Utc);
        if (_dayStarts.Count >= CachedDaysMax)
        {
            _dayStarts.Clear();
        }

        _dayStarts[date.DayNumber] = start;
        return start;
    }

    /// <summary>The UTC instant at which the local month of an instant begins.</summary>
    public DateTime MonthStart(DateTime utc)
    {
        DateOnly date = DateOf(utc);
        return DayStart(date.AddDays(1 - date.Day));
    }

    /// <summary>The UTC instant at which the local hour of an instant begins.</summary>
    public DateTime HourStart(DateTime utc)
    {
        TimeSpan offset = zone.GetUtcOffset(utc);
        long local = utc.Ticks + offset.Ticks;
        var start = new DateTime(local - (local % TimeSpan.TicksPerHour) - offset.Ticks, DateTimeKind.Utc);
        return zone.GetUtcOffset(start) == offset ? start : ChangeBetween(start, utc, offset);
    }

    /// <summary>The next hour's beginning after that of an hour.</summary>
    public DateTime NextHour(DateTime hourStart)
    {
        DateTime next = HourStart(hourStart.AddHours(1));
        return next > hourStart ? next : hourStart.AddHours(1);
    }

    /// <summary>An instant with the enterprise's offset at that instant, as answers show it.</summary>
    public DateTimeOffset Show(DateTime utc) => TimeZoneInfo.ConvertTime(new DateTimeOffset(utc, TimeSpan.Zero), zone);

    private DateTime ChangeBetween(DateTime before, DateTime after, TimeSpan offsetAfter)
    {
        while (after - before > TimeSpan.FromSeconds(1))
        {
            DateTime middle = before + ((after - before) / 2);
            (before, after) = zone.GetUtcOffset(middle) == offsetAfter ? (before, middle) : (middle, after);
        }

        return new DateTime(after.Ticks - (after.Ticks % TimeSpan.TicksPerSecond), DateTimeKind.Utc);
    }
}
