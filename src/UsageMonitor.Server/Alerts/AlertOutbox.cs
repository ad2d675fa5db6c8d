using System.Text;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>A delivery about to be written.</summary>
/// <param name="Enterprise">Whose.</param>
/// <param name="Channel"><see cref="AlertRule.Email"/> or <see cref="AlertRule.Webhook"/>.</param>
/// <param name="Recipient">An address, or the id of a webhook.</param>
/// <param name="Notice">What is told.</param>
/// <param name="Cause"><c>OPENED</c>, <c>RAISED</c>, <c>RESENT</c> or <c>TEST</c>.</param>
internal sealed record NewDelivery(
    EnterpriseInfo Enterprise,
    string Channel,
    string Recipient,
    AlertNotice Notice,
    string Cause
)
{
    public const string Opened = "OPENED";
    public const string Raised = "RAISED";
    public const string Resent = "RESENT";
    public const string Tested = "TEST";

    public Guid DeliveryId { get; } = Guid.CreateVersion7(Notice.OccurredAt);
}

/// <summary>Deliveries are written in the transaction of what they tell of, and sent afterwards: no alert without its delivery, no delivery without its alert.</summary>
internal static class AlertOutbox
{
    private const string InsertDeliveries = """
        INSERT INTO alert_deliveries
            (enterprise_id, delivery_id, alert_event_id, channel, recipient, payload, cause, created_at, next_attempt_at)
        SELECT enterprise_id, delivery_id, alert_event_id, channel, recipient, payload, cause, created_at, created_at
          FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
               AS added (enterprise_id, delivery_id, alert_event_id, channel, recipient, payload, cause, created_at)
        """;

    /// <param name="deliveries">At least one.</param>
    public static NpgsqlBatchCommand Insert(IReadOnlyList<NewDelivery> deliveries) =>
        new(InsertDeliveries)
        {
            Parameters =
            {
                Column(deliveries, row => row.Enterprise.EnterpriseId),
                Column(deliveries, row => row.DeliveryId),
                Column(deliveries, row => row.Notice.AlertEventId),
                Column(deliveries, row => row.Channel),
                Column(deliveries, row => SealRecipient(row.Enterprise, row.DeliveryId, row.Recipient)),
                Column(deliveries, row => row.Notice.Seal(row.Enterprise, row.DeliveryId)),
                Column(deliveries, row => row.Cause),
                Column(deliveries, row => row.Notice.OccurredAt),
            },
        };

    public static string OpenRecipient(EnterpriseInfo enterprise, Guid deliveryId, byte[] recipient) =>
        Encoding.UTF8.GetString(
            Sealing.Open(enterprise.DataKey, recipient, Context(enterprise.EnterpriseId, deliveryId))
        );

    private static byte[] SealRecipient(EnterpriseInfo enterprise, Guid deliveryId, string recipient) =>
        Sealing.Seal(
            enterprise.DataKey,
            Encoding.UTF8.GetBytes(recipient),
            Context(enterprise.EnterpriseId, deliveryId)
        );

    private static byte[] Context(Guid enterpriseId, Guid deliveryId) =>
        [.. enterpriseId.ToByteArray(), .. deliveryId.ToByteArray(), .. "recipient"u8];

    private static NpgsqlParameter<T[]> Column<T>(IReadOnlyList<NewDelivery> rows, Func<NewDelivery, T> read) =>
        new() { TypedValue = [.. rows.Select(read)] };
}
