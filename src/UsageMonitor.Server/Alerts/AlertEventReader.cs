using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>Which alerts are wanted; null: whichever.</summary>
internal sealed record AlertEventFilter(bool? IsOpen, string? Severity, string? FeatureName);

/// <summary>Reads alerts with what became of their deliveries.</summary>
internal sealed class AlertEventReader(Database database, EnterpriseDirectory enterprises)
{
    private const string Columns = """
        e.alert_event_id, e.alert_id, e.limit_id, e.subject_id, e.feature_name, e.scope, e.role_name, e.window_type, e.window_start,
        e.window_end, e.severity, e.threshold, e.limit_value, e.used, e.opened_at, e.raised_at, e.resolved_at, u.external_id
        """;

    private const string From = """
        alert_events AS e LEFT JOIN users AS u ON u.enterprise_id = e.enterprise_id AND u.user_id = e.subject_id
        """;

    private const string ReadEvents = $"""
        SELECT {Columns} FROM {From}
        WHERE e.enterprise_id = $1 AND e.alert_event_id < $2
          AND ($3::boolean IS NULL OR (e.resolved_at IS NULL) = $3)
          AND ($4::text IS NULL OR e.severity = $4)
          AND ($5::text IS NULL OR e.feature_name = $5)
        ORDER BY e.alert_event_id DESC LIMIT $6
        """;

    public async Task<AlertEventListResponse> ListAsync(
        Caller caller,
        AlertEventFilter filter,
        Guid? before,
        int limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        var found = new List<AlertEventResponse>();
        await using (
            NpgsqlCommand command = own.Command(
                ReadEvents,
                caller.EnterpriseId,
                before ?? Guid.AllBitsSet,
                filter.IsOpen,
                filter.Severity,
                filter.FeatureName,
                limit + 1
            )
        )
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                found.Add(Read(reader, enterprise));
            }
        }

        bool hasMore = found.Count > limit;
        List<AlertEventResponse> page = hasMore ? found[..limit] : found;
        return new AlertEventListResponse(
            await WithDeliveriesAsync(own, enterprise, page, withAttempts: false, cancellationToken),
            hasMore ? page[^1].AlertEventId : null
        );
    }

    private const string ReadEvent =
        $"SELECT {Columns} FROM {From} WHERE e.enterprise_id = $1 AND e.alert_event_id = $2";

    /// <summary>An alert with its delivery log, or null.</summary>
    public async Task<AlertEventResponse?> FindAsync(
        Caller caller,
        Guid alertEventId,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        AlertEventResponse? found;
        await using (NpgsqlCommand command = own.Command(ReadEvent, caller.EnterpriseId, alertEventId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            found = await reader.ReadAsync(cancellationToken) ? Read(reader, enterprise) : null;
        }

        return found is null
            ? null
            : (await WithDeliveriesAsync(own, enterprise, [found], withAttempts: true, cancellationToken))[0];
    }

    private static async Task<IReadOnlyList<AlertEventResponse>> WithDeliveriesAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        IReadOnlyList<AlertEventResponse> alerts,
        bool withAttempts,
        CancellationToken cancellationToken
    )
    {
        IReadOnlyList<DeliveryResponse> deliveries = await DeliveryReader.OfAlertsAsync(
            own,
            enterprise,
            [.. alerts.Select(alert => alert.AlertEventId)],
            withAttempts,
            cancellationToken
        );
        ILookup<Guid, DeliveryResponse> ofAlert = deliveries.ToLookup(delivery => delivery.AlertEventId);
        return [.. alerts.Select(alert => alert with { Deliveries = [.. ofAlert[alert.AlertEventId]] })];
    }

    private static AlertEventResponse Read(NpgsqlDataReader reader, EnterpriseInfo enterprise)
    {
        (Guid limitId, Guid subjectId) = (reader.GetGuid(2), reader.GetGuid(3));
        string? user =
            subjectId == Guid.Empty ? null
            : reader.IsDBNull(17) ? subjectId.ToString()
            : ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(17));
        return new AlertEventResponse(
            reader.GetGuid(0),
            reader.GetGuid(1),
            limitId == Guid.Empty ? null : limitId,
            reader.GetString(4),
            reader.GetString(5),
            reader.IsDBNull(6) ? user : reader.GetString(6),
            reader.GetString(7),
            reader.GetFieldValue<DateTime>(8),
            reader.GetFieldValue<DateTime>(9),
            reader.GetString(10),
            reader.GetInt64(11),
            reader.GetFieldValue<long?>(12),
            reader.GetInt64(13),
            reader.GetFieldValue<DateTime>(14),
            reader.GetFieldValue<DateTime?>(15),
            reader.GetFieldValue<DateTime?>(16),
            []
        );
    }

    private async Task<EnterpriseInfo> EnterpriseAsync(Caller caller, CancellationToken cancellationToken) =>
        await enterprises.FindAsync(caller.EnterpriseId, cancellationToken)
        ?? throw new InvalidOperationException("The caller's enterprise does not exist.");
}
