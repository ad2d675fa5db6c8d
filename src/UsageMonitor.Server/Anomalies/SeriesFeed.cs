using Npgsql;
using UsageMonitor.Server.Anomalies.Detection;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Gives the detectors of an enterprise their hours, and looks at the one that is running.</summary>
/// <param name="enterprise">Whose.</param>
/// <param name="local">Its hours.</param>
/// <param name="counts">What came in them.</param>
/// <param name="episodes">What goes on.</param>
/// <param name="all">All features together; null while there is no such series yet.</param>
internal sealed class SeriesFeed(
    EnterpriseInfo enterprise,
    LocalTime local,
    HourCounts counts,
    Episodes episodes,
    WatchedSeries? all
)
{
    // Beside the same hour of the last weeks.
    private const double ClearlyMore = 1.25;
    private const double ClearlyLess = 0.75;

    /// <summary>Events that must be missing before silence is told of, by sensitivity: by chance it would be e⁻¹⁴ or less.</summary>
    private readonly double _missingMin = enterprise.AnomalySensitivity switch
    {
        AnomalyTerms.Low => 40,
        AnomalyTerms.High => 14,
        _ => 20,
    };

    private readonly double _sensitivity = AnomalyTerms.SensitivityOf(enterprise.AnomalySensitivity);
    private readonly List<Expectation> _expectations = [];

    private readonly record struct Expectation(string Feature, DateTime Hour, string Series, SampleVerdict Verdict);

    private bool IsOn => enterprise.AnomalySensitivity != AnomalyTerms.Off;

    /// <summary>The months of the hours that were fed.</summary>
    public IEnumerable<int> Months => _expectations.Select(row => MonthPartitions.MonthOf(row.Hour)).Distinct();

    /// <summary>Feeds the hours that a series has not seen, before an instant.</summary>
    /// <returns>Whether there were any.</returns>
    public bool Feed(WatchedSeries series, DateTime until)
    {
        bool fed = false;
        for (DateTime hour = series.FedThrough; hour < until; hour = series.FedThrough)
        {
            DateTime end = local.NextHour(hour);
            if (end > until)
            {
                break;
            }

            FeedHour(series, hour, end);
            series.FedThrough = end;
            fed = true;
        }

        return fed;
    }

    private void FeedHour(WatchedSeries series, DateTime hour, DateTime end)
    {
        string feature = series.FeatureName;
        long events = counts.Events(feature, hour);
        int users = counts.Users(feature, hour);
        series.FedLocal = LocalSeconds(series, hour);
        SampleVerdict usage = series.Usage.Observe(series.FedLocal, events, _sensitivity);
        SampleVerdict active = series.Users.Observe(series.FedLocal, users, _sensitivity);
        Expect(feature, hour, AnomalyTerms.Usage, usage);
        Expect(feature, hour, AnomalyTerms.ActiveUsers, active);
        SeriesProfile profile = series.Profile;
        Finding? silence = episodes.Find(AnomalyTerms.Usage, feature, AnomalyTerms.Stopped);
        bool inSilence = hour < profile.SilentUntil || silence?.StartsAt < end || IsAllSilent(series, hour, end);
        profile.IsStopped &= events == 0 || hour <= silence?.StartsAt;
        if (IsOn && end > series.WatchedSince)
        {
            // Silence is told of once: not as a drop of the hours it begins and ends in, nor of each feature when all are silent.
            SampleVerdict told = Weigh(profile, hour, events, inSilence ? WithoutLack(usage) : usage, inSilence);
            episodes.Feed(AnomalyTerms.Usage, feature, hour, end, events, told);
            episodes.Feed(
                AnomalyTerms.ActiveUsers,
                feature,
                hour,
                end,
                users,
                inSilence || events == 0 ? WithoutLack(active) : active
            );
            profile.IsStopped |= told.Kind == SampleKind.Stopped;
            ForgetTheLongStopped(series, end);
        }

        // … and does not become what the hours of the week are known for.
        if (!profile.IsStopped && !inSilence)
        {
            profile.Learn(HourOfWeek(hour), events);
        }
    }

    /// <summary>What the same hours of the last weeks had is no anomaly, and an hour without what they always had is silence.</summary>
    private SampleVerdict Weigh(
        SeriesProfile profile,
        DateTime hour,
        long events,
        SampleVerdict verdict,
        bool inSilence
    )
    {
        int place = HourOfWeek(hour);
        double least = profile.LeastOf(place);
        if (events == 0 && !inSilence && least >= _missingMin)
        {
            return verdict with { Kind = SampleKind.Stopped };
        }

        bool isUsual =
            verdict.Kind == SampleKind.Spike
                ? !(events > ClearlyMore * profile.MostOf(place))
                : verdict.Kind == SampleKind.Drop && !(events < ClearlyLess * least);
        return isUsual ? verdict with { Kind = SampleKind.Normal } : verdict;
    }

    private bool IsAllSilent(WatchedSeries series, DateTime hour, DateTime end) =>
        all is not null
        && series != all
        && (
            hour < all.Profile.SilentUntil
            || episodes.Find(AnomalyTerms.Usage, "", AnomalyTerms.Stopped)?.StartsAt < end
        );

    /// <summary>Looks at the running hour: a spike is one as soon as its count is past the whole hour's range; silence is told at once.</summary>
    /// <param name="series">All of the enterprise.</param>
    /// <param name="through">Everything received until then is counted.</param>
    public void Look(IReadOnlyList<WatchedSeries> series, DateTime through)
    {
        DateTime hour = local.HourStart(through);
        DateTime before = local.HourStart(hour.AddTicks(-1));

        // All features together come first: when they have stopped, each of them has, and that is one thing to tell.
        foreach (WatchedSeries one in series.OrderBy(one => one.FeatureName.Length > 0))
        {
            long count = counts.Events(one.FeatureName, hour);
            bool arrived = one.Profile.Look(through, hour, count, counts.Events(one.FeatureName, before), Missed(one));
            if (arrived && one.Profile.IsStopped)
            {
                End(one, through);
                EndForEach(one, series, through);
            }

            if (IsOn && through > one.WatchedSince)
            {
                bool isToldOfAll = one != all && all?.Profile.IsStopped == true;
                if (!one.Profile.IsStopped && !isToldOfAll && one.Profile.IsSilent(_missingMin))
                {
                    Stop(one, through);
                    EndForEach(one, series, through);
                }

                LookForSpike(one, hour, count);
            }
        }
    }

    private void LookForSpike(WatchedSeries series, DateTime hour, long count)
    {
        if (series.FedThrough != hour)
        {
            return;
        }

        SampleVerdict verdict = series.Usage.Expect(LocalSeconds(series, hour), count, _sensitivity);
        bool isMore = count > verdict.High && count > ClearlyMore * series.Profile.MostOf(HourOfWeek(hour));
        if (verdict.Kind == SampleKind.Spike && isMore)
        {
            DateTime end = local.NextHour(hour);
            episodes.Raise(AnomalyTerms.Spike, AnomalyTerms.Usage, series.FeatureName, hour, end, count, verdict);
        }
    }

    private void Stop(WatchedSeries stopped, DateTime through)
    {
        stopped.Profile.IsStopped = true;
        if (episodes.Find(AnomalyTerms.Usage, stopped.FeatureName, AnomalyTerms.Stopped) is not null)
        {
            return;
        }

        double missing = stopped.Profile.Missing;
        episodes.Raise(
            AnomalyTerms.Stopped,
            AnomalyTerms.Usage,
            stopped.FeatureName,
            stopped.Profile.LastArrival,
            through,
            0,
            new SampleVerdict(SampleKind.Stopped, 1 - (1 / (missing + 1)), missing, 1, missing, false)
        );
    }

    /// <summary>When all features together have stopped, or come again, what was known of the silence of each says nothing more.</summary>
    private void EndForEach(WatchedSeries one, IReadOnlyList<WatchedSeries> series, DateTime at)
    {
        if (one == all)
        {
            foreach (WatchedSeries other in series.Where(other => other != all))
            {
                End(other, at);
            }
        }
    }

    private void End(WatchedSeries series, DateTime at)
    {
        series.Profile.EndSilence(at);
        if (episodes.Find(AnomalyTerms.Usage, series.FeatureName, AnomalyTerms.Stopped) is { } silence)
        {
            episodes.Resolve(silence, at);
        }
    }

    // What does not come for a week is what does not come.
    private void ForgetTheLongStopped(WatchedSeries series, DateTime now)
    {
        if (
            episodes.Find(AnomalyTerms.Usage, series.FeatureName, AnomalyTerms.Stopped) is { } silence
            && now - silence.StartsAt > AnomalyLimits.StoppedMax
        )
        {
            End(series, now);
        }
    }

    // Between two instants within some minutes, which are in one hour or in two.
    private Func<DateTime, DateTime, double> Missed(WatchedSeries series) =>
        (from, to) =>
        {
            double missed = 0;
            for (DateTime hour = local.HourStart(from); hour < to; )
            {
                DateTime end = local.NextHour(hour);
                DateTime start = hour > from ? hour : from;
                DateTime stop = end < to ? end : to;
                missed += series.Profile.LeastOf(HourOfWeek(hour)) * ((stop - start) / (end - hour));
                hour = end;
            }

            return missed;
        };

    // The clock on the wall, so that the rhythm of a day stays where it is when clocks change; an hour that comes twice comes a second later.
    private long LocalSeconds(WatchedSeries series, DateTime hour) =>
        Math.Max(
            (local.Show(hour).DateTime.Ticks - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerSecond,
            series.FedLocal == long.MinValue ? long.MinValue : series.FedLocal + 1
        );

    private int HourOfWeek(DateTime hour)
    {
        DateTime shown = local.Show(hour).DateTime;
        return ((int)shown.DayOfWeek * 24) + shown.Hour;
    }

    private static SampleVerdict WithoutLack(SampleVerdict verdict) =>
        verdict.Kind is SampleKind.Drop or SampleKind.Stopped ? verdict with { Kind = SampleKind.Normal } : verdict;

    private void Expect(string feature, DateTime hour, string series, SampleVerdict verdict)
    {
        if (!verdict.IsWarmingUp)
        {
            _expectations.Add(new Expectation(feature, hour, series, verdict));
        }
    }

    private const string SaveExpectations = """
        INSERT INTO anomaly_expectations (enterprise_id, feature_name, time_bucket, series, expected, low, high, score)
        SELECT $1, feature_name, time_bucket, series, expected, low, high, score
          FROM unnest($2, $3, $4, $5, $6, $7, $8) AS seen (feature_name, time_bucket, series, expected, low, high, score)
            ON CONFLICT (enterprise_id, feature_name, time_bucket, series) DO NOTHING
        """;

    /// <summary>What writes the ranges of the hours that were fed; null when none has one.</summary>
    public NpgsqlBatchCommand? SaveRanges()
    {
        return _expectations.Count == 0
            ? null
            : new NpgsqlBatchCommand(SaveExpectations)
            {
                Parameters =
                {
                    new() { Value = enterprise.EnterpriseId },
                    Column(row => row.Feature),
                    Column(row => row.Hour),
                    Column(row => row.Series),
                    Column(row => (float)row.Verdict.Expected),
                    Column(row => (float)row.Verdict.Low),
                    Column(row => (float)row.Verdict.High),
                    Column(row => (float)row.Verdict.Score),
                },
            };

        NpgsqlParameter<T[]> Column<T>(Func<Expectation, T> read) =>
            new() { TypedValue = [.. _expectations.Select(read)] };
    }
}
