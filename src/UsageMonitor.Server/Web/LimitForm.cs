using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Web;

/// <summary>A limit as the form shows it.</summary>
/// <param name="LimitId">The limit that is changed, or null for a new one.</param>
/// <param name="Request">What the fields hold.</param>
/// <param name="StartsAt">The field's text: the enterprise's clock.</param>
/// <param name="ExpiresAt">The field's text.</param>
public sealed record LimitForm(Guid? LimitId, LimitRequest Request, string? StartsAt, string? ExpiresAt)
{
    public const string BacktestButton = "backtest";
    private const string Clock = "yyyy-MM-dd'T'HH:mm";

    private static readonly (string Field, string Label)[] s_labels =
    [
        ("featureName", "Feature"),
        ("limitValue", "At most"),
        ("windowType", "In each"),
        ("startsAt", "From"),
        ("expiresAt", "Until"),
        ("subject", "User or role"),
        ("scope", "Who"),
        ("action", "Beyond the limit"),
    ];

    public static readonly LimitForm New = new(
        null,
        new LimitRequest("", "USER", null, null, "DAILY", "BLOCK"),
        null,
        null
    );

    /// <summary>As a browser sent it; what no request can hold is told as <paramref name="wrong"/>.</summary>
    public static LimitForm Read(IFormCollection form, Guid? limitId, TimeZoneInfo zone, out string? wrong)
    {
        wrong = null;
        string value = form["limitValue"].ToString().Trim();
        if (!long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out long limit) && value.Length > 0)
        {
            wrong = "limitValue: must be a whole number.";
        }

        (string startsAt, string expiresAt) = (form["startsAt"].ToString(), form["expiresAt"].ToString());
        DateTimeOffset? starts = Instant("startsAt", startsAt, zone, ref wrong);
        DateTimeOffset? expires = Instant("expiresAt", expiresAt, zone, ref wrong);
        return new LimitForm(
            limitId,
            new LimitRequest(
                form["featureName"],
                form["scope"],
                form["subject"],
                value.Length == 0 || wrong?.StartsWith("limitValue", StringComparison.Ordinal) == true ? null : limit,
                form["windowType"],
                form["action"],
                form["status"] == LimitTerms.Inactive ? LimitTerms.Inactive : LimitTerms.Active,
                starts,
                expires,
                int.TryParse(form["version"], CultureInfo.InvariantCulture, out int version) ? version : null
            ),
            startsAt,
            expiresAt
        );
    }

    /// <summary>A limit to be changed.</summary>
    public static LimitForm Of(LimitResponse limit) =>
        new(
            limit.LimitId,
            new LimitRequest(
                limit.FeatureName == LimitTerms.AnyFeature ? "" : limit.FeatureName,
                limit.Scope,
                limit.Subject,
                limit.LimitValue,
                limit.WindowType,
                limit.Action,
                limit.Status,
                limit.StartsAt,
                limit.ExpiresAt,
                limit.Version
            ),
            limit.StartsAt?.ToString(Clock, CultureInfo.InvariantCulture),
            limit.ExpiresAt?.ToString(Clock, CultureInfo.InvariantCulture)
        );

    /// <summary>What is wrong, by the name that the field has on the page.</summary>
    public static string Explain(string error)
    {
        string plain = error.StartsWith("Limit.", StringComparison.Ordinal) ? error["Limit.".Length..] : error;
        foreach ((string field, string label) in s_labels)
        {
            if (plain.StartsWith(field + ":", StringComparison.OrdinalIgnoreCase))
            {
                return label + plain[field.Length..];
            }
        }

        return char.ToUpperInvariant(plain[0]) + plain[1..];
    }

    // Browsers send the clock's time, with seconds when the step asks for them.
    private static DateTimeOffset? Instant(string field, string text, TimeZoneInfo zone, ref string? wrong)
    {
        if (text.Length == 0)
        {
            return null;
        }

        // Years beyond are not ones that a limit can have, nor can offsets be taken from all of them.
        if (
            !DateTime.TryParseExact(
                text,
                [Clock, Clock + "':'ss"],
                CultureInfo.InvariantCulture,
                DateTimeStyles.None,
                out DateTime clock
            ) || clock.Year is < 2000 or > 2199
        )
        {
            wrong ??= $"{field}: must be a date and a time.";
            return null;
        }

        return new DateTimeOffset(clock, zone.GetUtcOffset(clock));
    }
}
