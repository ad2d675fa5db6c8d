namespace UsageMonitor.Server.Anomalies;

/// <summary>What bounds the search for abnormal behaviour.</summary>
internal static class AnomalyLimits
{
    /// <summary>Features of an enterprise that are watched one by one: the busiest. All features together are watched as well.</summary>
    public const int FeaturesMax = 40;

    /// <summary>Local days over which the busiest are chosen, and which are learned from at first sight.</summary>
    public const int HistoryDays = 35;

    /// <summary>Hours of a series that one transaction feeds.</summary>
    public const int HoursPerStepMax = 168;

    /// <summary>Enterprises of one pass.</summary>
    public const int EnterprisesPerPassMax = 200;

    /// <summary>Users that one transaction evaluates.</summary>
    public const int UsersPerStepMax = 2_000;

    /// <summary>Users of an enterprise that are found to stand out on one day; the strangest of each step come first.</summary>
    public const int UserFindingsPerDayMax = 50;

    /// <summary>Features that are told apart in what is known of users; what an enterprise has beyond them is not watched per user.</summary>
    public const int UserFeaturesMax = 256;

    /// <summary>Anomalies of an enterprise that are mailed in an hour; the others are listed only.</summary>
    public const int NoticesPerHourMax = 10;

    /// <summary>Whom notices go to.</summary>
    public const int RecipientsMax = 20;

    /// <summary>Characters of what a person says of an anomaly.</summary>
    public const int NoteCharactersMax = 500;

    /// <summary>An hour is finished when everything received until so long after its end is counted.</summary>
    public static readonly TimeSpan LateAllowance = TimeSpan.FromMinutes(5);

    /// <summary>How often the running hour is looked at.</summary>
    public static readonly TimeSpan LookInterval = TimeSpan.FromMinutes(1);

    /// <summary>An enterprise whose step failed rests so long, so that it does not keep the others waiting.</summary>
    public static readonly TimeSpan FailureRest = TimeSpan.FromMinutes(5);

    /// <summary>What has not come for so long is not missed any more.</summary>
    public static readonly TimeSpan StoppedMax = TimeSpan.FromDays(7);
}
