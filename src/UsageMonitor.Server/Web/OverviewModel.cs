using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Web;

/// <summary>All that the overview shows, read once and rendered; the browser then keeps it fresh over the same API.</summary>
/// <remarks>Public, as what it holds, because Razor makes components public and with them the types of their parameters.</remarks>
public sealed record OverviewModel(
    string EnterpriseName,
    Formats Formats,
    DateRange Range,
    SummaryResponse Summary,
    FeaturesResponse Features,
    TrendsResponse Trend,
    TrendsResponse Previous,
    TrendsResponse All,
    bool IsNew
)
{
    public IReadOnlyList<Tile> Tiles { get; } = Tile.Of(Summary, All.Points, Formats);

    /// <summary>Names of the trend's buckets, for the axis and the table.</summary>
    public IReadOnlyList<string> Labels { get; } =
    [.. Trend.Points.Select(point => Formats.Bucket(point.TimeBucket, Range.Interval, Range.Days > 1))];

    /// <summary>What was expected of the trend's hours; empty of days and weeks, and for those who may not see anomalies.</summary>
    public IReadOnlyList<ExpectedHour> Expected { get; init; } = [];

    /// <summary>Anomalies of what the trend shows.</summary>
    public IReadOnlyList<AnomalyResponse> Anomalies { get; init; } = [];

    private IEnumerable<object?>? ExpectedOfPoints()
    {
        if (Expected.Count == 0)
        {
            return null;
        }

        var byHour = Expected.ToDictionary(hour => hour.TimeBucket);
        return Trend.Points.Select(point =>
            byHour.TryGetValue(point.TimeBucket, out ExpectedHour? hour) ? (object)new { hour.Low, hour.High } : null
        );
    }

    // An anomaly stands on the bar in which it began.
    private IEnumerable<object> AnomaliesOfPoints() =>
        Anomalies.Select(one => new { Index = LastBefore(one.From), one.Detail }).Where(one => one.Index >= 0);

    private int LastBefore(DateTimeOffset instant)
    {
        int index = Trend.Points.Count - 1;
        while (index >= 0 && Trend.Points[index].TimeBucket > instant)
        {
            index--;
        }

        return index;
    }

    /// <summary>What the browser needs to draw the chart and to ask for the same again.</summary>
    public object Island =>
        new
        {
            From = DateRange.Text(Range.From),
            To = DateRange.Text(Range.ToExclusive),
            Range.Interval,
            Range.Feature,
            Culture = Formats.CultureName,
            TimeZone = Formats.Zone.Id,
            Labels,
            Starts = Trend.Points.Select(point => point.TimeBucket.ToUnixTimeMilliseconds()),
            Events = Trend.Points.Select(point => point.UsageCount),
            Users = Trend.Points.Select(point => point.ActiveUsers),
            Previous = Previous.Points.Select(point => point.UsageCount),
            Expected = ExpectedOfPoints(),
            Anomalies = AnomaliesOfPoints(),
            AsOf = Summary.AsOf.ToUnixTimeMilliseconds(),
            ReloadAt = Range.Name is null ? (long?)null : NextDay().ToUnixTimeMilliseconds(),
            Summary.UsageCount,
            Summary.ActiveUsers,
            FeatureCount = Summary.Features,
        };

    /// <summary>When "today" becomes another day in the enterprise's zone.</summary>
    private DateTimeOffset NextDay()
    {
        var midnight = Range.ToExclusive.ToDateTime(TimeOnly.MinValue);
        // Where clocks spring forward at midnight the day begins at the first instant that exists.
        while (Formats.Zone.IsInvalidTime(midnight))
        {
            midnight = midnight.AddMinutes(15);
        }

        return new DateTimeOffset(midnight, Formats.Zone.GetUtcOffset(midnight));
    }
}

/// <summary>One number of the overview.</summary>
/// <param name="Key">Names it to the script that updates it.</param>
/// <param name="Label">What it counts.</param>
/// <param name="Value">As shown.</param>
/// <param name="Change">Against the period before.</param>
/// <param name="Sparkline">An SVG path in a box of <see cref="Web.Sparkline.Width"/> × <see cref="Web.Sparkline.Height"/>, or null.</param>
public sealed record Tile(string Key, string Label, string Value, Change Change, string? Sparkline)
{
    public static IReadOnlyList<Tile> Of(SummaryResponse now, IReadOnlyList<TrendPoint> points, Formats formats)
    {
        TrendPoint[] past = [.. points.Where(point => point.TimeBucket <= now.AsOf)];
        return
        [
            new(
                "events",
                "Events",
                formats.Number(now.UsageCount),
                Change.Of(now.UsageCount, now.Previous.UsageCount, formats),
                Web.Sparkline.Path([.. past.Select(point => (double)point.UsageCount)])
            ),
            new(
                "users",
                "Active users",
                formats.Number(now.ActiveUsers),
                Change.Of(now.ActiveUsers, now.Previous.ActiveUsers, formats),
                Web.Sparkline.Path([.. past.Select(point => (double)point.ActiveUsers)])
            ),
            new(
                "features",
                "Features used",
                formats.Number(now.Features),
                Change.Of(now.Features, now.Previous.Features, formats),
                null
            ),
            new(
                "ratio",
                "Events per active user",
                formats.Ratio(Ratio(now.UsageCount, now.ActiveUsers)),
                Change.Of(
                    Ratio(now.UsageCount, now.ActiveUsers),
                    Ratio(now.Previous.UsageCount, now.Previous.ActiveUsers),
                    formats
                ),
                Web.Sparkline.Path([.. past.Select(point => Ratio(point.UsageCount, point.ActiveUsers))])
            ),
        ];
    }

    private static double Ratio(long events, long users) => users == 0 ? 0 : (double)events / users;
}

/// <summary>How a number compares with the period before.</summary>
/// <param name="Direction"><c>up</c>, <c>down</c> or <c>same</c>.</param>
/// <param name="Text">As shown.</param>
public sealed record Change(string Direction, string Text)
{
    // Less than half a per mille reads as no change.
    private const double NoticeableMin = 0.0005;

    public static Change Of(double now, double before, Formats formats)
    {
        if (before == 0)
        {
            return now == 0 ? new Change("same", "No change") : new Change("up", "New");
        }

        double change = (now - before) / before;
        return Math.Abs(change) < NoticeableMin
            ? new Change("same", "No change")
            : new Change(change > 0 ? "up" : "down", formats.Percent(Math.Abs(change)));
    }
}

/// <summary>A small line without axes; <c>assets/tiles.ts</c> draws the same in the browser.</summary>
internal static class Sparkline
{
    public const int Width = 120;
    public const int Height = 32;
    private const double Margin = 2;

    public static string? Path(IReadOnlyList<double> values)
    {
        if (values.Count < 2)
        {
            return null;
        }

        double max = Math.Max(values.Max(), double.Epsilon);
        return "M"
            + string.Join(
                'L',
                values.Select(
                    (value, index) =>
                        FormattableString.Invariant(
                            $"{(double)index * Width / (values.Count - 1):0.#} {Height - Margin - (value / max * (Height - (2 * Margin))):0.#}"
                        )
                )
            );
    }
}
