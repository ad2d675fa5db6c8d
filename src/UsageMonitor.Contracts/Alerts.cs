namespace UsageMonitor.Contracts;

/// <summary>A rule that says when somebody is told. Exactly one of the thresholds is given.</summary>
/// <param name="FeatureName">A name, a beginning such as <c>export*</c>, or <c>*</c>: all. A percentage is of the limits with this very text.</param>
/// <param name="Scope">Of <c>ThresholdValue</c> only: <c>USER</c> (each user's usage by itself) or <c>ENTERPRISE</c> (when absent).</param>
/// <param name="ThresholdPct">1–1000 percent of every active limit on the feature and window.</param>
/// <param name="ThresholdValue">Events in a window.</param>
/// <param name="WindowType"><c>HOURLY</c>, <c>DAILY</c> or <c>MONTHLY</c>, in the enterprise's zone.</param>
/// <param name="Notification"><c>EMAIL</c> or <c>WEBHOOK</c>.</param>
/// <param name="Recipients">1–20 e-mail addresses, or ids or names of webhooks; webhooks are answered as ids.</param>
/// <param name="Status"><c>ACTIVE</c> (when absent) or <c>INACTIVE</c>.</param>
/// <param name="Version">Of a change: the version that is being changed. Another in between is answered 409.</param>
public sealed record AlertRuleRequest(
    string? FeatureName,
    string? WindowType,
    string? Notification,
    IReadOnlyList<string>? Recipients,
    int? ThresholdPct = null,
    long? ThresholdValue = null,
    string? Scope = null,
    string? Status = null,
    int? Version = null
);

