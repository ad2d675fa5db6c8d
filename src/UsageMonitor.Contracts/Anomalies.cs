namespace UsageMonitor.Contracts;

/// <summary>Behaviour that stood out.</summary>
/// <param name="AnomalyId">Its id; later ones are greater.</param>
/// <param name="Kind">
/// <c>SPIKE</c>, <c>DROP</c> or <c>STOPPED</c> (nothing came where something had to) of a series of hours; <c>UNUSUAL_HOURS</c>,
/// <c>SUDDEN_VOLUME</c> or <c>NEW_FEATURE</c> of a user's day.
/// </param>
/// <param name="Series"><c>USAGE</c>, <c>ACTIVE_USERS</c> or <c>USER</c>.</param>
/// <param name="FeatureName">The feature; null: all together.</param>
/// <param name="UserId">The user as events name them; null: nobody in particular.</param>
/// <param name="From">When it began.</param>
/// <param name="To">When it ended, or how far it has been seen to last.</param>
/// <param name="Observed">What came in an hour, or on the user's day; of several hours that of the strangest.</param>
/// <param name="Expected">What was expected before it was seen.</param>
/// <param name="Low">The lower end of what was expected.</param>
/// <param name="High">The upper end of what was expected.</param>
/// <param name="Score">How strange it is, 0–1.</param>
/// <param name="Status"><c>OPEN</c> or <c>RESOLVED</c>.</param>
/// <param name="Detail">All of it in words.</param>
/// <param name="OpenedAt">When it was found.</param>
/// <param name="ResolvedAt">When it was seen to be over, or an admin said that it was expected.</param>
/// <param name="Feedback">What an admin has said of it.</param>
public sealed record AnomalyResponse(
    Guid AnomalyId,
    string Kind,
    string Series,
    string? FeatureName,
    string? UserId,
    DateTimeOffset From,
    DateTimeOffset To,
    double Observed,
    double Expected,
    double Low,
    double High,
    double Score,
    string Status,
    string Detail,
    DateTimeOffset OpenedAt,
    DateTimeOffset? ResolvedAt,
    AnomalyFeedback? Feedback
);

/// <summary>What an admin has said of an anomaly.</summary>
/// <param name="IsExpected">There was a reason for it.</param>
/// <param name="Note">Which, in their words.</param>
/// <param name="By">Who said it; null: an API key.</param>
/// <param name="At">When.</param>
public sealed record AnomalyFeedback(bool IsExpected, string? Note, Guid? By, DateTimeOffset At);

/// <summary><c>GET /v1/dashboard/anomalies</c>, newest first.</summary>
/// <param name="Anomalies">A page of them.</param>
/// <param name="Next">Ask again with <c>before</c> set to it for older ones; null: there are none.</param>
public sealed record AnomalyListResponse(IReadOnlyList<AnomalyResponse> Anomalies, Guid? Next);

/// <summary><c>POST /v1/dashboard/anomalies/{id}/feedback</c>.</summary>
/// <param name="IsExpected">True: there was a reason; it is resolved, and not told again while it lasts.</param>
/// <param name="Note">The reason, at most 500 characters.</param>
public sealed record AnomalyFeedbackRequest(bool? IsExpected, string? Note);

/// <summary><c>GET</c> and <c>PUT /v1/admin/anomalies/settings</c>.</summary>
/// <param name="Sensitivity"><c>OFF</c>, <c>LOW</c>, <c>NORMAL</c> or <c>HIGH</c>.</param>
/// <param name="Recipients">Whom new anomalies are told, at most 20: e-mail addresses, and ids or names of webhooks, which are answered as ids.</param>
public sealed record AnomalySettings(string? Sensitivity, IReadOnlyList<string>? Recipients);

/// <summary><c>GET /v1/dashboard/expected</c>.</summary>
/// <param name="FeatureName">The feature; null: all together.</param>
/// <param name="Series"><c>USAGE</c> or <c>ACTIVE_USERS</c>.</param>
/// <param name="Hours">The hours of which something was expected, oldest first.</param>
public sealed record ExpectedResponse(string? FeatureName, string Series, IReadOnlyList<ExpectedHour> Hours);

/// <summary>What was expected of an hour before it was seen.</summary>
/// <param name="TimeBucket">The local hour's beginning.</param>
/// <param name="Expected">The middle.</param>
/// <param name="Low">The lower end, at least 0.</param>
/// <param name="High">The upper end.</param>
/// <param name="Score">How strange what came was, 0–1.</param>
public sealed record ExpectedHour(DateTimeOffset TimeBucket, double Expected, double Low, double High, double Score);
