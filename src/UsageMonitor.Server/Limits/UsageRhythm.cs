using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>
/// How somebody's usage goes by weekday and hour, learned from the full local days of the last four weeks: what a day brings, how that
/// spreads over its hours, and how much days of one kind differ.
/// </summary>
internal sealed class UsageRhythm
{
    /// <summary>Full local days that are looked at.</summary>
    public const int DaysMax = 28;

    // With fewer, a weekday has been seen at most once, and days are all taken to be alike.
    private const int WeeklyDaysMin = 14;
    private const int Weekdays = 7;
    private const int Hours = 24;

    // Before anything is seen days are taken to differ by half, which counts as much as this many days do.
    private const double PriorVariance = 0.25;
    private const double PriorDays = 2;

    private readonly double[] _dayMeans;
    private readonly double[,] _hourShares;

    private UsageRhythm(int daysLearned, double[] dayMeans, double[,] hourShares, double variance)
    {
        (DaysLearned, _dayMeans, _hourShares, Variance) = (daysLearned, dayMeans, hourShares, variance);
    }

    /// <summary>Full local days since usage was first seen among those looked at.</summary>
    public int DaysLearned { get; }

    /// <summary>Of a day's usage, relative to what is usual on its weekday: 0.01 is a standard deviation of a tenth.</summary>
    public double Variance { get; }

    /// <param name="today">The local day that is not full yet.</param>
    /// <param name="days">Usage by local day; days without any may be missing.</param>
    /// <param name="hours">Usage by the beginning of its local hour, of the same or of a wider circle: only its shape is taken.</param>
    /// <param name="local">The enterprise's time.</param>
    /// <returns>Null: no full day of usage has been seen.</returns>
    public static UsageRhythm? Learn(
        DateOnly today,
        IReadOnlyDictionary<DateOnly, long> days,
        IReadOnlyDictionary<DateTime, long> hours,
        LocalTime local
    )
    {
        DateOnly earliest = today.AddDays(-DaysMax);
        DateOnly first = days.Where(day => day.Value > 0 && day.Key >= earliest && day.Key < today)
            .Select(day => day.Key)
            .DefaultIfEmpty(today)
            .Min();
        int learned = today.DayNumber - first.DayNumber;
        if (learned == 0)
        {
            return null;
        }

        bool isWeekly = learned >= WeeklyDaysMin;
        double[] means = Means(first, learned, days, isWeekly);
        return new UsageRhythm(
            learned,
            means,
            Shares(first, today, hours, local, isWeekly),
            VarianceOf(first, learned, days, means, isWeekly ? Weekdays : 1)
        );
    }

    /// <summary>Usage that an hour of the local clock brings on a date.</summary>
    public double Expected(DateOnly date, int hour) =>
        _dayMeans[(int)date.DayOfWeek] * _hourShares[(int)date.DayOfWeek, hour];

    private static double[] Means(DateOnly first, int learned, IReadOnlyDictionary<DateOnly, long> days, bool isWeekly)
    {
        double[] sums = new double[Weekdays];
        int[] counts = new int[Weekdays];
        for (int day = 0; day < learned; day++)
        {
            DateOnly date = first.AddDays(day);
            sums[(int)date.DayOfWeek] += days.GetValueOrDefault(date);
            counts[(int)date.DayOfWeek]++;
        }

        double overall = sums.Sum() / learned;
        return [.. sums.Select((sum, weekday) => isWeekly ? sum / counts[weekday] : overall)];
    }

    private static double[,] Shares(
        DateOnly first,
        DateOnly today,
        IReadOnlyDictionary<DateTime, long> hours,
        LocalTime local,
        bool isWeekly
    )
    {
        double[,] sums = new double[Weekdays, Hours];
        foreach ((DateTime bucket, long value) in hours)
        {
            DateTime clock = local.Show(bucket).DateTime;
            var date = DateOnly.FromDateTime(clock);
            if (date >= first && date < today)
            {
                for (int weekday = 0; weekday < Weekdays; weekday++)
                {
                    sums[weekday, clock.Hour] += !isWeekly || weekday == (int)date.DayOfWeek ? value : 0;
                }
            }
        }

        for (int weekday = 0; weekday < Weekdays; weekday++)
        {
            double total = 0;
            for (int hour = 0; hour < Hours; hour++)
            {
                total += sums[weekday, hour];
            }

            for (int hour = 0; hour < Hours; hour++)
            {
                sums[weekday, hour] = total > 0 ? sums[weekday, hour] / total : 1.0 / Hours;
            }
        }

        return sums;
    }

    // What chance alone makes of counts (a Poisson's variance is its mean) is left out here: a forecast adds it for its own stretch.
    private static double VarianceOf(
        DateOnly first,
        int learned,
        IReadOnlyDictionary<DateOnly, long> days,
        double[] means,
        int estimated
    )
    {
        double squares = 0;
        double chance = 0;
        double scale = 0;
        for (int day = 0; day < learned; day++)
        {
            DateOnly date = first.AddDays(day);
            double mean = means[(int)date.DayOfWeek];
            double apart = days.GetValueOrDefault(date) - mean;
            squares += apart * apart;
            chance += mean;
            scale += mean * mean;
        }

        int free = Math.Max(learned - estimated, 0);
        double seen = free == 0 ? 0 : Math.Max(0, ((squares * learned / free) - chance) / scale);
        return ((free * seen) + (PriorDays * PriorVariance)) / (free + PriorDays);
    }
}
