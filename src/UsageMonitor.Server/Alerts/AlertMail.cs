using System.Globalization;
using System.Text;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Alerts;

/// <summary>An alert as a person reads it: who, what, how much, since when, what happens now, and what to do.</summary>
internal static class AlertMail
{
    private const int SubjectCharactersMax = 200;
    private const int LabelWidth = 14;

    /// <param name="enterprise">Whose alert it is; times are shown in its zone.</param>
    /// <param name="notice">What is told.</param>
    /// <param name="to">An address.</param>
    /// <param name="publicUrl">Where people reach the pages, or null.</param>
    public static MailMessage Compose(EnterpriseInfo enterprise, AlertNotice notice, string to, string? publicUrl)
    {
        bool isAnomaly = notice.Kind == AlertNotice.Anomaly;
        string who = Who(enterprise, notice);
        string what = What(notice);
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"{OneLine(Headline(enterprise, notice, who))}\n\n");
        Row("Severity", notice.Severity);
        Row("Enterprise", enterprise.Name);
        Row("Feature", notice.FeatureName == "*" ? "all features" : notice.FeatureName);
        Row("Who", who);
        if (isAnomaly)
        {
            Row("What", notice.Detail);
        }
        else
        {
            Row("Used", HowMuch(notice));
            Row("Threshold", Threshold(notice));
            Row("Since", notice.Since is { } since ? Show(enterprise, since) + " (the first in this window)" : null);
        }

        Row("Window", notice.WindowType.ToLowerInvariant() + ", from " + Show(enterprise, notice.WindowStart));
        Row("Window ends", Show(enterprise, notice.WindowEnd));
        Row("Told at", $"{Show(enterprise, notice.OccurredAt)} ({enterprise.TimeZone.Id})");
        text.Append(CultureInfo.InvariantCulture, $"\nWhat happens now\n{Now(enterprise, notice)}\n");
        text.Append(CultureInfo.InvariantCulture, $"\nWhat to do\n{ToDo(notice)}\n");
        if (publicUrl is not null)
        {
            string where = isAnomaly
                ? $"All that stood out, and where you can answer: {publicUrl}/anomalies"
                : $"Alerts, rules and deliveries: {publicUrl}/alerts";
            text.Append(CultureInfo.InvariantCulture, $"\n{where}\n");
        }

        string why = isAnomaly ? "the settings for abnormal behaviour" : "an alert rule";
        text.Append(
            CultureInfo.InvariantCulture,
            $"\n-- \nYou get this because of {why} of {OneLine(enterprise.Name)} in Usage Monitor, with your address.\n"
        );
        string subject = OneLine($"[{notice.Severity}] {FeatureOf(notice)}: {who} {what}");
        return new MailMessage(
            to,
            subject.Length <= SubjectCharactersMax ? subject : Shortened(subject),
            text.ToString()
        );

        void Row(string label, string? value)
        {
            if (value is not null)
            {
                text.Append(CultureInfo.InvariantCulture, $"{(label + ":").PadRight(LabelWidth)}{OneLine(value)}\n");
            }
        }
    }

    private static string Headline(EnterpriseInfo enterprise, AlertNotice notice, string who) =>
        $"{enterprise.Name}: {who} {What(notice)} ({FeatureOf(notice)}, {HowMuch(notice)}).";

    private static string FeatureOf(AlertNotice notice) =>
        notice.FeatureName == "*" ? "all features" : notice.FeatureName;

    private static string Who(EnterpriseInfo enterprise, AlertNotice notice) =>
        notice switch
        {
            { Subject: null } => $"everybody at {enterprise.Name}",
            { Scope: "ROLE", Subject: { } role } => $"everybody with the role {role}",
            { Subject: { } user } => user,
        };

    private static string What(AlertNotice notice) =>
        notice switch
        {
            { Kind: AlertNotice.Anomaly } => "behaves unlike before",
            { Severity: AlertNotice.High, LimitValue: not null } => "has reached the limit",
            { ThresholdPct: { } percent } => $"has reached {percent}% of the limit",
            _ => $"has reached {Number(notice.Threshold)}",
        };

    private static string HowMuch(AlertNotice notice) =>
        notice.LimitValue is > 0 and var limit
            ? $"{Number(notice.Used)} of {Number(limit)}, {100m * notice.Used / limit:0}%"
        : notice.LimitValue is { } none ? $"{Number(notice.Used)} of {Number(none)}"
        : Number(notice.Used);

    private static string Threshold(AlertNotice notice) =>
        notice.ThresholdPct is { } percent
            ? $"{percent}% of the limit: {Number(notice.Threshold)}"
            : Number(notice.Threshold);

    private static string Now(EnterpriseInfo enterprise, AlertNotice notice)
    {
        string end = Show(enterprise, notice.WindowEnd);
        return notice switch
        {
            { Kind: AlertNotice.Anomaly } => "Nothing is refused: use is counted as always.",
            { LimitValue: null } =>
                "Nothing is refused: use is counted as always. This alert is not repeated in this window.",
            { Severity: AlertNotice.High, IsBlocking: true } =>
                $"Further use is refused until {end}. What is refused is kept, and can be made to count.",
            { Severity: AlertNotice.High } =>
                "Nothing is refused: what goes beyond the limit is counted, and noted as a violation.",
            { IsBlocking: true, LimitValue: { } limit } =>
                $"Nothing is refused yet. From {Number(limit)} on further use will be refused until {end}.",
            { LimitValue: { } limit } => $"Nothing is refused. From {Number(limit)} on a violation will be noted.",
        };
    }

    private static string ToDo(AlertNotice notice) =>
        notice switch
        {
            { Kind: AlertNotice.Anomaly, Scope: "USER" } =>
                "Ask the user whether this was meant. If it was, say so on the page; if it was not them, end their sessions and keys.",
            { Kind: AlertNotice.Anomaly } =>
                "Look at the feature's chart, and ask whoever uses it whether this was meant. If it was, nothing needs to be done.",
            { LimitValue: null } =>
                "Look at who uses the feature most. If it should not go on, make a limit; if it is right, raise the rule's threshold.",
            _ =>
                "Look at who uses the feature most. If this use is right, raise the limit, with an expiry if it is for once. If not, speak to whoever causes it; until the window ends nothing else resets the count.",
        };

    private static string Show(EnterpriseInfo enterprise, DateTime utc) =>
        new LocalTime(enterprise.TimeZone)
            .Show(DateTime.SpecifyKind(utc, DateTimeKind.Utc))
            .ToString("yyyy-MM-dd HH:mm zzz", CultureInfo.InvariantCulture);

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    // Names come from events and admins: none may become a line or a header of its own.
    private static string OneLine(string text) =>
        new([
            .. text.Select(character =>
                char.IsControl(character) || character is '\u2028' or '\u2029' ? ' ' : character
            ),
        ]);

    private static string Shortened(string text)
    {
        int length = SubjectCharactersMax - 1;
        return text[..(char.IsHighSurrogate(text[length - 1]) ? length - 1 : length)] + "…";
    }
}
