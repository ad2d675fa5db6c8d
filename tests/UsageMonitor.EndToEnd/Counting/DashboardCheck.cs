using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Counting;

/// <summary>How much of an enterprise is asked for.</summary>
/// <param name="Ranges">Random ranges whose summary is compared.</param>
/// <param name="EveryNthUser">1 for every user.</param>
/// <param name="HourlyMonths">Months compared by the hour.</param>
internal sealed record Thoroughness(int Ranges, int EveryNthUser, int HourlyMonths);

/// <summary>Holds every number that the dashboards answer against an independent count.</summary>
internal sealed class DashboardCheck(Api api, IndependentCount expected, Random random)
{
    /// <summary>Requests at a time.</summary>
    private const int Concurrency = 4;

    private const int TopFeaturesMax = 10;

    // A day more on either side, so that a bucket that strays is seen.
    private readonly DateOnly _from = expected.FirstDay.AddDays(-1);
    private readonly DateOnly _to = expected.EndDay.AddDays(1);

    public async Task RunAsync(Thoroughness thoroughness)
    {
        await CheckSummaryAsync(_from, _to);
        for (int i = 0; i < thoroughness.Ranges; i++)
        {
            int start = random.Next(_from.DayNumber, _to.DayNumber);
            int end = random.Next(start + 1, _to.DayNumber + 1);
            await CheckSummaryAsync(DateOnly.FromDayNumber(start), DateOnly.FromDayNumber(end));
        }

        await CheckFeaturesAsync(_from, _to);
        foreach (string? feature in expected.Features.Prepend(null))
        {
            await CheckTrendsAsync("day", feature, day => day, day => day.AddDays(1));
            await CheckTrendsAsync("week", feature, IndependentCount.WeekOf, day => day.AddDays(7));
            await CheckTrendsAsync("month", feature, IndependentCount.MonthOf, day => day.AddMonths(1));
        }

        await CheckHoursAsync(thoroughness.HourlyMonths);
        await Parallel.ForEachAsync(
            expected.Users.Where((_, place) => place % thoroughness.EveryNthUser == 0),
            new ParallelOptions { MaxDegreeOfParallelism = Concurrency },
            async (user, _) => await CheckUserAsync(user)
        );
    }

    private async Task CheckSummaryAsync(DateOnly from, DateOnly to)
    {
        SummaryResponse actual = await api.SummaryAsync(from, to);
        IReadOnlyList<LocalUsage> events = expected.Between(from, to);
        IReadOnlyList<LocalUsage> before = expected.Between(from.AddDays(from.DayNumber - to.DayNumber), from);
        Assert.Equal(TotalsOf(events), new UsageTotals(actual.UsageCount, actual.ActiveUsers, actual.Features));
        Assert.Equal(FeaturesOf(events).Take(TopFeaturesMax), actual.TopFeatures);
        Assert.Equal(TotalsOf(before), actual.Previous);
    }

    private async Task CheckFeaturesAsync(DateOnly from, DateOnly to) =>
        Assert.Equal(FeaturesOf(expected.Between(from, to)), (await api.FeaturesAsync(from, to)).Features);

    private async Task CheckTrendsAsync(
        string interval,
        string? feature,
        Func<DateOnly, DateOnly> bucketOf,
        Func<DateOnly, DateOnly> next
    )
    {
        TrendsResponse actual = await api.TrendsAsync(_from, _to, interval, feature);
        ILookup<DateOnly, LocalUsage> events = expected
            .All.Where(usage => feature is null || usage.FeatureName == feature)
            .ToLookup(usage => bucketOf(usage.Day));
        var buckets = new List<DateOnly>();
        for (DateOnly day = bucketOf(_from); day < _to; day = next(day))
        {
            buckets.Add(day);
        }

        Assert.Equal(
            buckets.Select(day => (day, (long)events[day].Count(), (long)IndependentCount.ActiveUsers(events[day]))),
            actual.Points.Select(point => (DayOf(point.TimeBucket), point.UsageCount, point.ActiveUsers))
        );
    }

    private async Task CheckHoursAsync(int months)
    {
        // Months in which clocks are changed come first: there, hours are not what they seem.
        (DateOnly From, DateOnly To)[] chosen =
        [
            .. expected
                .All.Select(usage => IndependentCount.MonthOf(usage.Day))
                .Distinct()
                .OrderByDescending(ClocksChange)
                .ThenBy(_ => random.Next())
                .Take(months)
                .Select(month => (month, month.AddMonths(1))),
        ];
        foreach ((DateOnly from, DateOnly to) in chosen)
        {
            foreach (string? feature in expected.Features.Take(2).Prepend(null))
            {
                await CheckHoursAsync(from, to, feature);
            }
        }
    }

