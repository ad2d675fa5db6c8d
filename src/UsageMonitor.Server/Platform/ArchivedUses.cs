namespace UsageMonitor.Server.Platform;

/// <summary>An event that is in the archive, as replays need it.</summary>
internal readonly record struct ArchivedUse(Guid UserId, string FeatureName, string EventType, DateTime At);

/// <summary>Which archived events a replay wants.</summary>
/// <param name="From">Inclusive, UTC.</param>
/// <param name="To">Exclusive.</param>
/// <param name="Feature">A name, a beginning such as <c>export*</c>, or <c>*</c>: all.</param>
/// <param name="Users">Only of these users; null: of all.</param>
/// <param name="Limit">The oldest of them, so many.</param>
internal sealed record ArchivedUsesQuery(DateTime From, DateTime To, string Feature, Guid[]? Users, long Limit);

/// <summary>
/// Gives archived events in the order of time to those who stand before the archive on the way of an event, and so do not know
/// it: replays of limits and policies.
/// </summary>
/// <param name="own">
/// A snapshot (<see cref="Database.OpenEnterpriseSnapshotAsync"/>), in which the live rows are read as well: so each event is seen once.
/// </param>
/// <param name="enterprise">Whose.</param>
/// <param name="query">Which.</param>
/// <param name="take">Takes each.</param>
/// <param name="cancellationToken">Cancels.</param>
/// <exception cref="FileNotFoundException">A file was replaced since the snapshot: begin anew.</exception>
internal delegate Task ReadArchivedUses(
    ScopedTransaction own,
    EnterpriseInfo enterprise,
    ArchivedUsesQuery query,
    Action<ArchivedUse> take,
    CancellationToken cancellationToken
);
