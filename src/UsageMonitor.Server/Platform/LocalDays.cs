using System.Globalization;

namespace UsageMonitor.Server.Platform;

/// <summary>A range of local days as queries ask for it: <c>from</c> inclusive, <c>to</c> exclusive; the last 30 days unless told.</summary>
internal readonly record struct LocalDays(DateOnly From, DateOnly To)
{
    /// <summary>Days of one query.</summary>
    public const int DaysMax = 11_000;

    /// <summary>Days of one query by the hour.</summary>
    public const int HourlyDaysMax = 100;

    private const int DefaultDays = 30;
    private static readonly DateOnly Earliest = new(1999, 12, 31);
    private static readonly DateOnly Latest = new(2200, 1, 1);

    /// <returns>The range, or null with what is wrong.</returns>
    public static LocalDays? Parse(
        string? from,
        string? to,
        EnterpriseInfo enterprise,
        DateTimeOffset now,
        out string error,
        int daysMax = DaysMax
    )
    {
        error = "";
        DateOnly today = new LocalTime(enterprise.TimeZone).DateOf(now.UtcDateTime);
        if (!TryDate(to, today.AddDays(1), out DateOnly end))
        {
            error = "to: must be a date such as 2026-11-30 (exclusive).";
            return null;
        }

        if (!TryDate(from, end.AddDays(-DefaultDays), out DateOnly start))
        {
            error = "from: must be a date such as 2026-11-01 (inclusive).";
            return null;
        }

        if (start >= end || end.DayNumber - start.DayNumber > daysMax)
        {
            error = $"from must be before to, and the range at most {daysMax} days.";
            return null;
        }

        return new LocalDays(start, end);
    }

    private static bool TryDate(string? text, DateOnly fallback, out DateOnly date)
    {
        date = fallback;
        return string.IsNullOrEmpty(text)
            || (
                DateOnly.TryParseExact(text, "yyyy-MM-dd", CultureInfo.InvariantCulture, DateTimeStyles.None, out date)
                && date >= Earliest
                && date <= Latest
            );
    }
}
