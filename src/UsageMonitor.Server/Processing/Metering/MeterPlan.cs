using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>A meter with everything that looks at its count.</summary>
/// <param name="Meter">What it counts.</param>
/// <param name="Limits">The active limits on it; maybe none.</param>
/// <param name="Absolute">The alert rules with a threshold of their own on it.</param>
/// <param name="Percent">The alert rules about a part of each limit on it.</param>
internal sealed record PlannedMeter(
    LimitMeter Meter,
    MeterLimits Limits,
    IReadOnlyList<AlertRule> Absolute,
    IReadOnlyList<AlertRule> Percent
);

/// <summary>What an enterprise's usage is counted for: its active limits and alert rules, by meter. Immutable.</summary>
internal sealed class MeterPlan
{
    private readonly LimitSet _limits;
    private readonly AlertRuleSet _rules;
    private readonly Dictionary<Guid, StoredLimit> _limitsById;

    private MeterPlan(LimitSet limits, AlertRuleSet rules, IReadOnlyList<PlannedMeter> meters)
    {
        (_limits, _rules, Meters) = (limits, rules, meters);
        _limitsById = limits.Limits.ToDictionary(limit => limit.LimitId);
        MetersById = meters.ToDictionary(meter => meter.Meter.MeterId);
    }

    public IReadOnlyList<PlannedMeter> Meters { get; }

    public IReadOnlyDictionary<Guid, PlannedMeter> MetersById { get; }

    public static MeterPlan Of(Guid enterpriseId, LimitSet limits, AlertRuleSet rules)
    {
        ILookup<Guid, StoredLimit> limitsOf = limits.Limits.ToLookup(limit => limit.Meter.MeterId);
        List<(LimitMeter Meter, AlertRule Rule)> absolute =
        [
            .. rules
                .Rules.Where(rule => rule.ThresholdValue is not null)
                .Select(rule => (LimitMeter.Of(enterpriseId, rule.FeatureName, rule.Scope, null, rule.Window), rule)),
        ];
        ILookup<Guid, AlertRule> rulesOf = absolute.ToLookup(pair => pair.Meter.MeterId, pair => pair.Rule);
        return new MeterPlan(
            limits,
            rules,
            [
                .. limits
                    .Meters.Concat(absolute.Select(pair => pair.Meter))
                    .DistinctBy(meter => meter.MeterId)
                    .Select(meter => new PlannedMeter(
                        meter,
                        new MeterLimits(meter, [.. limitsOf[meter.MeterId]]),
                        [.. rulesOf[meter.MeterId]],
                        PercentRules(rules, meter)
                    )),
            ]
        );
    }

    public bool IsOf(LimitSet limits, AlertRuleSet rules) =>
        ReferenceEquals(_limits, limits) && ReferenceEquals(_rules, rules);

    /// <summary>An active limit, or null.</summary>
    public StoredLimit? FindLimit(Guid limitId) => _limitsById.GetValueOrDefault(limitId);

    /// <summary>Whether a user's usage counts on a meter.</summary>
    public bool Counts(LimitMeter meter, Guid userId) => _limits.Counts(meter, userId);

    /// <summary>Who a role's meter counts.</summary>
    public IReadOnlyCollection<Guid> HoldersOf(LimitMeter meter) => _limits.HoldersOf(meter);

    private static AlertRule[] PercentRules(AlertRuleSet rules, LimitMeter meter) =>
        [
            .. rules.Rules.Where(rule =>
                rule.ThresholdPct is not null
                && rule.Window == meter.Window
                && string.Equals(rule.FeatureName, meter.FeatureName, StringComparison.Ordinal)
            ),
        ];
}
