namespace UsageMonitor.Server.Anomalies;

/// <summary>What a day of a user is held for.</summary>
/// <param name="Kind">One of the three kinds about users.</param>
/// <param name="FeatureName">The feature, or empty.</param>
/// <param name="Score">0–1.</param>
/// <param name="Observed">Events, or the hour of the day, or 1.</param>
/// <param name="Expected">The usual.</param>
/// <param name="High">From where it stands out.</param>
/// <param name="Hour">The minutes of the first unusual hour into the day; 0 when it is about the whole day.</param>
internal sealed record UserFinding(
    string Kind,
    string FeatureName,
    double Score,
    double Observed,
    double Expected,
    double High,
    int Hour = 0
);

/// <summary>The three rules by which a user's day stands out from what is known of the user; each needs a history first.</summary>
internal sealed class UserRules(string sensitivity)
{
    /// <summary>An hour in which so many of the others are active too is nobody's own oddity.</summary>
    private const double SharedHourMin = 0.2;
    private const int HoursHistoryDays = 28;
    private const int SuddenEventsMin = 50;
    private const int VolumeDaysMin = 10;

    /// <summary>A feature that the enterprise itself is new to is being introduced.</summary>
    public const int FeatureAgeDaysMin = 14;

    private readonly int _hoursDaysMin = Choose(sensitivity, 40, 20, 10);
    private readonly int _hoursNear = Choose(sensitivity, 3, 2, 1);
    private readonly double _deviations = Choose(sensitivity, 7, 5, 4);
    private readonly int _featureDaysMin = Choose(sensitivity, 20, 10, 7);

    public bool IsOn { get; } = sensitivity != AnomalyTerms.Off;

    /// <summary>Activity at hours of the week in or near which this user, long known, never is.</summary>
    /// <param name="known">What was known before the day.</param>
    /// <param name="day">The day.</param>
    /// <param name="hours">The hours in which the user was active.</param>
    public UserFinding? UnusualHours(UserProfile known, int day, IEnumerable<UserHour> hours)
    {
        if (known.ActiveDays < _hoursDaysMin || day - known.FirstDay < HoursHistoryDays)
        {
            return null;
        }

        UserHour[] odd =
        [
            .. hours
                .Where(hour => hour.OthersShare < SharedHourMin && !known.WasActiveAround(hour.HourOfWeek, _hoursNear))
                .OrderBy(hour => hour.Minutes),
        ];
        return odd.Length == 0
            ? null
            : new UserFinding(
                AnomalyTerms.UnusualHours,
                "",
                1 - (1.0 / (known.ActiveDays + odd.Length)),
                odd.Length,
                0,
                0,
                odd[0].Minutes
            );
    }

    /// <summary>Far more events than the user's own days have.</summary>
    public UserFinding? SuddenVolume(UserProfile known, long events, string topFeature)
    {
        if (known.ActiveDays < VolumeDaysMin || events < SuddenEventsMin || events < 2 * known.GreatestEvents)
        {
            return null;
        }

        double surprise = known.SurpriseOf(events);
        return surprise < _deviations
            ? null
            : new UserFinding(
                AnomalyTerms.SuddenVolume,
                topFeature,
                surprise / (surprise + 1),
                events,
                known.UsualEvents,
                Math.Max(2 * known.GreatestEvents, known.EventsAt(_deviations))
            );
    }

    /// <summary>Whether a feature is new to the user and old to the enterprise, so that it is worth asking what others like them use.</summary>
    public bool IsNewTo(UserProfile known, int feature, int day, int featureDay) =>
        known.ActiveDays >= _featureDaysMin && !known.HasUsed(feature) && day - featureDay >= FeatureAgeDaysMin;

    private static T Choose<T>(string sensitivity, T low, T normal, T high) =>
        sensitivity switch
        {
            AnomalyTerms.Low => low,
            AnomalyTerms.High => high,
            _ => normal,
        };
}

/// <summary>An hour in which a user was active.</summary>
/// <param name="Minutes">From the day's beginning.</param>
/// <param name="HourOfWeek">By the enterprise's clock.</param>
/// <param name="OthersShare">Of the others who were active on the day, those who were in this hour.</param>
internal readonly record struct UserHour(int Minutes, int HourOfWeek, double OthersShare);
