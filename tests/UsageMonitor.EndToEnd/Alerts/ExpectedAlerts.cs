using UsageMonitor.Contracts;

namespace UsageMonitor.EndToEnd.Alerts;

/// <summary>An alert by what there may be one of.</summary>
internal readonly record struct AlertIdentity(
    Guid AlertId,
    Guid LimitId,
    Guid SubjectId,
    DateTime WindowStart,
    string Severity
);

/// <summary>Which alerts there must be, computed from what was acknowledged by the plainest means: it shares nothing with the server.</summary>
internal static class ExpectedAlerts
{
    private const int WholePercent = 100;

    public static HashSet<AlertIdentity> Of(DrillTenant tenant, DateTimeOffset now)
    {
        var expected = new HashSet<AlertIdentity>();
        foreach (AlertRuleResponse rule in tenant.Rules)
        {
            if (rule.ThresholdValue is { } value)
            {
                foreach ((Guid subject, DateTime window, int used, _) in Counts(rule.FeatureName, rule.Scope!))
                {
                    if (used >= value)
                    {
                        expected.Add(new AlertIdentity(rule.AlertId, Guid.Empty, subject, window, "LOW"));
                    }
                }

                continue;
            }

            foreach (
                LimitResponse limit in tenant.Limits.Where(limit =>
                    limit.FeatureName == rule.FeatureName && limit.WindowType == rule.WindowType
                )
            )
            {
                long threshold = ((limit.LimitValue * rule.ThresholdPct!.Value) + WholePercent - 1) / WholePercent;
                foreach (
                    (Guid subject, DateTime window, int used, bool isRefused) in Counts(limit.FeatureName, limit.Scope)
                )
                {
                    bool isReached = used >= limit.LimitValue || isRefused;
                    if (used >= threshold || isRefused)
                    {
                        string severity = isReached ? "HIGH" : "LOW";
                        expected.Add(new AlertIdentity(rule.AlertId, limit.LimitId, subject, window, severity));
                    }
                }
            }

            IEnumerable<(Guid Subject, DateTime Window, int Used, bool IsRefused)> Counts(
                string feature,
                string scope
            ) =>
                tenant
                    .Acknowledged.Where(one => feature == DrillTenant.All || one.Feature == feature)
                    .GroupBy(one =>
                        (scope == "USER" ? one.UserId : Guid.Empty, Window(tenant.Tenant.Zone, rule.WindowType, one.At))
                    )
                    // Late events of a window that has ended are counted and tell nobody.
                    .Where(of => of.Key.Item2.End > now.UtcDateTime)
                    .Select(of =>
                        (
                            of.Key.Item1,
                            of.Key.Item2.Start,
                            of.Count(one => !one.IsBlocked),
                            // What is blocked is blocked by the limit on this very feature.
                            feature != DrillTenant.All
                                && of.Any(one => one.IsBlocked)
                        )
                    );
        }

        return expected;
    }

    private static (DateTime Start, DateTime End) Window(TimeZoneInfo zone, string window, DateTimeOffset at)
    {
        DateTime day = TimeZoneInfo.ConvertTime(at, zone).Date;
        return window == "DAILY"
            ? (Utc(day), Utc(day.AddDays(1)))
            : (Utc(new DateTime(day.Year, day.Month, 1)), Utc(new DateTime(day.Year, day.Month, 1).AddMonths(1)));

        DateTime Utc(DateTime midnight) => TimeZoneInfo.ConvertTimeToUtc(midnight, zone);
    }
}
