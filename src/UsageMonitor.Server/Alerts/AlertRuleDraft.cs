using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Alerts;

/// <summary>A request for a rule, checked; what is wrong is told by the field's name.</summary>
internal sealed record AlertRuleDraft(
    string FeatureName,
    LimitScope Scope,
    int? ThresholdPct,
    long? ThresholdValue,
    LimitWindow Window,
    string Channel,
    IReadOnlyList<string> Recipients,
    string Status
)
{
    public const int RecipientsMax = 20;
    public const int ThresholdPctMax = 1_000;
    public const long ThresholdValueMax = 1_000_000_000_000_000;

    /// <param name="request">As it was sent.</param>
    /// <param name="webhooks">Those of the enterprise.</param>
    /// <returns>The draft, or null with what is wrong.</returns>
    public static (AlertRuleDraft? Draft, string Error) Read(
        AlertRuleRequest request,
        IReadOnlyList<(Guid WebhookId, string Name)> webhooks
    )
    {
        string feature = request.FeatureName?.Trim() ?? "";
        if (EventText.Fault(feature, EventText.NameCharactersMax + 1) is { } fault)
        {
            return (null, $"featureName: {fault}.");
        }

        if (feature.IndexOf('*', StringComparison.Ordinal) is >= 0 and var star && star < feature.Length - 1)
        {
            return (null, "featureName: has a * that is not at its end.");
        }

        if (ThresholdError(request) is { } wrong)
        {
            return (null, wrong);
        }

        if (LimitTerms.Window(request.WindowType) is not { } window)
        {
            return (null, "windowType: must be one of HOURLY, DAILY, MONTHLY.");
        }

        if (request.Notification is not (AlertRule.Email or AlertRule.Webhook))
        {
            return (null, "notification: must be one of EMAIL, WEBHOOK.");
        }

        if (request.Status is not (null or LimitTerms.Active or LimitTerms.Inactive))
        {
            return (null, "status: must be one of ACTIVE, INACTIVE.");
        }

        (string[]? recipients, string error) = ReadRecipients(request, webhooks);
        return recipients is null
            ? (null, error)
            : (
                new AlertRuleDraft(
                    feature,
                    LimitTerms.Scope(request.Scope) ?? LimitScope.Enterprise,
                    request.ThresholdPct,
                    request.ThresholdValue,
                    window,
                    request.Notification,
                    recipients,
                    request.Status ?? LimitTerms.Active
                ),
                ""
            );
    }

    private static string? ThresholdError(AlertRuleRequest request) =>
        request switch
        {
            { ThresholdPct: null, ThresholdValue: null } or { ThresholdPct: not null, ThresholdValue: not null } =>
                "thresholdPct: give either thresholdPct or thresholdValue.",
            { ThresholdPct: < 1 or > ThresholdPctMax } => $"thresholdPct: must be from 1 to {ThresholdPctMax}.",
            { ThresholdValue: < 1 or > ThresholdValueMax } => $"thresholdValue: must be from 1 to {ThresholdValueMax}.",
            { ThresholdPct: not null, Scope: not null } =>
                "scope: is the limit's when the threshold is a percentage of it.",
            { Scope: not (null or "USER" or "ENTERPRISE") } => "scope: must be one of USER, ENTERPRISE.",
            _ => null,
        };

    private static (string[]?, string) ReadRecipients(
        AlertRuleRequest request,
        IReadOnlyList<(Guid WebhookId, string Name)> webhooks
    )
    {
        IReadOnlyList<string?> given = request.Recipients ?? [];
        if (given.Count is < 1 or > RecipientsMax)
        {
            return (null, $"recipients: must be 1 to {RecipientsMax}.");
        }

        var read = new List<string>();
        foreach (string? text in given)
        {
            string? recipient =
                request.Notification == AlertRule.Email ? Address(text) : FindWebhook(text?.Trim(), webhooks);
            if (recipient is null)
            {
                return (
                    null,
                    request.Notification == AlertRule.Email
                        ? $"recipients: no. {read.Count + 1} is not an e-mail address."
                        : $"recipients: no. {read.Count + 1} is no webhook of your enterprise."
                );
            }

            read.Add(recipient);
        }

        return ([.. read.Distinct(StringComparer.Ordinal)], "");
    }

    /// <summary>A recipient of mail as it is kept; null when it is none.</summary>
    internal static string? Address(string? text) =>
        EmailAddress.TryNormalize(text, out string? address) && SmtpConnection.IsAddress(address) ? address : null;

    /// <summary>The id of the webhook that is meant by its id or name; null when there is none.</summary>
    internal static string? FindWebhook(string? text, IReadOnlyList<(Guid WebhookId, string Name)> webhooks)
    {
        bool isId = Guid.TryParseExact(text, "D", out Guid id);
        foreach ((Guid webhookId, string name) in webhooks)
        {
            if (isId ? webhookId == id : string.Equals(name, text, StringComparison.OrdinalIgnoreCase))
            {
                return webhookId.ToString();
            }
        }

        return null;
    }
}
