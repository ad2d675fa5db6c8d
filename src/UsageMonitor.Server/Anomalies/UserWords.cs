using System.Globalization;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Why a user's day stands out, as a person would say it.</summary>
internal static class UserWords
{
    public static string UnusualHours(UserProfile known, LocalTime local, DateTime dayStart, UserFinding found)
    {
        string hour = local.Show(dayStart.AddMinutes(found.Hour)).ToString("HH:mm", CultureInfo.InvariantCulture);
        string day = AnomalyWords.Day(local.DateOf(dayStart));
        string more =
            found.Observed > 1
                ? string.Create(CultureInfo.InvariantCulture, $" and in {found.Observed - 1} other such hours")
                : "";
        return $"Active from {hour} on {day}{more}: at or near that hour of the week they never were in the weeks we remember, "
            + $"with {AnomalyWords.Number(known.ActiveDays)} active days known. Few others were active then.";
    }

    public static string SuddenVolume(UserProfile known, DateOnly date, UserFinding found) =>
        $"{AnomalyWords.Number(found.Observed)} events on {AnomalyWords.Day(date)}, most of {found.FeatureName}; an active day of theirs has about "
        + $"{AnomalyWords.Number(Math.Round(found.Expected))}, and the most we remember was {AnomalyWords.Number(Math.Round(known.GreatestEvents))}.";

    public static string NewFeature(UserProfile known, DateOnly date, UserFinding found, string peers) =>
        $"Used {found.FeatureName} on {AnomalyWords.Day(date)} for the first time in {AnomalyWords.Number(known.ActiveDays)} active days; "
        + $"{peers} has ever used it.";
}
