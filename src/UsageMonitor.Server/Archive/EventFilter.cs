using System.Globalization;

namespace UsageMonitor.Server.Archive;

/// <summary>Which events of an enterprise.</summary>
/// <param name="From">The first local day.</param>
/// <param name="To">The day after the last.</param>
/// <param name="UserId">Only of this user.</param>
/// <param name="FeatureName">Only of this feature.</param>
/// <param name="EventType">Only of this type.</param>
internal sealed record EventFilter(DateOnly From, DateOnly To, Guid? UserId, string? FeatureName, string? EventType);

/// <summary>Where a page ends: everything before this event, which itself was shown.</summary>
internal readonly record struct EventCursor(DateTime At, Guid EventId)
{
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{(At - DateTime.UnixEpoch).Ticks / 10}_{EventId:N}");

    public static bool TryParse(string? text, out EventCursor? cursor)
    {
        cursor = null;
        if (string.IsNullOrEmpty(text))
        {
            return true;
        }

        string[] parts = text.Split('_');
        if (
            parts.Length != 2
            || !long.TryParse(
                parts[0],
                NumberStyles.AllowLeadingSign,
                CultureInfo.InvariantCulture,
                out long microseconds
            )
            || microseconds < 0
            || microseconds > (DateTime.MaxValue - DateTime.UnixEpoch).Ticks / 10
            || !Guid.TryParseExact(parts[1], "N", out Guid eventId)
        )
        {
            return false;
        }

        cursor = new EventCursor(DateTime.UnixEpoch.AddTicks(microseconds * 10), eventId);
        return true;
    }
}
