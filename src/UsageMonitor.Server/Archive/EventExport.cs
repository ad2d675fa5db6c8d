using System.Globalization;
using System.Text;
using System.Text.Json;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>Writes events as NDJSON or CSV (RFC 4180).</summary>
internal sealed class EventExport(Stream body, bool isCsv, LocalTime local) : IAsyncDisposable
{
    public const string Ndjson = "ndjson";
    public const string Csv = "csv";
    private const string Heading = "eventId,userId,featureName,eventType,eventTimestamp,receivedAt,properties\r\n";

    private readonly MemoryStream _buffer = new();
    private bool _hasHeading;

    public async Task WriteAsync(
        IReadOnlyList<ArchivedEvent> events,
        Dictionary<Guid, string> names,
        CancellationToken cancellationToken
    )
    {
        await HeadAsync(cancellationToken);
        _buffer.SetLength(0);
        if (isCsv)
        {
            WriteCsv(events, names);
        }
        else
        {
            WriteJson(events, names);
        }

        await body.WriteAsync(_buffer.GetBuffer().AsMemory(0, (int)_buffer.Length), cancellationToken);
    }

    // Nothing found is a file with a heading.
    public async ValueTask DisposeAsync()
    {
        await HeadAsync(CancellationToken.None);
        await _buffer.DisposeAsync();
    }

    private async Task HeadAsync(CancellationToken cancellationToken)
    {
        if (isCsv && !_hasHeading)
        {
            _hasHeading = true;
            await body.WriteAsync(Encoding.UTF8.GetBytes(Heading), cancellationToken);
        }
    }

    private void WriteJson(IReadOnlyList<ArchivedEvent> events, Dictionary<Guid, string> names)
    {
        foreach (ArchivedEvent one in events)
        {
            using (var writer = new Utf8JsonWriter(_buffer))
            {
                writer.WriteStartObject();
                writer.WriteString("eventId", one.EventId);
                writer.WriteString("userId", names[one.UserId]);
                writer.WriteString("featureName", one.FeatureName);
                writer.WriteString("eventType", one.EventType);
                writer.WriteString("eventTimestamp", local.Show(one.Timestamp));
                writer.WriteString("receivedAt", local.Show(one.ReceivedAt));
                if (one.Properties is not null)
                {
                    writer.WritePropertyName("properties");
                    writer.WriteRawValue(one.Properties, skipInputValidation: true);
                }

                writer.WriteEndObject();
            }

            _buffer.WriteByte((byte)'\n');
        }
    }

    private void WriteCsv(IReadOnlyList<ArchivedEvent> events, Dictionary<Guid, string> names)
    {
        var text = new StringBuilder();
        foreach (ArchivedEvent one in events)
        {
            text.Append(CultureInfo.InvariantCulture, $"{one.EventId},");
            Append(text, names[one.UserId]).Append(',');
            Append(text, one.FeatureName).Append(',');
            Append(text, one.EventType).Append(',');
            text.Append(CultureInfo.InvariantCulture, $"{local.Show(one.Timestamp):O},{local.Show(one.ReceivedAt):O},");
            Append(text, one.Properties ?? "").Append("\r\n");
        }

        _buffer.Write(Encoding.UTF8.GetBytes(text.ToString()));
    }

    // A text that a spreadsheet would take for a formula begins with an apostrophe.
    private static StringBuilder Append(StringBuilder text, string value)
    {
        string safe = value.Length > 0 && value[0] is ('=' or '+' or '-' or '@' or '\t' or '\r') ? "'" + value : value;
        return safe.AsSpan().IndexOfAny(",\"\r\n") < 0
            ? text.Append(safe)
            : text.Append('"').Append(safe.Replace("\"", "\"\"", StringComparison.Ordinal)).Append('"');
    }
}
