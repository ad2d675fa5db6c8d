using System.Globalization;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Web;

/// <summary>An alert rule as the form shows it.</summary>
/// <param name="AlertId">The rule that is changed, or null for a new one.</param>
/// <param name="Threshold">As it was typed.</param>
/// <param name="IsPercentage">Whether the threshold is of a limit.</param>
/// <param name="Request">What the fields hold.</param>
public sealed record AlertForm(Guid? AlertId, string? Threshold, bool IsPercentage, AlertRuleRequest Request)
{
    public const string OfLimit = "PCT";
    public const string OfEveryUser = "USER";

    private static readonly (string Field, string Label)[] s_labels =
    [
        ("featureName", "Feature"),
        ("thresholdPct", "Threshold"),
        ("thresholdValue", "Threshold"),
        ("scope", "Threshold"),
        ("windowType", "Window"),
        ("notification", "Tell by"),
        ("recipients", "Recipients"),
        ("name", "Name"),
        ("url", "Address"),
        ("status", "Status"),
    ];

    /// <summary>As a browser sent it.</summary>
    public static AlertForm Read(IFormCollection form, Guid? alertId)
    {
        string threshold = form["threshold"].ToString().Trim();
        bool isPercentage = form["of"] == OfLimit;
        // What is no number is refused as too small is.
        long value = long.TryParse(threshold, NumberStyles.None, CultureInfo.InvariantCulture, out long read)
            ? read
            : 0;
        return new AlertForm(
            alertId,
            threshold,
            isPercentage,
            new AlertRuleRequest(
                form["featureName"],
                form["windowType"],
                form["notification"],
                form["recipients"]
                    .ToString()
                    .Split(['\n', ',', ';'], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries),
                isPercentage ? (int)Math.Min(value, int.MaxValue) : null,
                isPercentage ? null : value,
                isPercentage ? null
                    : form["of"] == OfEveryUser ? OfEveryUser
                    : "ENTERPRISE",
                form["status"] == "INACTIVE" ? "INACTIVE" : "ACTIVE",
                int.TryParse(form["version"], out int version) ? version : null
            )
        );
    }

    /// <summary>A rule to be changed, or a new one.</summary>
    public static AlertForm Of(AlertRuleResponse? rule) =>
        rule is null
            ? new AlertForm(null, "80", true, new AlertRuleRequest("", "DAILY", "EMAIL", []))
            : new AlertForm(
                rule.AlertId,
                (rule.ThresholdPct ?? rule.ThresholdValue)?.ToString(CultureInfo.InvariantCulture),
                rule.ThresholdPct is not null,
                new AlertRuleRequest(
                    rule.FeatureName,
                    rule.WindowType,
                    rule.Notification,
                    rule.Recipients,
                    rule.ThresholdPct,
                    rule.ThresholdValue,
                    rule.Scope,
                    rule.Status,
                    rule.Version
                )
            );

    /// <summary>What is wrong, by the name that the field has on the page.</summary>
    public static string Explain(string error)
    {
        foreach ((string field, string label) in s_labels)
        {
            if (error.StartsWith(field + ":", StringComparison.OrdinalIgnoreCase))
            {
                return label + error[field.Length..];
            }
        }

        return error;
    }
}

/// <summary>A webhook as the form shows it.</summary>
public sealed record WebhookForm(Guid? WebhookId, WebhookRequest Request)
{
    public static WebhookForm Read(IFormCollection form, Guid? webhookId) =>
        new(
            webhookId,
            new WebhookRequest(
                form["name"],
                form["url"].ToString().Trim(),
                form["status"] == "INACTIVE" ? "INACTIVE" : "ACTIVE",
                int.TryParse(form["version"], out int version) ? version : null
            )
        );

    public static WebhookForm Of(WebhookResponse? webhook) =>
        webhook is null
            ? new WebhookForm(null, new WebhookRequest("", ""))
            : new WebhookForm(
                webhook.WebhookId,
                new WebhookRequest(webhook.Name, webhook.Url, webhook.Status, webhook.Version)
            );
}
