using System.Globalization;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>What was found, as a person would say it; times by the enterprise's clock.</summary>
internal static class AnomalyWords
{
    public static string Describe(Finding found, LocalTime local)
    {
        string what = found.Series == AnomalyTerms.ActiveUsers ? "active users" : "events";
        string of = found.FeatureName.Length == 0 ? "of all features together" : $"of {found.FeatureName}";
        string hour = $"in the hour from {Time(found.StartsAt, local)}";
        string range =
            $"{Number(Math.Max(0, found.Low))} to {Number(Math.Max(0, found.High))} were expected, about {Number(Math.Max(0, found.Expected))}";
        double hours = (found.EndsAt - found.StartsAt).TotalHours;
        string lasted =
            hours > 1
                ? FormattableString.Invariant($" It lasted {Math.Round(hours)} hours; this is the strangest of them.")
                : "";
        return found.Kind switch
        {
            AnomalyTerms.Spike =>
                $"{Number(found.Observed)} {what} {of} {Since(hours, hour, found, local)}; {range}.{lasted}",
            AnomalyTerms.Drop =>
                $"Only {Number(found.Observed)} {what} {of} {Since(hours, hour, found, local)}; {range}.{lasted}",
            _ when found.FeatureName.Length == 0 =>
                $"Nothing at all has come since {Time(found.StartsAt, local)}, of no feature; about {Number(Math.Max(1, found.Expected))} events were due. "
                    + "Look at what sends the events.",
            _ =>
                $"No event {of} has come since {Time(found.StartsAt, local)}, while others come; about {Number(Math.Max(1, found.Expected))} were due.",
        };
    }

    public static string Number(double number) =>
        number.ToString(
            number is > 0 and < 10 && number != Math.Floor(number) ? "0.#" : "#,0",
            CultureInfo.InvariantCulture
        );

    public static string Time(DateTime utc, LocalTime local) =>
        local.Show(utc).ToString("ddd d MMM yyyy HH:mm", CultureInfo.InvariantCulture);

    public static string Day(DateOnly day) => day.ToString("ddd d MMM yyyy", CultureInfo.InvariantCulture);

    private static string Since(double hours, string hour, Finding found, LocalTime local) =>
        hours > 1 ? $"in an hour, since {Time(found.StartsAt, local)}" : hour;
}
