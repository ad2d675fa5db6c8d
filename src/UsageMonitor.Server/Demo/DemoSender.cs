using System.Buffers;
using System.Text.Json;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Demo;

/// <summary>
/// Sends demo events the way of every other: as NDJSON through the parser and admission, so that they are checked,
/// sealed, deduplicated and accounted for like a customer's. Only the request around them is missing.
/// </summary>
internal sealed class DemoSender(EnterpriseDirectory enterprises, EventAdmission admission, TimeProvider time)
{
    /// <returns>False: the enterprise is gone or suspended, and nothing was sent.</returns>
    /// <exception cref="EventLogUnavailableException">They may or may not be durable; sending them again is right.</exception>
    public async Task<bool> SendAsync(
        DemoEnterprise demo,
        IReadOnlyCollection<DemoEvent> events,
        CancellationToken cancellationToken
    )
    {
        if (await enterprises.FindAsync(demo.EnterpriseId, cancellationToken) is not { IsSuspended: false } enterprise)
        {
            return false;
        }

        var body = new ArrayBufferWriter<byte>();
        foreach (DemoEvent one in events)
        {
            Write(body, demo, one);
        }

        ParseOutcome outcome = EventParser.Parse(
            body.WrittenMemory,
            newlineDelimited: true,
            demo.EnterpriseId,
            time.GetUtcNow(),
            mayBackfill: true
        );
        if (outcome.Batch is not { Rejected.Count: 0 } batch)
        {
            string? why = outcome.Problem?.Detail ?? outcome.Batch?.Rejected[0].Detail;
            throw new InvalidDataException("The demo's sample has an event that is refused: " + why);
        }

        await admission.CommitAsync(
            enterprise,
            batch,
            new EventSender(null, null),
            time.GetUtcNow(),
            cancellationToken
        );
        return true;
    }

    private static void Write(ArrayBufferWriter<byte> body, DemoEnterprise demo, DemoEvent one)
    {
        using (var json = new Utf8JsonWriter(body))
        {
            json.WriteStartObject();
            json.WriteString("eventId", one.EventId);
            json.WriteString("userId", demo.UserIdOf(one.Stretch));
            json.WriteString("featureName", one.Stretch.Feature);
            if (one.Stretch.Type is { } type)
            {
                json.WriteString("eventType", type);
            }

            json.WriteString("eventTimestamp", one.Timestamp);
            if (one.Stretch.Properties.ValueKind == JsonValueKind.Object)
            {
                json.WritePropertyName("properties");
                one.Stretch.Properties.WriteTo(json);
            }

            json.WriteEndObject();
        }

        body.Write("\n"u8);
    }
}
