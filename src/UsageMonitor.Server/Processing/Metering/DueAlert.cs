using System.Runtime.InteropServices;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>What there is one alert of, however often its threshold is crossed: the unique key of <c>alert_events</c>.</summary>
internal readonly record struct AlertKey(
    Guid EnterpriseId,
    Guid AlertId,
    Guid LimitId,
    Guid SubjectId,
    DateTime WindowStart
);

/// <summary>An alert whose threshold is reached, whether it was opened before or not.</summary>
/// <param name="Key">Which.</param>
/// <param name="Enterprise">Whose.</param>
/// <param name="Rule">The rule.</param>
/// <param name="Limit">Of a percentage: the limit.</param>
/// <param name="Meter">What is counted.</param>
/// <param name="WindowEnd">UTC, exclusive.</param>
/// <param name="Threshold">As a number of events.</param>
/// <param name="Used">Events in the window.</param>
/// <param name="FirstAt">The window's first event, if it is known.</param>
/// <param name="IsLimitReached">HIGH; otherwise LOW.</param>
internal sealed record DueAlert(
    AlertKey Key,
    StepEnterprise Enterprise,
    AlertRule Rule,
    StoredLimit? Limit,
    LimitMeter Meter,
    DateTime WindowEnd,
    long Threshold,
    long Used,
    DateTime? FirstAt,
    bool IsLimitReached
)
{
    public string Severity => IsLimitReached ? AlertNotice.High : AlertNotice.Low;
}

/// <summary>Finds the alerts that a step's counts and refusals call for.</summary>
/// <remarks>
/// <para>
/// Usage is asked after as it stands, not whether this step crossed the threshold: so a rule that is made while usage is
/// beyond it already tells at the next event that is counted. Late events of windows that have ended are counted, but tell
/// nobody.
/// </para>
/// <para>
/// A percentage is of the limit that applies to the subject, of either action. It is LOW until the limit itself is reached.
/// A rule with a number of its own knows no limit and stays LOW. Where a limit refused somebody it is reached, whatever
/// has been counted yet, and so is every percentage of it up to 100.
/// </para>
/// </remarks>
internal static class DueAlerts
{
    private const int WholePercent = 100;
    private static readonly LimitAction[] s_actions = Enum.GetValues<LimitAction>();

    public static List<DueAlert> Find(
        IEnumerable<CountedUsage> counted,
        IEnumerable<RefusedUsage> refused,
        IReadOnlyDictionary<Guid, (StepEnterprise Enterprise, MeterPlan Plan)> plans,
        DateTime now
    )
    {
        var due = new Dictionary<AlertKey, DueAlert>();
        foreach (CountedUsage usage in counted.Where(usage => usage.Added.WindowEnd > now))
        {
            foreach (AlertRule rule in usage.Meter.Absolute.Where(rule => usage.Used >= rule.ThresholdValue))
            {
                Add(due, OfCount(usage, rule, null, rule.ThresholdValue!.Value));
            }

            if (usage.Meter.Percent.Count > 0)
            {
                AddPercentages(due, usage);
            }
        }

        foreach (RefusedUsage refusal in refused.Where(refusal => refusal.Last.Window.End > now))
        {
            // Rules and limits as they are now decide: one that is gone meanwhile tells nobody.
            if (
                plans.GetValueOrDefault(refusal.Enterprise.Id).Plan is { } plan
                && plan.FindLimit(refusal.Last.LimitId) is { } limit
                && limit.Meter.MeterId == refusal.Meter.MeterId
            )
            {
                foreach (
                    AlertRule rule in plan.MetersById[limit.Meter.MeterId]
                        .Percent.Where(rule => rule.ThresholdPct <= WholePercent)
                )
                {
                    Add(due, OfRefusal(refusal, rule, limit));
                }
            }
        }

        return [.. due.Values];
    }

    /// <summary>The events at which a percentage of a limit is reached.</summary>
    public static long ThresholdOf(int percent, long limitValue) =>
        (long)Int128.Min(long.MaxValue, (((Int128)limitValue * percent) + WholePercent - 1) / WholePercent);

    private static void AddPercentages(Dictionary<AlertKey, DueAlert> due, CountedUsage usage)
    {
        foreach (LimitAction action in s_actions)
        {
            if (usage.Meter.Limits.Find(action, usage.SubjectId, usage.Added.LastAt) is not { } limit)
            {
                continue;
            }

            foreach (AlertRule rule in usage.Meter.Percent)
            {
                long threshold = ThresholdOf(rule.ThresholdPct!.Value, limit.LimitValue);
                if (usage.Used >= threshold)
                {
                    Add(due, OfCount(usage, rule, limit, threshold));
                }
            }
        }
    }

    private static DueAlert OfCount(CountedUsage usage, AlertRule rule, StoredLimit? limit, long threshold) =>
        new(
            new AlertKey(
                usage.Enterprise.Id,
                rule.AlertId,
                limit?.LimitId ?? Guid.Empty,
                usage.SubjectId,
                usage.WindowStart
            ),
            usage.Enterprise,
            rule,
            limit,
            usage.Meter.Meter,
            usage.Added.WindowEnd,
            threshold,
            usage.Used,
            usage.FirstAt,
            limit is not null && usage.Used >= limit.LimitValue
        );

    private static DueAlert OfRefusal(RefusedUsage refusal, AlertRule rule, StoredLimit limit) =>
        new(
            new AlertKey(
                refusal.Enterprise.Id,
                rule.AlertId,
                limit.LimitId,
                refusal.SubjectId,
                refusal.Last.Window.Start
            ),
            refusal.Enterprise,
            rule,
            limit,
            limit.Meter,
            refusal.Last.Window.End,
            ThresholdOf(rule.ThresholdPct!.Value, limit.LimitValue),
            refusal.Last.Used,
            null,
            true
        );

    private static void Add(Dictionary<AlertKey, DueAlert> due, DueAlert alert)
    {
        ref DueAlert? known = ref CollectionsMarshal.GetValueRefOrAddDefault(due, alert.Key, out _);
        known = known is null
            ? alert
            : known with
            {
                Used = Math.Max(known.Used, alert.Used),
                FirstAt = known.FirstAt ?? alert.FirstAt,
                IsLimitReached = known.IsLimitReached || alert.IsLimitReached,
            };
    }
}
