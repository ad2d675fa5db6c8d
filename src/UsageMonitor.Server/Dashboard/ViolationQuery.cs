using System.Globalization;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary>How <c>/v1/dashboard/violations</c> and its page ask for violations.</summary>
public sealed class ViolationQuery
{
    /// <summary>Rows of one page.</summary>
    public const int LimitMax = 200;
    private const int LimitDefault = 50;

    /// <summary><c>OPEN</c> or <c>RESOLVED</c>; both when absent.</summary>
    [FromQuery(Name = "status")]
    public string? Status { get; init; }

    /// <summary>The id of a limit.</summary>
    [FromQuery(Name = "limitId")]
    public string? LimitId { get; init; }

    /// <summary>A user as the events name them.</summary>
    [FromQuery(Name = "user")]
    public string? User { get; init; }

    /// <summary>The feature as the limit names it.</summary>
    [FromQuery(Name = "feature")]
    public string? Feature { get; init; }

    /// <summary>The first local day on which they were opened.</summary>
    [FromQuery(Name = "from")]
    public string? From { get; init; }

    /// <summary>The local day after the last.</summary>
    [FromQuery(Name = "to")]
    public string? To { get; init; }

    /// <summary>The <c>next</c> of an earlier answer.</summary>
    [FromQuery(Name = "before")]
    public string? Before { get; init; }

    /// <summary>Rows, 1 to 200.</summary>
    [FromQuery(Name = "limit")]
    public string? Limit { get; init; }

    /// <returns>What it asks for, or null with what is wrong.</returns>
    internal (ViolationFilter Filter, int Limit)? Read(EnterpriseInfo enterprise, DateTimeOffset now, out string error)
    {
        if (LocalDays.Parse(From, To, enterprise, now, out error) is not { } days)
        {
            return null;
        }

        if (!string.IsNullOrEmpty(Status) && Status is not (ViolationStore.Open or ViolationStore.Resolved))
        {
            error = $"status: must be {ViolationStore.Open} or {ViolationStore.Resolved}.";
            return null;
        }

        if (!TryId(LimitId, out Guid? limitId))
        {
            error = "limitId: must be the id of a limit.";
            return null;
        }

        if (!TryId(Before, out Guid? before))
        {
            error = "before: must be what `next` has given.";
            return null;
        }

        if (!TryLimit(Limit, LimitDefault, out int limit))
        {
            error = $"limit: must be 1 to {LimitMax}.";
            return null;
        }

        if (
            (User?.Contains('\0', StringComparison.Ordinal) ?? false)
            || (Feature?.Contains('\0', StringComparison.Ordinal) ?? false)
        )
        {
            error = $"user, feature: {EventText.Control}.";
            return null;
        }

        var local = new LocalTime(enterprise.TimeZone);
        return (
            new ViolationFilter(
                local.DayStart(days.From),
                local.DayStart(days.To),
                string.IsNullOrEmpty(Status) ? null : Status,
                limitId,
                string.IsNullOrEmpty(User) ? null : UserIds.Resolve(enterprise.EnterpriseId, User, out _),
                string.IsNullOrEmpty(Feature) ? null : Feature,
                before
            ),
            limit
        );
    }

    public static bool TryLimit(string? text, int fallback, out int limit)
    {
        limit = fallback;
        return string.IsNullOrEmpty(text)
            || (
                int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out limit)
                && limit is >= 1 and <= LimitMax
            );
    }

    private static bool TryId(string? text, out Guid? id)
    {
        id = null;
        if (string.IsNullOrEmpty(text))
        {
            return true;
        }

        id = Guid.TryParseExact(text, "D", out Guid read) ? read : null;
        return id is not null;
    }
}
