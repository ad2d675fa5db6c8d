using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Web;

/// <summary>A limit in words.</summary>
/// <param name="Limit">The limit.</param>
/// <param name="What">Such as <c>At most 1,000 a day</c>.</param>
/// <param name="Whom">Such as <c>export*, by each user</c>.</param>
/// <param name="State">Such as <c>Active</c>, or <c>Ended</c>.</param>
/// <param name="Span">Such as <c>until 30 Nov, 18:00</c>; null when it has no ends.</param>
/// <param name="Share">Of the limit, used: 0.5 is half.</param>
/// <param name="Used">Such as <c>320 of 1,000</c>.</param>
/// <param name="Resets">When the window ends.</param>
/// <param name="Forecast">When it will be reached.</param>
/// <param name="Contributors">Who uses most of it; null when nobody does.</param>
public sealed record LimitRow(
    LimitResponse Limit,
    string What,
    string Whom,
    string State,
    string? Span,
    double Share,
    string Used,
    string Resets,
    string Forecast,
    string? Contributors
)
{
    private const int NamedMax = 3;

    public bool IsInForce => State == "Active";

    internal static LimitRow Of(LimitResponse limit, Formats formats, DateTimeOffset now)
    {
        DateTimeOffset at = limit.AsOf ?? now;
        return new LimitRow(
            limit,
            $"At most {formats.Number(limit.LimitValue)} {Window(limit.WindowType)}",
            $"{Feature(limit.FeatureName)}, by {Who(limit)}",
            limit.Status == LimitTerms.Inactive ? "Inactive"
                : limit.ExpiresAt <= now ? "Ended"
                : limit.StartsAt > now ? "Not yet"
                : "Active",
            Spans(limit, formats, at),
            limit.LimitValue > 0 ? Math.Min(1, (double)(limit.Used ?? 0) / limit.LimitValue) : 1,
            limit.Used is { } used
                ? $"{formats.Number(used)} of {formats.Number(limit.LimitValue)}"
                : "Not counted yet",
            limit.ResetsAt is { } resets ? $"Begins anew {When(resets, at, formats)}" : "",
            Outlook(limit, formats, at),
            Most(limit, formats)
        );
    }

    /// <summary>Such as <c>a day</c>.</summary>
    public static string Window(string? windowType) =>
        windowType switch
        {
            "HOURLY" => "an hour",
            "DAILY" => "a day",
            _ => "a month",
        };

    private static string Feature(string feature) => feature == LimitTerms.AnyFeature ? "Any feature" : feature;

    private static string Who(LimitResponse limit) =>
        limit.Scope switch
        {
            "ROLE" => $"all with role {limit.Subject} together",
            "ENTERPRISE" => "everybody together",
            _ => limit.Subject ?? "each user",
        };

    private static string? Spans(LimitResponse limit, Formats formats, DateTimeOffset at)
    {
        string?[] parts =
        [
            limit.StartsAt is { } starts ? "from " + When(starts, at, formats) : null,
            limit.ExpiresAt is { } expires ? "until " + When(expires, at, formats) : null,
        ];
        return parts.OfType<string>().ToArray() is { Length: > 0 } given ? string.Join(" ", given) : null;
    }

    private static string Outlook(LimitResponse limit, Formats formats, DateTimeOffset at)
    {
        if (limit.Used is null)
        {
            return "Counting begins with the next event.";
        }

        string who = limit is { Scope: "USER", Subject: null, Contributors: [var nearest, ..] }
            ? $" by {nearest.UserId}"
            : "";
        LimitForecast? forecast = limit.Forecast;
        string likely = forecast?.Likely is { } middle ? When(middle, at, formats) : "";
        string earliest = forecast?.Earliest is { } first ? When(first, at, formats) : "";
        return forecast?.Outcome switch
        {
            LimitOutcomes.Reached => $"Reached{who}.",
            LimitOutcomes.Likely => forecast.Latest is { } latest
                ? $"Likely reached{who} {likely}, between {earliest} and {When(latest, at, formats)}."
                : $"Likely reached{who} {likely}, {earliest} at the earliest; perhaps not at all.",
            LimitOutcomes.Possible =>
                $"Likely not reached; {earliest} at the earliest{who}. {Expected(forecast, formats)}",
            LimitOutcomes.NotInWindow => $"Not reached before it begins anew. {Expected(forecast, formats)}",
            _ => "A forecast needs a full day of usage.",
        };
    }

    private static string Expected(LimitForecast forecast, Formats formats) =>
        $"{formats.Number(forecast.ExpectedAtReset ?? 0)} expected by then.";

    private static string? Most(LimitResponse limit, Formats formats)
    {
        if (limit.Contributors is not { Count: > 0 } users)
        {
            return null;
        }

        bool isEach = limit.Scope == "USER";
        return isEach && limit.Subject is not null
            ? null
            : (isEach ? "Nearest: " : "Most: ")
                + string.Join(
                    ", ",
                    users
                        .Take(NamedMax)
                        .Select(user =>
                            $"{user.UserId} {(isEach ? formats.Number(user.Used) : formats.Percent(user.Share))}"
                        )
                );
    }

    // Instants have the enterprise's offset. The day is said when it is another.
    private static string When(DateTimeOffset instant, DateTimeOffset at, Formats formats)
    {
        string clock = instant.ToString("HH:mm", CultureInfo.InvariantCulture);
        return instant.Date == at.ToOffset(instant.Offset).Date ? "at " + clock
            : instant.Year == at.Year ? $"{formats.Day(DateOnly.FromDateTime(instant.DateTime))}, {clock}"
            : formats.Date(instant);
    }
}
