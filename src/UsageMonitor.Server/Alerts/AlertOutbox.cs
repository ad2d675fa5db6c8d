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
/// <param name="WrittenAt">When it is written, unless that is when the notice is from: it is tried for a day from then on.</param>
internal sealed record NewDelivery(
    EnterpriseInfo Enterprise,
    string Channel,
    string Recipient,
    AlertNotice Notice,
    string Cause,
    DateTime? WrittenAt = null
)
{
    public const string Opened = "OPENED";
    public const string Raised = "RAISED";
    public const string Resent = "RESENT";
    public const string Tested = "TEST";

    public Guid DeliveryId { get; } = Guid.CreateVersion7(WrittenAt ?? Notice.OccurredAt);

    public DateTime CreatedAt { get; } = WrittenAt ?? Notice.OccurredAt;

    /// <summary>The queue that it stands in: the webhook's, or that of the mail server.</summary>
    public Guid EndpointId { get; } = Channel == AlertRule.Webhook ? Guid.Parse(Recipient) : AlertOutbox.MailServer;
}

/// <summary>Deliveries are written in the transaction of what they tell of, and sent afterwards: no alert without its delivery, no delivery without its alert.</summary>
internal static class AlertOutbox
{
    /// <summary>The endpoint of all mail.</summary>
    public static readonly Guid MailServer = Guid.Empty;

    private const string InsertDeliveries = """
        INSERT INTO alert_deliveries
            (enterprise_id, delivery_id, alert_event_id, channel, recipient, payload, cause, created_at, next_attempt_at, endpoint_id)
        SELECT enterprise_id, delivery_id, alert_event_id, channel, recipient, payload, cause, created_at, created_at, endpoint_id
          FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
               AS added (enterprise_id, delivery_id, alert_event_id, channel, recipient, payload, cause, created_at, endpoint_id)
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
                Column(deliveries, row => row.CreatedAt),
                Column(deliveries, row => row.EndpointId),
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
