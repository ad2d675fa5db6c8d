namespace UsageMonitor.Server.Demo;

/// <summary>
/// What goes on in an enterprise now: as much as its hour and weekday are used to, by the people and features that the
/// sample has at that hour.
/// </summary>
internal sealed class DemoFlow
{
    /// <summary>Events a second of one enterprise in its quietest hour; three of them make half an event a second.</summary>
    public const double EventsPerSecondMin = 1.0 / 6;

    /// <summary>And in its busiest.</summary>
    public const double EventsPerSecondMax = 1;

    private const int RecentDays = 28;
    private readonly TimeZoneInfo _zone;
    private readonly Stretch[] _recent;
    private readonly ILookup<(DayOfWeek, int), Stretch> _byHour;
    private readonly double _busiest;

    public DemoFlow(DemoEnterprise enterprise, TimeZoneInfo zone)
    {
        _zone = zone;
        _recent = [.. enterprise.Stretches.Where(stretch => stretch.Day > -RecentDays)];
        _byHour = _recent.ToLookup(stretch => (WeekdayOf(stretch), stretch.Time.Hour));
        _busiest = _byHour.Max(hour => (double)hour.Sum(stretch => stretch.Count));
    }

    public double EventsPerSecond(DateTimeOffset now)
    {
        double usual = _byHour[HourOf(now)].Sum(stretch => stretch.Count) / _busiest;
        return EventsPerSecondMin + ((EventsPerSecondMax - EventsPerSecondMin) * usual);
    }

    /// <summary>What happens in a second: as many as a Poisson process of the hour's rate has it.</summary>
    public IEnumerable<Stretch> Second(DateTimeOffset now, Random random)
    {
        Stretch[] usual = [.. _byHour[HourOf(now)]];
        double limit = Math.Exp(-EventsPerSecond(now));
        for (double product = random.NextDouble(); product > limit; product *= random.NextDouble())
        {
            yield return random.GetItems(usual.Length == 0 ? _recent : usual, 1)[0];
        }
    }

    private (DayOfWeek Weekday, int Hour) HourOf(DateTimeOffset now)
    {
        DateTimeOffset local = TimeZoneInfo.ConvertTime(now, _zone);
        return (local.DayOfWeek, local.Hour);
    }

    // Day 0 is a Sunday.
    private static DayOfWeek WeekdayOf(Stretch stretch) => (DayOfWeek)(((stretch.Day % 7) + 7) % 7);
}
