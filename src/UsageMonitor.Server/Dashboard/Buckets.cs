using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary>The buckets of a range of local days. A week begins on Monday; the first and last may reach beyond the range and count only what is in it.</summary>
internal sealed class Buckets
{
    public const string Hour = "hour";
    public const string Day = "day";
    public const string Week = "week";
    public const string Month = "month";

    public static readonly string[] Intervals = [Hour, Day, Week, Month];

    private readonly LocalTime _local;
    private readonly DateOnly _from;
    private readonly DateOnly _to;
    private readonly string _interval;

    public Buckets(LocalTime local, DateOnly from, DateOnly to, string interval)
    {
        (_local, _from, _to, _interval) = (local, from, to, interval);
        (Start, End) = (local.DayStart(from), local.DayStart(to));
    }

    public DateTime Start { get; }

    public DateTime End { get; }

    /// <summary>The bucket of an hour's or a day's beginning.</summary>
    public DateTime Of(DateTime start) =>
        _interval is Hour or Day ? start : _local.DayStart(FirstDay(_local.DateOf(start)));

    /// <summary>All buckets, empty ones included.</summary>
    public IEnumerable<DateTime> Starts()
    {
        if (_interval == Hour)
        {
            for (DateTime hour = Start; hour < End; hour = _local.NextHour(hour))
            {
                yield return hour;
            }

            yield break;
        }

        for (DateOnly day = FirstDay(_from); day < _to; day = Next(day))
        {
            yield return _local.DayStart(day);
        }
    }

    private DateOnly FirstDay(DateOnly day) =>
        _interval switch
        {
            Week => day.AddDays(-(((int)day.DayOfWeek + 6) % 7)),
            Month => new DateOnly(day.Year, day.Month, 1),
            _ => day,
        };

    private DateOnly Next(DateOnly day) =>
        _interval switch
        {
            Week => day.AddDays(7),
            Month => day.AddMonths(1),
            _ => day.AddDays(1),
        };
}
