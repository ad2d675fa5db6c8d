namespace UsageMonitor.Contracts;

/// <summary>What a range of days came to.</summary>
/// <param name="UsageCount">Events.</param>
/// <param name="ActiveUsers">Distinct users, exact.</param>
/// <param name="Features">Distinct features used.</param>
public sealed record UsageTotals(long UsageCount, long ActiveUsers, int Features);

/// <summary><c>GET /v1/dashboard/summary</c>.</summary>
/// <param name="UsageCount">Events in the range.</param>
/// <param name="ActiveUsers">Distinct users in the range, exact.</param>
/// <param name="Features">Distinct features used in the range.</param>
/// <param name="TopFeatures">The ten most used.</param>
/// <param name="Previous">The same for the range of equal length just before.</param>
/// <param name="AsOf">Everything received up to this instant is in the numbers.</param>
public sealed record SummaryResponse(
    long UsageCount,
    long ActiveUsers,
    int Features,
    IReadOnlyList<FeatureUsage> TopFeatures,
    UsageTotals Previous,
    DateTimeOffset AsOf
);

/// <summary>One feature in a range.</summary>
/// <param name="FeatureName">The feature.</param>
/// <param name="UsageCount">Events.</param>
/// <param name="ActiveUsers">Distinct users, exact.</param>
/// <param name="Share">Of all events in the range, 0–1.</param>
public sealed record FeatureUsage(string FeatureName, long UsageCount, long ActiveUsers, double Share);

/// <summary><c>GET /v1/dashboard/usage/by-feature</c>, most used first.</summary>
public sealed record FeaturesResponse(IReadOnlyList<FeatureUsage> Features, DateTimeOffset AsOf);

/// <summary><c>GET /v1/dashboard/usage/trends</c>: one point per bucket of the range, empty ones included.</summary>
public sealed record TrendsResponse(
    string Interval,
    string? Feature,
    IReadOnlyList<TrendPoint> Points,
    DateTimeOffset AsOf
);

/// <summary>One bucket.</summary>
/// <param name="TimeBucket">When it begins, with the enterprise's offset at that instant.</param>
/// <param name="UsageCount">Events.</param>
/// <param name="ActiveUsers">Distinct users, exact.</param>
public sealed record TrendPoint(DateTimeOffset TimeBucket, long UsageCount, long ActiveUsers);

/// <summary><c>GET /v1/dashboard/users/{userId}/analytics</c>.</summary>
/// <param name="UserId">As the caller named the user.</param>
/// <param name="UsageCount">Events in the range.</param>
/// <param name="FirstSeenAt">The user's earliest event ever.</param>
/// <param name="LastSeenAt">The user's latest event ever.</param>
/// <param name="Features">What they used in the range.</param>
/// <param name="Points">Per day of the range, empty days included.</param>
/// <param name="AsOf">Everything received up to this instant is in the numbers.</param>
public sealed record UserAnalyticsResponse(
    string UserId,
    long UsageCount,
    DateTimeOffset? FirstSeenAt,
    DateTimeOffset? LastSeenAt,
    IReadOnlyList<UserFeatureUsage> Features,
    IReadOnlyList<UserPoint> Points,
    DateTimeOffset AsOf
);

/// <summary>One feature of one user in a range.</summary>
public sealed record UserFeatureUsage(string FeatureName, long UsageCount, double Share);

/// <summary>One day of one user.</summary>
public sealed record UserPoint(DateTimeOffset TimeBucket, long UsageCount);

/// <summary><c>GET /v1/admin/usage/ledger</c>.</summary>
/// <param name="Hours">Per hour of receipt in the enterprise's zone; hours without traffic are left out.</param>
/// <param name="Total">The sum of the hours.</param>
/// <param name="AsOf">Everything received up to this instant is in <c>Stored</c> and <c>Duplicate</c>.</param>
public sealed record LedgerResponse(IReadOnlyList<LedgerHour> Hours, LedgerCounts Total, DateTimeOffset AsOf);

/// <summary>One hour of the ledger.</summary>
public sealed record LedgerHour(
    DateTimeOffset TimeBucket,
    long Received,
    long Accepted,
    long Rejected,
    long Blocked,
    long Stored,
    long Duplicate,
    long Pending
);

/// <summary><c>Received = Accepted + Rejected + Blocked</c>; <c>Accepted = Stored + Duplicate + Pending</c>.</summary>
public sealed record LedgerCounts(
    long Received,
    long Accepted,
    long Rejected,
    long Blocked,
    long Stored,
    long Duplicate,
    long Pending
);