/// <summary>An alert rule.</summary>
/// <param name="Scope">Null of a percentage: the limit has one.</param>
/// <param name="Recipients">None of a broken one.</param>
/// <param name="Status"><c>ACTIVE</c>, <c>INACTIVE</c>, or <c>BROKEN</c>: its recipients cannot be read, so it tells nobody until they are given again.</param>
public sealed record AlertRuleResponse(
    Guid AlertId,
    int Version,
    string FeatureName,
    string? Scope,
    int? ThresholdPct,
    long? ThresholdValue,
    string WindowType,
    string Notification,
    IReadOnlyList<string> Recipients,
    string Status,
    Guid CreatedBy,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary>A page of the rules as they were made.</summary>
/// <param name="Next">Given as <c>after</c> it answers the following page; null on the last.</param>
public sealed record AlertRuleListResponse(IReadOnlyList<AlertRuleResponse> Alerts, Guid? Next);

/// <summary>Where alerts are posted to.</summary>
/// <param name="Name">1–100 characters, one in the enterprise whatever its case.</param>
/// <param name="Url">An https address on the internet.</param>
/// <param name="Status"><c>ACTIVE</c> (when absent) or <c>INACTIVE</c>: nothing is sent.</param>
/// <param name="Version">Of a change: the version that is being changed.</param>
public sealed record WebhookRequest(string? Name, string? Url, string? Status = null, int? Version = null);

/// <summary>A webhook.</summary>
/// <param name="Url">Whoever may not change webhooks sees only its host: the rest may hold a token.</param>
/// <param name="InactiveBecause">Why the server made it <c>INACTIVE</c>, or null.</param>
/// <param name="FormerSecretUntil">Until then deliveries carry a signature by the former secret too.</param>
public sealed record WebhookResponse(
    Guid WebhookId,
    int Version,
    string Name,
    string Url,
    string Status,
    string? InactiveBecause,
    DateTimeOffset? FormerSecretUntil,
    Guid CreatedBy,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary>A webhook with its new secret, which is shown this once.</summary>
/// <param name="Secret"><c>whsec_</c> and base64 of 32 bytes.</param>
public sealed record WebhookSecretResponse(WebhookResponse Webhook, string Secret);

/// <summary>A page of the webhooks as they were made.</summary>
/// <param name="Next">Given as <c>after</c> it answers the following page; null on the last.</param>
public sealed record WebhookListResponse(IReadOnlyList<WebhookResponse> Webhooks, Guid? Next);

/// <summary>A delivery that was written and will be sent.</summary>
public sealed record DeliveryAcceptedResponse(Guid DeliveryId);

/// <summary>One try to deliver.</summary>
/// <param name="Attempt">1, 2, …</param>
/// <param name="EndedAt">Null when <c>Outcome</c> is <c>UNKNOWN</c>.</param>
/// <param name="Outcome"><c>DELIVERED</c>, <c>FAILED</c>, or <c>UNKNOWN</c>: the server ended before it could tell, and tried again.</param>
/// <param name="StatusCode">Of HTTP or SMTP, when there was an answer.</param>
public sealed record DeliveryAttemptResponse(
    int Attempt,
    DateTimeOffset StartedAt,
    DateTimeOffset? EndedAt,
    string Outcome,
    int? StatusCode,
    string? Error
);

/// <summary>An alert on its way to one recipient.</summary>
/// <param name="Channel"><c>EMAIL</c> or <c>WEBHOOK</c>.</param>
/// <param name="Recipient">The address, or the webhook's name (its id when it is gone).</param>
/// <param name="Cause"><c>OPENED</c>, <c>RAISED</c> (from LOW to HIGH), <c>RESENT</c> or <c>TEST</c>.</param>
/// <param name="State"><c>PENDING</c>, <c>DELIVERED</c> or <c>GIVEN_UP</c>.</param>
/// <param name="NextAttemptAt">When it is tried (again); null when it is not.</param>
/// <param name="AttemptLog">Of a single alert and of the log: each attempt, the newest first, 20 at most.</param>
public sealed record DeliveryResponse(
    Guid DeliveryId,
    Guid AlertEventId,
    string Channel,
    string Recipient,
    string Cause,
    string State,
    DateTimeOffset CreatedAt,
    DateTimeOffset? NextAttemptAt,
    int Attempts,
    DateTimeOffset? DeliveredAt,
    DateTimeOffset? GivenUpAt,
    string? LastError,
    IReadOnlyList<DeliveryAttemptResponse> AttemptLog
);

/// <summary>A page of the delivery log, the newest first.</summary>
/// <param name="Next">Given as <c>before</c> it answers the following page; null on the last.</param>
public sealed record DeliveryListResponse(IReadOnlyList<DeliveryResponse> Deliveries, Guid? Next);

/// <summary>Something reached a threshold or limit in a window.</summary>
/// <param name="AlertId">The rule that told.</param>
/// <param name="LimitId">The limit, of a percentage.</param>
/// <param name="Subject">The user as events name them, or the role; null: the whole enterprise.</param>
/// <param name="Severity"><c>LOW</c>: a threshold; <c>HIGH</c>: the limit is reached.</param>
/// <param name="Threshold">Events.</param>
/// <param name="Used">Events, when it was opened or last raised.</param>
/// <param name="RaisedAt">When it rose from <c>LOW</c> to <c>HIGH</c>.</param>
/// <param name="ResolvedAt">When its window had ended.</param>
public sealed record AlertEventResponse(
    Guid AlertEventId,
    Guid AlertId,
    Guid? LimitId,
    string FeatureName,
    string Scope,
    string? Subject,
    string WindowType,
    DateTimeOffset WindowStart,
    DateTimeOffset WindowEnd,
    string Severity,
    long Threshold,
    long? LimitValue,
    long Used,
    DateTimeOffset OpenedAt,
    DateTimeOffset? RaisedAt,
    DateTimeOffset? ResolvedAt,
    IReadOnlyList<DeliveryResponse> Deliveries
);

/// <summary>A page of the alerts, the newest first.</summary>
/// <param name="Next">Given as <c>before</c> it answers the following page; null on the last.</param>
public sealed record AlertEventListResponse(IReadOnlyList<AlertEventResponse> Alerts, Guid? Next);
