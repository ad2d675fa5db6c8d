using System.Globalization;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>How <c>/v1/dashboard/events</c> is asked for events.</summary>
internal sealed class EventQuery
{
    /// <summary>Local days of one query.</summary>
    public const int DaysMax = 800;

    /// <summary>UTF-16 code units of a name.</summary>
    private const int NameCharactersMax = 320;

    /// <summary>The first local day; 30 days ago unless told.</summary>
    [FromQuery(Name = "from")]
    public string? From { get; init; }

    /// <summary>The local day after the last; tomorrow unless told.</summary>
    [FromQuery(Name = "to")]
    public string? To { get; init; }

    /// <summary>A user as the events name them.</summary>
    [FromQuery(Name = "user")]
    public string? User { get; init; }

    /// <summary>A feature.</summary>
    [FromQuery(Name = "feature")]
    public string? Feature { get; init; }

    /// <summary>A type of event.</summary>
    [FromQuery(Name = "type")]
    public string? Type { get; init; }

    /// <returns>What it asks for, or null with what is wrong.</returns>
    internal EventFilter? Read(EnterpriseInfo enterprise, DateTimeOffset now, out string error, int daysMax = DaysMax)
    {
        if (LocalDays.Parse(From, To, enterprise, now, out error, daysMax) is not { } days)
        {
            return null;
        }

        foreach (string? text in new[] { User, Feature, Type })
        {
            if (text is not null && (text.Length > NameCharactersMax || text.Contains('\0', StringComparison.Ordinal)))
            {
                error = $"user, feature, type: at most {NameCharactersMax} characters; {EventText.Control}.";
                return null;
            }
        }

        return new EventFilter(
            days.From,
            days.To,
            string.IsNullOrEmpty(User) ? null : UserIds.Resolve(enterprise.EnterpriseId, User, out _),
            string.IsNullOrEmpty(Feature) ? null : Feature,
            string.IsNullOrEmpty(Type) ? null : Type
        );
    }

    internal static bool TryLimit(string? text, int fallback, int max, out int limit)
    {
        limit = fallback;
        return string.IsNullOrEmpty(text)
            || (
                int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out limit)
                && limit >= 1
                && limit <= max
            );
    }
}
