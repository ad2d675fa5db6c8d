using System.Globalization;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Tests.Limits;

/// <summary>What admission does, said as plainly as can be: a number for each subject and each name that the local clock gives to the window.</summary>
internal sealed record NaiveAdmission(
    IReadOnlyList<(Guid User, DateTime At, (Guid, string) Window)> Refused,
    int Windows
)
{
    public static NaiveAdmission Of(
        string timeZone,
        IEnumerable<(Guid User, DateTime At)> events,
        LimitScope scope,
        LimitWindow window,
        long limit
    )
    {
        var zone = TimeZoneInfo.FindSystemTimeZoneById(timeZone);
        var counts = new Dictionary<(Guid, string), long>();
        var refused = new List<(Guid, DateTime, (Guid, string))>();
        foreach ((Guid user, DateTime at) in events)
        {
            string name = TimeZoneInfo
                .ConvertTime(new DateTimeOffset(at), zone)
                .ToString(
                    window switch
                    {
                        LimitWindow.Hourly => "yyyy-MM-dd HH zzz",
                        LimitWindow.Daily => "yyyy-MM-dd",
                        _ => "yyyy-MM",
                    },
                    CultureInfo.InvariantCulture
                );
            (Guid, string) key = (scope == LimitScope.User ? user : Guid.Empty, name);
            counts[key] = counts.GetValueOrDefault(key) + 1;
            if (counts[key] > limit)
            {
                refused.Add((user, at, key));
            }
        }

        return new NaiveAdmission(refused, counts.Count);
    }
}
