using UsageMonitor.Server.Anomalies.Detection;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>
/// The anomalies of one enterprise's series that go on, and those that begin. Hours of one kind that follow each other are one
/// anomaly; it ends with the first hour that is as expected, and a silence ends when something comes.
/// </summary>
internal sealed class Episodes(IEnumerable<Finding> going, LocalTime local, DateTime now)
{
    private readonly List<Finding> _all = [.. going];

    /// <summary>Everything that has to be written.</summary>
    public IEnumerable<Finding> Changed => _all.Where(found => found.IsNew || found.IsChanged);

    /// <summary>What goes on of a series.</summary>
    public Finding? Find(string series, string feature, string? kind = null) =>
        _all.Find(found =>
            found.IsOpen
            && found.Series == series
            && found.FeatureName == feature
            && (kind is null || found.Kind == kind)
        );

    /// <summary>Takes in a whole hour.</summary>
    public void Feed(
        string series,
        string feature,
        DateTime start,
        DateTime end,
        double observed,
        SampleVerdict verdict
    )
    {
        string? kind = AnomalyTerms.KindOf(verdict.Kind);
        foreach (
            Finding found in _all.Where(found => found.IsOpen && found.Series == series && found.FeatureName == feature)
                .ToList()
        )
        {
            // In the hour in which silence began something had come before.
            bool goesOn =
                found.Kind == AnomalyTerms.Stopped ? observed == 0 || start <= found.StartsAt : found.Kind == kind;
            if (!goesOn)
            {
                Resolve(found, start);
            }
            else if (found.Kind == AnomalyTerms.Stopped)
            {
                kind = null; // the silence is told of already, whatever else the hour would be held for
                found.EndsAt = end;
                found.IsChanged = true;
            }
        }

        if (kind is not null)
        {
            Raise(kind, series, feature, start, end, observed, verdict);
        }
    }

    /// <summary>Opens an anomaly, or goes on with the one that is open.</summary>
    public void Raise(
        string kind,
        string series,
        string feature,
        DateTime start,
        DateTime end,
        double observed,
        SampleVerdict verdict
    )
    {
        Finding? found = Find(series, feature, kind);
        if (found is null)
        {
            found = new Finding
            {
                AnomalyId = Guid.CreateVersion7(new DateTimeOffset(now)),
                Kind = kind,
                Series = series,
                FeatureName = feature,
                StartsAt = start,
                OpenedAt = now,
                IsNew = true,
            };
            _all.Add(found);
        }

        // The same hour seen again has grown; of several hours the strangest is shown.
        if (verdict.Score >= found.Score || end == found.EndsAt)
        {
            (found.Observed, found.Score) = (observed, verdict.Score);
            (found.Expected, found.Low, found.High) = (verdict.Expected, verdict.Low, verdict.High);
        }

        found.EndsAt = end > found.EndsAt ? end : found.EndsAt;
        found.IsChanged = true;
        found.Detail = AnomalyWords.Describe(found, local);
    }

    /// <summary>Ends what goes on.</summary>
    public void Resolve(Finding found, DateTime at)
    {
        found.EndsAt = at > found.StartsAt ? at : found.EndsAt;
        found.Status = AnomalyTerms.Resolved;
        found.ResolvedAt = now;
        found.IsChanged = true;
        if (found.IsMuted)
        {
            _all.Remove(found);
        }
    }
}
