using System.Runtime.CompilerServices;

namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>What is expected of a sample before it is seen.</summary>
/// <param name="Expected">The value.</param>
/// <param name="Error">How far off an expectation like this one usually is.</param>
/// <param name="IsHourly">Whether the hours foretell the series better than what there was just now.</param>
internal readonly record struct Expectation(double Expected, double Error, bool IsHourly)
{
    /// <summary>How strange a sample is by its own error.</summary>
    public double StrangenessOf(double value)
    {
        double none = (1e-6 * Math.Abs(value)) + 1e-9;
        return Math.Abs(value - Expected) / (Error + none);
    }
}

/// <summary>
/// What is expected of a sample: by the hour of the week, by the hour of the day, and by what there was just now; each counts by
/// how well it has foretold. Hours are those of UTC: where clocks change, a week is learned anew.
/// </summary>
internal struct Rhythm
{
    private const int Hours = 24;
    private const int HoursOfWeek = 7 * Hours;
    private const int SecondsOfHour = 3_600;
    private const double HourRate = 0.3;
    private const double DriftRate = 0.02;
    private const double RecentRate = 0.3;
    private const double ErrorRate = 0.01;
    private const double LeanRate = 1.0 / 6;

    /// <summary>What an error has beyond so many usual ones teaches a tenth: one spike does not widen the range for weeks.</summary>
    private const double ErrorsLearned = 6;
    private const double BeyondLearned = 0.1;

    private double _mean;
    private double _meanSize;
    private double _spread;
    private double _least;
    private double _error;
    private double _hourSum;
    private int _hourSamples;
    private int _hour;
    private Foretelling _byWeek;
    private Foretelling _byDay;
    private Foretelling _byNow;
    private WeekHours _usual;
    private double _lean;

    public readonly bool IsSound => _hour is >= 0 and < HoursOfWeek;

    public readonly bool IsNeverNegative => _least >= 0;

    public readonly Expectation Expect(long unixSeconds)
    {
        int hour = HourOf(unixSeconds);
        double byWeek = _byWeek.IsProven && IsKnown(hour) ? _usual[hour] + _byWeek.Drift : double.NaN;
        double byDay = _byDay.IsProven ? DailyOf(hour) + _byDay.Drift : double.NaN;
        double weight = 0;
        double sum = 0;
        double hourly = double.PositiveInfinity;
        if (double.IsFinite(byWeek))
        {
            sum += _byWeek.Weight * byWeek;
            weight += _byWeek.Weight;
            hourly = _byWeek.Error;
        }

        if (double.IsFinite(byDay))
        {
            sum += _byDay.Weight * byDay;
            weight += _byDay.Weight;
            hourly = Math.Min(hourly, _byDay.Error);
        }

        double blind = Math.Min(_byNow.Error, _spread);
        bool isHourly = hourly < blind;
        // What there was just now says nothing where the hours say all: else an outage would soon be expected.
        double now = isHourly ? 0 : _byNow.Weight;
        double expected = (sum + (now * _byNow.Drift)) / (weight + now);
        if (IsNeverNegative)
        {
            expected = Math.Max(0, expected);
        }

        return new Expectation(expected, _error * Busyness(expected), isHourly);
    }

    /// <summary>How strange the last samples are together, this one included: a little too few, hour after hour.</summary>
    public readonly double LeanWith(double value, in Expectation expectation)
    {
        double error = (value - expectation.Expected) / Busyness(expectation.Expected);
        double none = (1e-6 * Math.Abs(value)) + 1e-9;
        return Math.Abs(_lean + (LeanRate * (error - _lean))) / (_error + none);
    }

    public void Learn(long unixSeconds, double value, in Expectation expectation, long samples)
    {
        double Rate(double rate) => Math.Max(rate, 1.0 / (samples + 1));
        int hour = HourOf(unixSeconds);
        if (samples == 0)
        {
            Span<float> usual = _usual;
            usual.Fill(float.NaN);
            _hour = hour;
            _mean = value;
            _least = value;
            _byNow.Drift = value;
        }
        else if (hour != _hour)
        {
            CloseHour();
            _hour = hour;
        }

        double error = (value - expectation.Expected) / Busyness(expectation.Expected);
        _lean += LeanRate * (error - _lean);
        error = Math.Abs(error);
        _error += Rate(ErrorRate) * ((samples < HoursOfWeek ? error : Bounded(error, _error)) - _error);
        if (IsKnown(hour))
        {
            _byWeek.Learn(value - _usual[hour], DriftRate);
        }

        double daily = DailyOf(hour);
        if (double.IsFinite(daily))
        {
            _byDay.Learn(value - daily, DriftRate);
        }

        _byNow.Learn(value, RecentRate);
        _spread += Rate(ErrorRate / 5) * (Math.Abs(value - _mean) - _spread);
        _mean += Rate(ErrorRate / 5) * (value - _mean);
        _meanSize += Rate(ErrorRate / 5) * (Math.Abs(value) - _meanSize);
        _least = Math.Min(_least, value);
        _hourSum += value;
        _hourSamples++;
    }

    private void CloseHour()
    {
        double mean = _hourSum / _hourSamples;
        _usual[_hour] = (float)(IsKnown(_hour) ? _usual[_hour] + (HourRate * (mean - _usual[_hour])) : mean);
        _hourSum = 0;
        _hourSamples = 0;
    }

    /// <summary>Counts scatter like the root of their size: a busy hour is allowed more than a quiet one.</summary>
    private readonly double Busyness(double expected) =>
        IsNeverNegative && _meanSize > 0 ? Math.Sqrt((Math.Max(0, expected) + _meanSize) / (2 * _meanSize)) : 1;

    private readonly double DailyOf(int hour)
    {
        double sum = 0;
        int days = 0;
        for (int at = hour % Hours; at < HoursOfWeek; at += Hours)
        {
            if (IsKnown(at))
            {
                sum += _usual[at];
                days++;
            }
        }

        return days > 0 ? sum / days : double.NaN;
    }

    private readonly bool IsKnown(int hour) => !float.IsNaN(_usual[hour]);

    private static double Bounded(double error, double usual)
    {
        double most = ErrorsLearned * usual;
        return error <= most ? error : most + (BeyondLearned * (error - most));
    }

    private static int HourOf(long unixSeconds) =>
        (int)(((unixSeconds / SecondsOfHour % HoursOfWeek) + HoursOfWeek) % HoursOfWeek);

    /// <summary>One way to foretell: what it is off by lately, and how far off it is even so.</summary>
    private struct Foretelling
    {
        private const int ProofSamples = 24;
        private const double Tiny = 1e-18;

        public double Drift;
        public double Error;
        private long _samples;

        public readonly double Weight => 1 / ((Error * Error) + Tiny);

        public readonly bool IsProven => _samples >= ProofSamples;

        public void Learn(double remainder, double driftRate)
        {
            double first = 1.0 / (_samples + 1);
            double error = Math.Abs(remainder - Drift);
            Error += Math.Max(ErrorRate, first) * ((IsProven ? Bounded(error, Error) : error) - Error);
            Drift += Math.Max(driftRate, first) * (remainder - Drift);
            _samples++;
        }
    }

    [InlineArray(HoursOfWeek)]
    private struct WeekHours
    {
        private float _first;
    }
}
