namespace UsageMonitor.Contracts;

/// <summary>A usage limit as it is made or changed.</summary>
/// <param name="FeatureName">An exact name, a beginning such as <c>export*</c>, or <c>*</c>: all features, which is also meant when absent.</param>
/// <param name="Scope">Whose usage counts together: <c>USER</c> (each user's by itself), <c>ROLE</c> (all who hold a role) or <c>ENTERPRISE</c> (everybody).</param>
/// <param name="Subject">Of USER: one user as the events name them; each user when absent. Of ROLE: the role's name. Of ENTERPRISE: none.</param>
/// <param name="LimitValue">Events within the limit in one window: 0 to 1,000,000,000,000.</param>
/// <param name="WindowType"><c>HOURLY</c>, <c>DAILY</c> or <c>MONTHLY</c>, by the enterprise's clock.</param>
/// <param name="Action"><c>ALERT</c>: a violation is opened. <c>BLOCK</c>: what goes beyond is refused.</param>
/// <param name="Status"><c>ACTIVE</c> (when absent) or <c>INACTIVE</c>.</param>
/// <param name="StartsAt">From when it is in force, inclusive; always when absent.</param>
/// <param name="ExpiresAt">Until when, exclusive; for ever when absent. A limit with an end goes before one without, so a higher one is a raise that ends by itself.</param>
/// <param name="Version">Of a change: the version that is being changed. Another in between is answered 409.</param>
public sealed record LimitRequest(
    string? FeatureName,
    string? Scope,
    string? Subject,
    long? LimitValue,
    string? WindowType,
    string? Action,
    string? Status = null,
    DateTimeOffset? StartsAt = null,
    DateTimeOffset? ExpiresAt = null,
    int? Version = null
);

/// <summary>A usage limit. Usage and forecast are null in the answer to a change and of old versions.</summary>
/// <param name="LimitId">The limit.</param>
/// <param name="Version">Raised by every change; refusals and violations name it.</param>
/// <param name="FeatureName">An exact name, a beginning such as <c>export*</c>, or <c>*</c>.</param>
/// <param name="Scope"><c>USER</c>, <c>ROLE</c> or <c>ENTERPRISE</c>.</param>
/// <param name="Subject">The user or role; null: each user, or everybody.</param>
/// <param name="LimitValue">Events within the limit in one window.</param>
/// <param name="WindowType"><c>HOURLY</c>, <c>DAILY</c> or <c>MONTHLY</c>.</param>
/// <param name="Action"><c>ALERT</c> or <c>BLOCK</c>.</param>
/// <param name="Status"><c>ACTIVE</c>, <c>INACTIVE</c>, or <c>DELETED</c> of the version that ended it.</param>
/// <param name="StartsAt">From when it is in force, inclusive.</param>
/// <param name="ExpiresAt">Until when, exclusive.</param>
/// <param name="CreatedBy">Who made it; of an old version, who changed it.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="UpdatedAt">When this version was made.</param>
/// <param name="Used">Events in the current window: the highest user's when the limit is each user's. Null: not counted yet.</param>
/// <param name="Remaining">Of the limit; never below 0.</param>
/// <param name="WindowStart">When the current window began.</param>
/// <param name="ResetsAt">When it ends and counting begins anew.</param>
/// <param name="AsOf">Everything received until then is in <paramref name="Used"/>.</param>
/// <param name="Forecast">When the limit will be reached.</param>
/// <param name="Contributors">Who has used most of it, at most 5; null: too much to count.</param>
public sealed record LimitResponse(
    Guid LimitId,
    int Version,
    string FeatureName,
    string Scope,
    string? Subject,
    long LimitValue,
    string WindowType,
    string Action,
    string Status,
    DateTimeOffset? StartsAt,
    DateTimeOffset? ExpiresAt,
    Guid CreatedBy,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt,
    long? Used = null,
    long? Remaining = null,
    DateTimeOffset? WindowStart = null,
    DateTimeOffset? ResetsAt = null,
    DateTimeOffset? AsOf = null,
    LimitForecast? Forecast = null,
    IReadOnlyList<LimitContributor>? Contributors = null
);

/// <summary>Outcomes of a <see cref="LimitForecast"/>.</summary>
public static class LimitOutcomes
{
    /// <summary>The limit is reached already.</summary>
    public const string Reached = "REACHED";

    /// <summary>It will likely be reached before the window ends.</summary>
    public const string Likely = "LIKELY";

    /// <summary>It is reached in this window only if there is clearly more usage than usual.</summary>
    public const string Possible = "POSSIBLE";

    /// <summary>It is not reached in this window.</summary>
    public const string NotInWindow = "NOT_IN_WINDOW";

    /// <summary>There is no full day of usage to learn from yet, or usage is not counted yet.</summary>
    public const string Unknown = "UNKNOWN";
}

/// <summary>
/// When a limit will be reached: four of five times between <paramref name="Earliest"/> and <paramref name="Latest"/>. Learned from the hours
/// and weekdays of the last four weeks, so that nights and weekends count.
/// </summary>
/// <param name="Outcome">See <see cref="LimitOutcomes"/>.</param>
/// <param name="Earliest">Null: not in this window.</param>
/// <param name="Likely">Null: not in this window.</param>
/// <param name="Latest">Null: not in this window.</param>
/// <param name="ExpectedAtReset">Events expected to have been used when the window ends; null when unknown.</param>
/// <param name="ExpectedLow">The lower end of its range.</param>
/// <param name="ExpectedHigh">The upper end of its range.</param>
/// <param name="DaysLearned">Full days of usage that were learned from.</param>
public sealed record LimitForecast(
    string Outcome,
    DateTimeOffset? Earliest,
    DateTimeOffset? Likely,
    DateTimeOffset? Latest,
    long? ExpectedAtReset,
    long? ExpectedLow,
    long? ExpectedHigh,
    int DaysLearned
);

