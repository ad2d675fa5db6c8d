using System.Runtime.InteropServices;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>Whose usage, of which meter, in which window.</summary>
internal readonly record struct UsageKey(Guid EnterpriseId, Guid MeterId, Guid SubjectId, DateTime WindowStart);

/// <summary>What a step adds to a meter's usage.</summary>
internal record struct UsageTally(DateTime WindowEnd, long Count, DateTime FirstAt, DateTime LastAt);

/// <summary>A step's stored events summed by meter, subject and window, before they reach the database.</summary>
internal static class MeterTallies
{
    /// <summary>
    /// A window that ended longer ago is history: it is neither counted nor kept. Longer than an event without the
    /// permission to backfill may be late.
    /// </summary>
    public const int EndedDaysMax = 8;

    private static readonly int s_windowTypes = Enum.GetValues<LimitWindow>().Length;

    /// <param name="enterprise">What the step has read of it.</param>
    /// <param name="plan">The enterprise's meters.</param>
    /// <param name="countedSince">Since when each of them counts.</param>
    /// <param name="now">The step's.</param>
    /// <param name="tallies">Where the counts are added.</param>
    public static void Add(
        StepEnterprise enterprise,
        MeterPlan plan,
        IReadOnlyDictionary<Guid, DateTime> countedSince,
        DateTime now,
        Dictionary<UsageKey, UsageTally> tallies
    )
    {
        LimitMeter[]?[] metersOf = FeatureMeters(enterprise, plan);
        if (metersOf.All(meters => meters is null))
        {
            return;
        }

        DateTime oldestEnd = now.AddDays(-EndedDaysMax);
        Span<WindowSpan> spans = stackalloc WindowSpan[s_windowTypes];
        foreach (ref StepEvent current in enterprise.EventSpan)
        {
            if (current.IsDuplicate || metersOf[current.Feature] is not { } meters)
            {
                continue;
            }

            DateTime timestamp = current.Timestamp;
            foreach (LimitMeter meter in meters)
            {
                // Neighbours in the log are mostly of the same window: the zone is asked only when it ends.
                ref WindowSpan span = ref spans[(int)meter.Window];
                if (!span.Contains(timestamp))
                {
                    span = WindowSpan.Of(meter.Window, enterprise.Local, timestamp);
                }

                if (
                    span.End < oldestEnd
                    || span.Start < countedSince[meter.MeterId]
                    || !plan.Counts(meter, current.UserId)
                )
                {
                    continue;
                }

                ref UsageTally tally = ref CollectionsMarshal.GetValueRefOrAddDefault(
                    tallies,
                    new UsageKey(enterprise.Id, meter.MeterId, meter.SubjectOf(current.UserId), span.Start),
                    out bool known
                );
                tally = known
                    ? tally with
                    {
                        Count = tally.Count + 1,
                        FirstAt = tally.FirstAt < timestamp ? tally.FirstAt : timestamp,
                        LastAt = tally.LastAt > timestamp ? tally.LastAt : timestamp,
                    }
                    : new UsageTally(span.End, 1, timestamp, timestamp);
            }
        }
    }

    /// <summary>The meters that each of the step's features is on; null: none.</summary>
    private static LimitMeter[]?[] FeatureMeters(StepEnterprise enterprise, MeterPlan plan)
    {
        var found = new LimitMeter[]?[enterprise.FeatureNames.Count];
        for (int feature = 0; feature < found.Length; feature++)
        {
            string name = enterprise.FeatureNames[feature];
            LimitMeter[] meters =
            [
                .. plan
                    .Meters.Select(planned => planned.Meter)
                    .Where(meter => LimitTerms.Covers(meter.FeatureName, name)),
            ];
            found[feature] = meters.Length == 0 ? null : meters;
        }

        return found;
    }
}
