using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>The part of a step that is about hours: an enterprise's features one by one and all together.</summary>
internal sealed class SeriesStep(
    NpgsqlConnection connection,
    EnterpriseInfo enterprise,
    LocalTime local,
    EnterprisePosition position,
    MonthPartitions months,
    DateTime now
)
{
    private IReadOnlyList<Finding> _changed = [];

    /// <summary>Anomalies that this step has opened and that still go on.</summary>
    public IEnumerable<Finding> Opened => _changed.Where(found => found.IsNew && found.Status == AnomalyTerms.Open);

    /// <summary>Feeds what is finished, looks at what is running, and adds to the batch what is to be written.</summary>
    /// <returns>Whether more is finished than one step may feed.</returns>
    public async Task<bool> RunAsync(NpgsqlBatch batch, DateTime through, CancellationToken cancellationToken)
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        List<WatchedSeries> series = await WatchedSeries.ReadAsync(connection, enterpriseId, cancellationToken);
        DateTime finished = local.HourStart(through - AnomalyLimits.LateAllowance);
        await ChooseAsync(batch, series, finished, through, cancellationToken);
        if (series.Count == 0)
        {
            return false;
        }

        DateTime from = series.Min(one => one.FedThrough);
        DateTime until = Earlier(finished, local.HourStart(from.AddHours(AnomalyLimits.HoursPerStepMax)));
        bool isBehind = until < finished;
        DateTime running = local.HourStart(through);
        DateTime before = local.HourStart(running.AddTicks(-1));
        string[] features = [.. series.Select(one => one.FeatureName)];
        var counts = new HourCounts();
        await counts.ReadEventsAsync(
            connection,
            enterpriseId,
            features,
            isBehind ? from : Earlier(from, before),
            isBehind ? until : local.NextHour(running),
            cancellationToken
        );
        if (from < until)
        {
            await counts.ReadUsersAsync(connection, enterpriseId, local, from, until, cancellationToken);
        }

        List<Finding> going = await FindingStore.ReadGoingAsync(connection, enterpriseId, from, cancellationToken);
        var episodes = new Episodes(going, local, now);
        var feed = new SeriesFeed(enterprise, local, counts, episodes, series.Find(one => one.FeatureName.Length == 0));
        List<WatchedSeries> fed =
        [
            .. series.OrderBy(one => one.FeatureName.Length > 0).Where(one => feed.Feed(one, until)),
        ];
        if (!isBehind)
        {
            feed.Look(series, through);
        }

        await months.EnsureAsync("anomaly_expectations", feed.Months, cancellationToken);
        if (feed.SaveRanges() is { } ranges)
        {
            batch.BatchCommands.Add(ranges);
        }

        if (fed.Count > 0)
        {
            batch.BatchCommands.Add(WatchedSeries.Save(enterpriseId, fed));
        }

        List<WatchedSeries> seen = [.. series.Except(fed)];
        if (!isBehind && seen.Count > 0)
        {
            batch.BatchCommands.Add(WatchedSeries.SaveLook(enterpriseId, seen));
        }

        _changed = [.. episodes.Changed];
        foreach (NpgsqlBatchCommand save in FindingStore.Save(enterpriseId, _changed))
        {
            batch.BatchCommands.Add(save);
        }

        return isBehind;
    }

    /// <summary>Once a local day the busiest features are chosen anew; until there is any usage, at every look.</summary>
    private async Task ChooseAsync(
        NpgsqlBatch batch,
        List<WatchedSeries> series,
        DateTime finished,
        DateTime through,
        CancellationToken cancellationToken
    )
    {
        DateOnly today = local.DateOf(through);
        if (position.FeaturesDay == today)
        {
            return;
        }

        DateTime since = local.DayStart(today.AddDays(-AnomalyLimits.HistoryDays));
        List<string> chosen = await BusiestFeatures.ChooseAsync(
            connection,
            enterprise.EnterpriseId,
            since,
            cancellationToken
        );
        if (chosen.Count == 0)
        {
            return;
        }

        chosen.Add("");
        string[] added = [.. chosen.Except(series.Select(one => one.FeatureName), StringComparer.Ordinal)];
        Dictionary<string, DateTime> firstHours = await BusiestFeatures.FirstHoursAsync(
            connection,
            enterprise.EnterpriseId,
            added,
            since,
            finished,
            cancellationToken
        );
        foreach ((string feature, DateTime hour) in firstHours)
        {
            series.Add(
                new WatchedSeries
                {
                    FeatureName = feature,
                    FedThrough = hour,
                    WatchedSince = now,
                }
            );
        }

        // One whose first hour is still running is chosen when that hour is over.
        position.FeaturesDay = firstHours.Count == added.Length ? today : null;

        // What is still told of is watched until it ends.
        List<Finding> going = await FindingStore.ReadGoingAsync(
            connection,
            enterprise.EnterpriseId,
            finished,
            cancellationToken
        );
        string[] left =
        [
            .. series
                .Select(one => one.FeatureName)
                .Except(chosen, StringComparer.Ordinal)
                .Except(going.Select(found => found.FeatureName), StringComparer.Ordinal),
        ];
        if (left.Length > 0)
        {
            series.RemoveAll(one => left.Contains(one.FeatureName, StringComparer.Ordinal));
            batch.BatchCommands.Add(WatchedSeries.Drop(enterprise.EnterpriseId, left));
        }
    }

    private static DateTime Earlier(DateTime one, DateTime other) => one < other ? one : other;
}