    private async Task CheckHoursAsync(DateOnly from, DateOnly to, string? feature)
    {
        TrendsResponse actual = await api.TrendsAsync(from, to, "hour", feature);
        IEnumerable<(DateTime, long, long)> wanted = expected
            .Between(from, to)
            .Where(usage => feature is null || usage.FeatureName == feature)
            .GroupBy(usage => usage.Hour)
            .OrderBy(hour => hour.Key)
            .Select(hour => (hour.Key, (long)hour.Count(), (long)IndependentCount.ActiveUsers(hour)));
        Assert.Equal(
            wanted,
            actual
                .Points.Where(point => point.UsageCount > 0 || point.ActiveUsers > 0)
                .Select(point => (point.TimeBucket.UtcDateTime, point.UsageCount, point.ActiveUsers))
        );

        // The empty ones too: hour follows hour from the first day to the last, each beginning where one begins.
        Assert.Equal(from, DayOf(actual.Points[0].TimeBucket));
        foreach ((TrendPoint point, TrendPoint following) in actual.Points.Zip(actual.Points.Skip(1)))
        {
            Assert.InRange(following.TimeBucket - point.TimeBucket, TimeSpan.FromMinutes(1), TimeSpan.FromHours(1));
            Assert.Equal(expected.HourOf(following.TimeBucket.UtcDateTime), following.TimeBucket.UtcDateTime);
        }

        Assert.Equal(to, expected.DayOf(actual.Points[^1].TimeBucket.UtcDateTime.AddHours(1)));
    }

    private async Task CheckUserAsync(IGrouping<string, LocalUsage> user)
    {
        UserAnalyticsResponse actual = await api.UserAsync(user.Key, _from, _to);
        long total = user.LongCount();
        Assert.Equal((user.Key, total), (actual.UserId, actual.UsageCount));
        Assert.Equal(user.Min(usage => usage.At).UtcDateTime, actual.FirstSeenAt?.UtcDateTime);
        Assert.Equal(user.Max(usage => usage.At).UtcDateTime, actual.LastSeenAt?.UtcDateTime);
        Assert.Equal(
            FeaturesOf([.. user])
                .Select(feature => new UserFeatureUsage(feature.FeatureName, feature.UsageCount, feature.Share)),
            actual.Features
        );
        var byDay = user.CountBy(usage => usage.Day).ToDictionary();
        Assert.Equal(
            IndependentCount.Days(_from, _to).Select(day => (day, (long)byDay.GetValueOrDefault(day))),
            actual.Points.Select(point => (DateOnly.FromDateTime(point.TimeBucket.DateTime), point.UsageCount))
        );
    }

    private static UsageTotals TotalsOf(IReadOnlyList<LocalUsage> events) =>
        new(
            events.Count,
            IndependentCount.ActiveUsers(events),
            events.Select(usage => usage.FeatureName).Distinct().Count()
        );

    private static IEnumerable<FeatureUsage> FeaturesOf(IReadOnlyList<LocalUsage> events) =>
        events
            .GroupBy(usage => usage.FeatureName)
            .OrderByDescending(feature => feature.Count())
            .ThenBy(feature => feature.Key, StringComparer.Ordinal)
            .Select(feature => new FeatureUsage(
                feature.Key,
                feature.Count(),
                IndependentCount.ActiveUsers(feature),
                (double)feature.Count() / events.Count
            ));

    /// <summary>The date a bucket of days begins with, whose first instant it must be, shown with its offset.</summary>
    private DateOnly DayOf(DateTimeOffset bucket)
    {
        DateOnly day = expected.DayOf(bucket.UtcDateTime);
        Assert.Equal(day.AddDays(-1), expected.DayOf(bucket.UtcDateTime.AddTicks(-1)));
        Assert.Equal(expected.Zone.GetUtcOffset(bucket), bucket.Offset);
        return day;
    }

    private bool ClocksChange(DateOnly month) =>
        expected.Zone.GetUtcOffset(month.ToDateTime(TimeOnly.MinValue))
        != expected.Zone.GetUtcOffset(month.AddMonths(1).ToDateTime(TimeOnly.MinValue));

    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{expected.All.Count} events in {expected.Zone.Id}");
}
