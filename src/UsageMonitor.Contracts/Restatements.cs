namespace UsageMonitor.Contracts;

/// <summary><c>GET /v1/dashboard/restatements</c>: days' figures that changed after they were reported, latest change first.</summary>
/// <param name="Restatements">At most as many as asked for.</param>
/// <param name="Next">Ask again with <c>before</c> set to this; null when there are no more.</param>
public sealed record RestatementListResponse(IReadOnlyList<RestatementSummary> Restatements, Guid? Next);

/// <summary>
/// A day's figure that changed: all late events of one local day of receipt. What one restatement made of a figure is what the
/// next one begins with, and what the last made of it is what the dashboards show.
/// </summary>
/// <param name="RestatementId">Its id.</param>
/// <param name="Day">The local day whose figure it is, <c>yyyy-MM-dd</c>.</param>
/// <param name="FeatureName">The feature; null: the figure of all features together.</param>
/// <param name="Before">Events, as it was reported.</param>
/// <param name="After">Events, as it is since.</param>
/// <param name="Cause"><c>LATE</c>: events were received more than an hour after the day was over. <c>BACKFILL</c>: some of
/// them were more than seven days old, which needs a permission.</param>
/// <param name="FirstAt">When the first of them was received.</param>
/// <param name="LastAt">When the last of them was received.</param>
public sealed record RestatementSummary(
    Guid RestatementId,
    DateOnly Day,
    string? FeatureName,
    long Before,
    long After,
    string Cause,
    DateTimeOffset FirstAt,
    DateTimeOffset LastAt
);
