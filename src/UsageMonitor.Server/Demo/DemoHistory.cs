using System.Globalization;
using System.Text;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Demo;

/// <summary>One event of a demo, before it is JSON.</summary>
internal readonly record struct DemoEvent(Guid EventId, DateTime Timestamp, Stretch Stretch);

/// <summary>
/// The sample of one enterprise, moved by whole weeks so that weekdays stay weekdays, in the enterprise's own time. It ends
/// where the enterprise begins. The same enterprise has the same history whenever it is asked for, down to the event ids.
/// </summary>
internal sealed class DemoHistory(DemoEnterprise enterprise, TimeZoneInfo zone, DateTimeOffset createdAt)
{
    /// <summary>Whole days before the day of creation.</summary>
    public const int Days = 90;

    private const int DaysOfWeek = 7;

    /// <summary>All events, a day of the sample after the other.</summary>
    public IEnumerable<DemoEvent> Events()
    {
        var today = DateOnly.FromDateTime(TimeZoneInfo.ConvertTime(createdAt, zone).DateTime);
        DateOnly sunday = today.AddDays((DaysOfWeek - (int)today.DayOfWeek) % DaysOfWeek);
        foreach (Stretch stretch in enterprise.Stretches)
        {
            DateOnly date = sunday.AddDays(stretch.Day);
            if (date < today.AddDays(-Days) || date > today)
            {
                continue;
            }

            DateTime start = Instant(date.ToDateTime(stretch.Time));
            for (int use = 0; use < stretch.Count; use++)
            {
                // Nobody is as regular as a clock; what moves a use must not be left to chance, or a repeat would differ.
                int wobbleSeconds = ((stretch.Line * 7_919) + (use * 104_729)) % stretch.EverySeconds;
                DateTime timestamp = start.AddSeconds((use * stretch.EverySeconds) + wobbleSeconds);
                if (timestamp <= createdAt.UtcDateTime)
                {
                    yield return new DemoEvent(EventIdOf(stretch, use), timestamp, stretch);
                }
            }
        }
    }

    private Guid EventIdOf(Stretch stretch, int use) =>
        UserIds.FromExternal(
            enterprise.EnterpriseId,
            Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"demo/{stretch.Line}/{use}"))
        );

    private DateTime Instant(DateTime local) =>
        // Half an hour and more are skipped in spring: whoever meant that time was an hour later.
        TimeZoneInfo.ConvertTimeToUtc(zone.IsInvalidTime(local) ? local.AddHours(1) : local, zone);
}
