using System.Text.Json;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>What a delivery tells: everything that its reader needs, as it was when it was written.</summary>
/// <param name="AlertEventId">The alert; of a test, a new id.</param>
/// <param name="Kind"><c>LIMIT</c>: a threshold or limit; <c>ANOMALY</c>: abnormal behaviour; <c>TEST</c>.</param>
/// <param name="Severity"><c>LOW</c> or <c>HIGH</c>.</param>
/// <param name="FeatureName">What it is about, as the rule says it.</param>
/// <param name="Scope"><c>USER</c>, <c>ROLE</c> or <c>ENTERPRISE</c>.</param>
/// <param name="Subject">The user as events name them, or the role; null: the whole enterprise.</param>
/// <param name="WindowType"><c>HOURLY</c>, <c>DAILY</c> or <c>MONTHLY</c>.</param>
/// <param name="WindowStart">UTC.</param>
/// <param name="WindowEnd">UTC.</param>
/// <param name="Threshold">Events at which it was told.</param>
/// <param name="ThresholdPct">The percentage of the limit, when the rule names one.</param>
/// <param name="LimitValue">The limit, when there is one.</param>
/// <param name="IsBlocking">The limit refuses what goes beyond it.</param>
/// <param name="Used">Events counted in the window when it was written.</param>
/// <param name="Since">The window's first event.</param>
/// <param name="OccurredAt">When it was written.</param>
/// <param name="Detail">Of an anomaly: what was expected and what came, in words.</param>
internal sealed record AlertNotice(
    Guid AlertEventId,
    string Kind,
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
    DateTime OccurredAt,
    string? Detail = null
)
{
    public const string Limit = "LIMIT";
    public const string Anomaly = "ANOMALY";
    public const string Test = "TEST";
    public const string Low = "LOW";
    public const string High = "HIGH";

    public byte[] Seal(EnterpriseInfo enterprise, Guid deliveryId) =>
        Sealing.Seal(
            enterprise.DataKey,
            JsonSerializer.SerializeToUtf8Bytes(this),
            Context(enterprise.EnterpriseId, deliveryId)
        );

    public static AlertNotice Open(EnterpriseInfo enterprise, Guid deliveryId, byte[] payload) =>
        JsonSerializer.Deserialize<AlertNotice>(
            Sealing.Open(enterprise.DataKey, payload, Context(enterprise.EnterpriseId, deliveryId))
        )!;

    private static byte[] Context(Guid enterpriseId, Guid deliveryId) =>
        [.. enterpriseId.ToByteArray(), .. deliveryId.ToByteArray(), .. "notice"u8];
}
