using System.Globalization;
using Microsoft.AspNetCore.WebUtilities;

namespace UsageMonitor.Server.Web;

/// <summary>The days a page is about, as its address says: <c>?range=7d</c>, or <c>?from=…&amp;to=…</c> with both days included.</summary>
/// <param name="Name">A key of <see cref="Presets"/>, or null for days chosen by hand.</param>
/// <param name="From">The first day.</param>
/// <param name="Through">The last day.</param>
/// <param name="Interval"><c>hour</c>, <c>day</c> or <c>week</c>: one that suits the number of days.</param>
/// <param name="ChosenInterval">The interval when the address names one.</param>
/// <param name="Feature">The feature the trend is narrowed to, or null for all.</param>
public sealed record DateRange(
    string? Name,
    DateOnly From,
    DateOnly Through,
    string Interval,
    string? ChosenInterval,
    string? Feature
)
{
    public const int DaysMax = 366;
    private const string Default = "30d";
    private const string DayFormat = "yyyy-MM-dd";
    private static readonly string[] s_intervals = ["hour", "day", "week"];

    public static readonly IReadOnlyList<(string Name, string Label, int Days)> Presets =
    [
        ("today", "Today", 1),
        ("7d", "7 days", 7),
        ("30d", "30 days", 30),
        ("90d", "90 days", 90),
    ];

    public int Days => Through.DayNumber - From.DayNumber + 1;

    /// <summary>The day after the last, as the API wants it.</summary>
    public DateOnly ToExclusive => Through.AddDays(1);

    public DateOnly PreviousFrom => From.AddDays(-Days);

    public DateOnly PreviousThrough => From.AddDays(-1);

    /// <summary>Intervals that make neither a single bar nor a thicket of them, the shortest first.</summary>
    public IEnumerable<string> Intervals => s_intervals.Intersect(IntervalsOf(Days));

    /// <summary>Reads an address; what cannot be understood falls back to the last 30 days.</summary>
    public static DateRange Parse(IQueryCollection query, DateOnly today)
    {
        (string? name, DateOnly from, DateOnly through) = ParseDays(query, today);
        int days = through.DayNumber - from.DayNumber + 1;
        string? interval = query["interval"];
        string? chosen = interval is not null && IntervalsOf(days).Contains(interval) ? interval : null;
        string? feature = query["feature"];
        return new DateRange(
            name,
            from,
            through,
            chosen ?? IntervalsOf(days)[0],
            chosen,
            string.IsNullOrEmpty(feature) ? null : feature
        );
    }

    public string Address(string? preset) => Address(preset, ChosenInterval, Feature);

    public string AddressWithInterval(string? interval) => Address(Name, interval, Feature);

    public string AddressWithFeature(string? feature) => Address(Name, ChosenInterval, feature);

    public static string Text(DateOnly day) => day.ToString(DayFormat, CultureInfo.InvariantCulture);

    private string Address(string? preset, string? interval, string? feature)
    {
        var query = new Dictionary<string, string?>
        {
            ["range"] = preset == Default ? null : preset,
            ["from"] = preset is null ? Text(From) : null,
            ["to"] = preset is null ? Text(Through) : null,
            ["interval"] = interval,
            ["feature"] = feature,
        };
        return QueryHelpers.AddQueryString("/", query.Where(pair => pair.Value is not null));
    }

    private static (string? Name, DateOnly From, DateOnly Through) ParseDays(IQueryCollection query, DateOnly today)
    {
        if (TryDay(query["from"], out DateOnly from) && TryDay(query["to"], out DateOnly through) && from <= through)
        {
            DateOnly earliest = DateOnly.FromDayNumber(Math.Max(0, through.DayNumber - DaysMax + 1));
            return (null, from < earliest ? earliest : from, through);
        }

        string? wanted = query["range"];
        (string name, _, int days) = Presets.FirstOrDefault(preset => preset.Name == wanted);
        if (name is null)
        {
            (name, _, days) = Presets.Single(preset => preset.Name == Default);
        }

        return (name, today.AddDays(1 - days), today);
    }

    // A year of hours or less keeps every sum in range, and no enterprise has data before 2000.
    private static bool TryDay(string? text, out DateOnly day) =>
        DateOnly.TryParseExact(text, DayFormat, CultureInfo.InvariantCulture, DateTimeStyles.None, out day)
        && day.Year is >= 2000 and < 9000;

    // The first is what the page chooses by itself.
    private static string[] IntervalsOf(int days) =>
        days switch
        {
            <= 2 => ["hour"],
            <= 14 => ["day", "hour"],
            <= 92 => ["day", "week"],
            _ => ["week", "day"],
        };
}