/// <summary>A user with much of a limit's usage.</summary>
/// <param name="UserId">As the events name them.</param>
/// <param name="Used">
/// Events in the window. Of an hour that many share: on the local day, of those who were active in the hour, since users' events are summed by the day.
/// </param>
/// <param name="Share">Of what all have used together; of a limit that is each user's, of the limit. 0.25 is a quarter.</param>
public sealed record LimitContributor(string UserId, long Used, double Share);

/// <summary><c>GET /v1/admin/usage/limits</c>.</summary>
/// <param name="Limits">As they were made.</param>
/// <param name="Next">Ask again with <c>after</c> set to this; null when there are no more.</param>
public sealed record LimitListResponse(IReadOnlyList<LimitResponse> Limits, Guid? Next);

/// <summary>A version of a limit.</summary>
/// <param name="Change"><c>CREATED</c>, <c>CHANGED</c> or <c>DELETED</c>.</param>
/// <param name="ChangedBy">The person or API key.</param>
/// <param name="ChangedAt">When.</param>
/// <param name="Limit">The limit as it was then.</param>
public sealed record LimitVersion(string Change, Guid ChangedBy, DateTimeOffset ChangedAt, LimitResponse Limit);

/// <summary><c>GET /v1/admin/usage/limits/{limitId}/versions</c>.</summary>
/// <param name="Versions">The newest first.</param>
/// <param name="Next">Ask again with <c>before</c> set to this; null when there are no more.</param>
public sealed record LimitVersionsResponse(IReadOnlyList<LimitVersion> Versions, int? Next);

/// <summary><c>GET</c> and <c>PUT /v1/admin/usage/limits/settings</c>.</summary>
/// <param name="WhenUncounted">
/// What happens to usage that a BLOCK limit is about while it cannot be counted: <c>OPEN</c> lets it through with a flag, <c>CLOSED</c> refuses it.
/// </param>
public sealed record LimitSettings(string? WhenUncounted);

/// <summary><c>POST /v1/admin/usage/limits/backtest</c>.</summary>
/// <param name="Limit">The limit to try, as if it had been the only one and in force all the time; it is not kept.</param>
/// <param name="From">The first local day; 30 days before <paramref name="To"/> when absent.</param>
/// <param name="To">The local day after the last; at most 90 days. Tomorrow when absent.</param>
public sealed record LimitBacktestRequest(LimitRequest? Limit, string? From = null, string? To = null);

/// <summary>What a limit would have meant for recorded usage.</summary>
/// <param name="DaysEvaluated">Local days that were replayed, the last one perhaps in part.</param>
/// <param name="EventsEvaluated">Events that the limit counts.</param>
/// <param name="Blocked">Of these, beyond the limit.</param>
/// <param name="WindowsEvaluated">Windows in which the limit counted something; of a limit that is each user's, one for each user.</param>
/// <param name="WindowsReached">Of these, in which something went beyond.</param>
/// <param name="UsersBlocked">Users who would have been refused something.</param>
/// <param name="FirstAt">The first refusal; null when there is none.</param>
/// <param name="Users">Those with the most refusals, at most 20.</param>
/// <param name="Windows">Those with the most refusals, at most 100.</param>
/// <param name="Unattributed">
/// Refusals that <paramref name="Users"/> leaves out: of a limit that many share, on a day in whose midst it was reached, when
/// there are too many events to put in order (<paramref name="FromEvents"/> is false).
/// </param>
/// <param name="FromEvents">
/// True: replayed event by event. False: from each user's count of the day; <c>FirstAt</c> is then the first use of that day.
/// </param>
/// <param name="IsComplete">The whole range was replayed.</param>
/// <param name="EvaluatedThrough">Until when it was, exclusive.</param>
public sealed record LimitBacktestResponse(
    int DaysEvaluated,
    long EventsEvaluated,
    long Blocked,
    long WindowsEvaluated,
    long WindowsReached,
    int UsersBlocked,
    DateTimeOffset? FirstAt,
    IReadOnlyList<BacktestUser> Users,
    IReadOnlyList<BacktestWindow> Windows,
    long Unattributed,
    bool FromEvents,
    bool IsComplete,
    DateTimeOffset EvaluatedThrough
);

/// <summary>A user who would have been refused.</summary>
/// <param name="UserId">As the events name them.</param>
/// <param name="Blocked">How often.</param>
/// <param name="Windows">In how many windows.</param>
/// <param name="FirstAt">When for the first time.</param>
public sealed record BacktestUser(string UserId, long Blocked, int Windows, DateTimeOffset FirstAt);

/// <summary>A window in which the limit would have refused.</summary>
/// <param name="Start">When it began.</param>
/// <param name="End">When it ended.</param>
/// <param name="Attempts">Events that the limit counts; of a limit that is each user's, of those who went beyond it.</param>
/// <param name="Blocked">Of these, beyond the limit.</param>
/// <param name="Users">Who would have been refused; null when that is not known (see <c>Unattributed</c>).</param>
/// <param name="FirstAt">The first refusal.</param>
public sealed record BacktestWindow(
    DateTimeOffset Start,
    DateTimeOffset End,
    long Attempts,
    long Blocked,
    int? Users,
    DateTimeOffset FirstAt
);
