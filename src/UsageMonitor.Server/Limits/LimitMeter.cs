using System.Text;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>
/// What limits count. Limits on the same feature, scope, role and window share a meter, so that a limit that is raised, or
/// replaced for a week, goes on from what has been used.
/// </summary>
/// <param name="MeterId">UUIDv5 of the rest, in the enterprise's namespace.</param>
/// <param name="FeatureName">A name, a beginning such as <c>export*</c>, or <c>*</c>.</param>
/// <param name="Scope">Whose usage counts together.</param>
/// <param name="RoleName">Of <see cref="LimitScope.Role"/>.</param>
/// <param name="Window">What it counts in.</param>
internal sealed record LimitMeter(
    Guid MeterId,
    string FeatureName,
    LimitScope Scope,
    string? RoleName,
    LimitWindow Window
)
{
    public static LimitMeter Of(
        Guid enterpriseId,
        string featureName,
        LimitScope scope,
        string? roleName,
        LimitWindow window
    ) =>
        new(
            UserIds.FromExternal(
                enterpriseId,
                Encoding.UTF8.GetBytes($"meter\n{window.Word()}\n{scope.Word()}\n{roleName}\n{featureName}")
            ),
            featureName,
            scope,
            roleName,
            window
        );

    /// <summary>Whose counter a user's usage is on: the user's own, or the one of all (the nil UUID).</summary>
    public Guid SubjectOf(Guid userId) => Scope == LimitScope.User ? userId : Guid.Empty;
}

/// <summary>A local hour, day or month, by its UTC instants.</summary>
/// <param name="Start">Inclusive.</param>
/// <param name="End">Exclusive.</param>
internal readonly record struct WindowSpan(DateTime Start, DateTime End)
{
    public bool Contains(DateTime utc) => utc >= Start && utc < End;

    public static WindowSpan Of(LimitWindow window, LocalTime local, DateTime utc)
    {
        switch (window)
        {
            case LimitWindow.Hourly:
                DateTime hour = local.HourStart(utc);
                return new WindowSpan(hour, local.NextHour(hour));
            case LimitWindow.Daily:
                return new WindowSpan(local.DayStart(utc), local.DayStart(local.DateOf(utc).AddDays(1)));
            default:
                DateOnly date = local.DateOf(utc);
                return new WindowSpan(local.MonthStart(utc), local.DayStart(date.AddDays(1 - date.Day).AddMonths(1)));
        }
    }
}
