using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>What limits say of a use, as answers show it.</summary>
internal static class CheckAnswers
{
    /// <summary>The answer to a question that BLOCK limits are about: of the limit that refuses, or of the one with the least left.</summary>
    /// <param name="plan">Which limits.</param>
    /// <param name="use">The question's.</param>
    /// <param name="used">Of the plan's counters; null: it cannot be counted.</param>
    /// <param name="local">The enterprise's.</param>
    public static CheckResponse Of(AdmissionPlan plan, PlannedUse use, long[]? used, LocalTime local)
    {
        if (used is null)
        {
            return new CheckResponse(
                !plan.Enterprise.IsClosedWhenUncounted,
                DecisionCodes.LimitUncounted,
                null,
                null,
                null,
                null,
                null
            );
        }

        PlannedLimit tightest = Tightest(plan, use, used);
        long limit = tightest.Limit.LimitValue;
        long count = used[tightest.Counter];
        return new CheckResponse(
            count < limit,
            count < limit ? DecisionCodes.WithinLimit : DecisionCodes.LimitReached,
            limit,
            count,
            Math.Max(0, limit - count),
            local.Show(plan.Counters[tightest.Counter].Window.End),
            null
        )
        {
            LimitId = tightest.Limit.LimitId,
        };
    }

    /// <summary>The limit that refuses a question; null when it could not be counted.</summary>
    public static RefusingLimit? RefusalOf(AdmissionPlan plan, PlannedUse use, long[]? used)
    {
        if (used is null)
        {
            return null;
        }

        PlannedLimit tightest = Tightest(plan, use, used);
        WindowSpan window = plan.Counters[tightest.Counter].Window;
        return new RefusingLimit(
            tightest.Limit.LimitId,
            tightest.Limit.Version,
            tightest.Limit.LimitValue,
            used[tightest.Counter],
            window.Start,
            window.End
        );
    }

    // Of several that are used up, the one that takes longest to begin anew: until then it is no use to ask.
    private static PlannedLimit Tightest(AdmissionPlan plan, PlannedUse use, long[] used) =>
        plan
            .Limits.GetRange(use.First, use.Count)
            .OrderBy(limit => Math.Max(0, limit.Limit.LimitValue - used[limit.Counter]))
            .ThenByDescending(limit => plan.Counters[limit.Counter].Window.End)
            .First();
}
