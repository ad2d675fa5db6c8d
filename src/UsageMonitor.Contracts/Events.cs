namespace UsageMonitor.Contracts;

/// <summary><c>GET /v1/dashboard/events</c>.</summary>
/// <param name="Events">The newest first; perhaps none, although there is a next page.</param>
/// <param name="Next">To be given as <c>before</c> for the next page; null: this was the last.</param>
public sealed record StoredEventsResponse(IReadOnlyList<StoredEvent> Events, string? Next);

/// <summary>An event as it is kept.</summary>
/// <param name="EventId">As sent.</param>
/// <param name="UserId">The user as the events name them.</param>
/// <param name="FeatureName">What was used.</param>
/// <param name="EventType">How.</param>
/// <param name="EventTimestamp">When, with the enterprise's offset.</param>
/// <param name="ReceivedAt">When it was received.</param>
/// <param name="Properties">As sent; null when there are none.</param>
public sealed record StoredEvent(
    Guid EventId,
    string UserId,
    string FeatureName,
    string EventType,
    DateTimeOffset EventTimestamp,
    DateTimeOffset ReceivedAt,
    System.Text.Json.JsonElement? Properties
);

/// <summary><c>GET /v1/dashboard/events/groups</c>.</summary>
/// <param name="Groups">The biggest first; days and hours by time.</param>
/// <param name="Total">Events of all groups, of those that are not shown too.</param>
/// <param name="GroupCount">How many groups there are.</param>
public sealed record EventGroupsResponse(IReadOnlyList<StoredEventGroup> Groups, long Total, long GroupCount);

/// <summary>Events that have something in common.</summary>
/// <param name="Key">What: a name, a user, the beginning of a day or hour, or a property's text; empty when they have no such property.</param>
/// <param name="UsageCount">How many.</param>
public sealed record StoredEventGroup(string Key, long UsageCount);
