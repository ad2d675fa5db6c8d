using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>What is known of a limit's usage just now.</summary>
/// <param name="Window">The current window.</param>
/// <param name="Now">The instant of the question.</param>
/// <param name="Used">In the window.</param>
/// <param name="Limit">The limit's value.</param>
/// <param name="Lately">Usage since <paramref name="LatelyFrom"/>: tells whether today goes as usual.</param>
/// <param name="LatelyFrom">The beginning of the local day, or of the window when it is shorter.</param>
internal readonly record struct LimitStanding(
    WindowSpan Window,
    DateTime Now,
    long Used,
    long Limit,
    long Lately,
    DateTime LatelyFrom
);

/// <summary>
/// Says when a limit will be reached: goes through the hours left in the window, each of which brings what it usually brings, more
/// or less by as much as days differ.
/// </summary>
/// <remarks>
/// Today's factor against a usual day is a gamma variable with mean 1 and the variance between days; usage so far, of Poisson
/// counts, moves it (the conjugate posterior), at most four times as strongly as the prior, because hours are not independent.
/// Other days have factors of their own, so that over a month they even out. The ends of the range are the mean ∓ 1.2816
/// standard deviations: one time in ten usage is below, one in ten above.
/// </remarks>
internal static class LimitForecaster
{
    private const double Deviations = 1.2816;
    private const double EvidenceMax = 4;

    public static LimitForecast Of(UsageRhythm? rhythm, LocalTime local, LimitStanding standing)
    {
        int learned = rhythm?.DaysLearned ?? 0;
        if (standing.Used >= standing.Limit)
        {
            return new LimitForecast(LimitOutcomes.Reached, null, null, null, null, null, null, learned);
        }

        if (rhythm is null)
        {
            return new LimitForecast(LimitOutcomes.Unknown, null, null, null, null, null, null, learned);
        }

        (double factor, double factorVariance) = Today(rhythm, local, standing);
        var ways = new Ways(standing.Limit - standing.Used);
        DateOnly today = local.DateOf(standing.Now);
        DateOnly date = today;
        double mean = 0;
        double usual = 0;
        double usualToday = 0;
        double spreadBefore = 0; // of the days that are done
        for (DateTime at = standing.Now; at < standing.Window.End; )
        {
            DateTime next = NextHour(local, at, standing.Window.End);
            if (local.DateOf(at) is var reached && reached != date)
            {
                spreadBefore += Spread(date);
                (date, usualToday) = (reached, 0);
            }

            double expected = rhythm.Expected(date, local.Show(at).Hour) * (next - at).TotalHours;
            usual += expected;
            usualToday += expected;
            mean += expected * (date == today ? factor : 1);
            double learnedFrom = rhythm.Variance / rhythm.DaysLearned * usual * usual;
            ways.Step(at, next, mean, Math.Sqrt(spreadBefore + Spread(date) + learnedFrom + mean));
            at = next;
        }

        return ways.Forecast(standing, local, learned);

        double Spread(DateOnly of) => (of == today ? factorVariance : rhythm.Variance) * usualToday * usualToday;
    }

    private static (double Factor, double Variance) Today(UsageRhythm rhythm, LocalTime local, LimitStanding standing)
    {
        double expected = 0;
        for (DateTime at = standing.LatelyFrom; at < standing.Now; )
        {
            DateTime next = NextHour(local, at, standing.Now);
            expected += rhythm.Expected(local.DateOf(at), local.Show(at).Hour) * (next - at).TotalHours;
            at = next;
        }

        double prior = 1 / rhythm.Variance;
        double most = Math.Max(expected, standing.Lately);
        double weight = most > EvidenceMax * prior ? EvidenceMax * prior / most : 1;
        double factor = (prior + (weight * standing.Lately)) / (prior + (weight * expected));
        return (factor, factor / (prior + (weight * expected)));
    }

    private static DateTime NextHour(LocalTime local, DateTime at, DateTime end)
    {
        DateTime next = local.NextHour(local.HourStart(at));
        return next < end ? next : end;
    }

    /// <summary>Three ways that usage may go, and when each comes to what is left of the limit.</summary>
    private sealed class Ways(double left)
    {
        private readonly double[] _reached = new double[3];
        private readonly DateTime?[] _at = new DateTime?[3];

        public void Step(DateTime from, DateTime to, double mean, double deviation)
        {
            Move(0, from, to, mean + (Deviations * deviation));
            Move(1, from, to, mean);
            Move(2, from, to, mean - (Deviations * deviation));
        }

        public LimitForecast Forecast(LimitStanding standing, LocalTime local, int daysLearned) =>
            new(
                _at[1] < standing.Window.End ? LimitOutcomes.Likely
                    : _at[0] < standing.Window.End ? LimitOutcomes.Possible
                    : LimitOutcomes.NotInWindow,
                Show(_at[0], local, standing),
                Show(_at[1], local, standing),
                Show(_at[2], local, standing),
                standing.Used + (long)Math.Round(_reached[1]),
                standing.Used + (long)Math.Round(_reached[2]),
                standing.Used + (long)Math.Round(_reached[0]),
                daysLearned
            );

        // To the minute: nobody knows it better.
        private static DateTimeOffset? Show(DateTime? at, LocalTime local, LimitStanding standing) =>
            at is { } utc && utc < standing.Window.End
                ? local.Show(utc.AddTicks(-(utc.Ticks % TimeSpan.TicksPerMinute)))
                : null;

        // Usage never falls, whatever the arithmetic of its range says.
        private void Move(int way, DateTime from, DateTime to, double reached)
        {
            double before = _reached[way];
            double after = Math.Max(before, reached);
            _reached[way] = after;
            if (_at[way] is null && after >= left)
            {
                _at[way] = from + ((to - from) * ((left - before) / (after - before)));
            }
        }
    }
}
