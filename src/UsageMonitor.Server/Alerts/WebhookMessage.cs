using System.Text.Json;
using System.Text.Json.Serialization;

namespace UsageMonitor.Server.Alerts;

/// <summary>What a webhook is sent; <c>docs/webhooks.md</c> describes it to receivers.</summary>
internal static class WebhookMessage
{
    private static readonly JsonSerializerOptions s_options = new(JsonSerializerDefaults.Web)
    {
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    private sealed record Body(string Type, DateTime Timestamp, Data Data);

    private sealed record Data(
        Guid AlertEventId,
        Guid EnterpriseId,
        string Severity,
        string FeatureName,
        string Scope,
        string? Subject,
        string WindowType,
        DateTime WindowStart,
        DateTime WindowEnd,
        long Threshold,
        int? ThresholdPct,
        long? LimitValue,
        bool IsBlocking,
        long Used,
        DateTime? Since,
        string? Detail
    );

    /// <summary>The same bytes for the same notice, so that a repeated delivery is one.</summary>
    public static byte[] Write(Guid enterpriseId, AlertNotice notice) =>
        JsonSerializer.SerializeToUtf8Bytes(
            new Body(
                TypeOf(notice),
                notice.OccurredAt,
                new Data(
                    notice.AlertEventId,
                    enterpriseId,
                    notice.Severity,
                    notice.FeatureName,
                    notice.Scope,
                    notice.Subject,
                    notice.WindowType,
                    notice.WindowStart,
                    notice.WindowEnd,
                    notice.Threshold,
                    notice.ThresholdPct,
                    notice.LimitValue,
                    notice.IsBlocking,
                    notice.Used,
                    notice.Since,
                    notice.Detail
                )
            ),
            s_options
        );

    private static string TypeOf(AlertNotice notice) =>
        notice.Kind switch
        {
            AlertNotice.Test => "test",
            AlertNotice.Anomaly => "anomaly.detected",
            _ when notice.Severity == AlertNotice.High => "limit.reached",
            _ => "limit.threshold_reached",
        };
}
