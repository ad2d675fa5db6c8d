using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary>A line of an export in NDJSON: an entry, a checkpoint or a key.</summary>
/// <param name="Type"><c>entry</c>, <c>checkpoint</c> or <c>key</c>.</param>
internal sealed record AuditLine(string Type)
{
    public AuditColumns? Entry { get; init; }
    public string? PreviousHash { get; init; }
    public string? Hash { get; init; }
    public string? Salt { get; init; }
    public JsonElement? Content { get; init; }
    public string? Jws { get; init; }
    public JsonElement? Jwk { get; init; }
}

/// <summary>Entries as lines of text, for people's tools and other systems.</summary>
internal static class AuditLines
{
    public const string CsvHeader =
        "sequence,occurredAt,action,outcome,actorKind,actorId,targetKind,targetId,requestId,traceId,content,previousHash,hash";

    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web)
    {
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    };

    public static string Json(AuditRecord record) =>
        Line(
            new AuditLine("entry")
            {
                Entry = record.Columns,
                PreviousHash = Convert.ToHexStringLower(record.PreviousHash),
                Hash = Convert.ToHexStringLower(record.Hash),
                Salt = record.Salt is null ? null : Convert.ToHexStringLower(record.Salt),
                Content = record.Members,
            }
        );

    public static string Json(Checkpoint checkpoint) => Line(new AuditLine("checkpoint") { Jws = checkpoint.Jws });

    public static string Json(JsonElement jwk) => Line(new AuditLine("key") { Jwk = jwk });

    private static string Line(AuditLine line) => CanonicalJson.Of(line, s_json);

    /// <exception cref="JsonException">It is no such line, or says more than one does.</exception>
    public static AuditLine Read(string line) =>
        JsonSerializer.Deserialize<AuditLine>(line, s_json) ?? throw new JsonException("It is null.");

    /// <exception cref="FormatException">The line's hashes are none.</exception>
    public static AuditRecord RecordOf(AuditLine line) =>
        new(
            line.Entry!,
            Convert.FromHexString(line.PreviousHash ?? ""),
            Convert.FromHexString(line.Hash ?? ""),
            line.Salt is null ? null : Convert.FromHexString(line.Salt),
            line.Content is { } content ? CanonicalJson.Of(content) : null
        );

    /// <summary>A row of RFC 4180.</summary>
    public static string Csv(AuditRecord record)
    {
        AuditColumns columns = record.Columns;
        string?[] cells =
        [
            columns.Sequence.ToString(CultureInfo.InvariantCulture),
            columns.OccurredAt,
            columns.Action,
            columns.Outcome,
            columns.ActorKind,
            columns.ActorId?.ToString(),
            columns.TargetKind,
            columns.TargetId,
            columns.RequestId,
            columns.TraceId,
            record.Content,
            Convert.ToHexStringLower(record.PreviousHash),
            Convert.ToHexStringLower(record.Hash),
        ];
        return string.Join(',', cells.Select(Cell));
    }

    // A cell that begins like a formula would be one in a spreadsheet.
    private static string Cell(string? value)
    {
        if (string.IsNullOrEmpty(value))
        {
            return "";
        }

        string text = value[0] is '=' or '+' or '-' or '@' ? "'" + value : value;
        return text.AsSpan().IndexOfAny(",\"\r\n") < 0
            ? text
            : '"' + text.Replace("\"", "\"\"", StringComparison.Ordinal) + '"';
    }

    /// <summary>An event of ArcSight's Common Event Format, version 0.</summary>
    public static string Cef(AuditRecord record)
    {
        AuditColumns columns = record.Columns;
        int severity =
            columns.Outcome == AuditEntry.Done ? 3
            : columns.Outcome == AuditEntry.Failed ? 5
            : 6;
        string action = Escaped(columns.Action, "|");
        var text = new StringBuilder();
        text.Append(
            CultureInfo.InvariantCulture,
            $"CEF:0|UsageMonitor|UsageMonitor|1|{action}|{action}|{severity}|rt={columns.OccurredAt}"
        );
        Extend(text, "externalId", columns.Sequence.ToString(CultureInfo.InvariantCulture));
        Extend(text, "outcome", columns.Outcome);
        Extend(text, "suser", columns.ActorKind);
        Extend(text, "suid", columns.ActorId?.ToString());
        Extend(text, "cs1Label", "target");
        Extend(text, "cs1", columns.TargetKind is null ? null : $"{columns.TargetKind}:{columns.TargetId}");
        Extend(text, "cs2Label", "hash");
        Extend(text, "cs2", Convert.ToHexStringLower(record.Hash));
        Extend(text, "cs3Label", "previousHash");
        Extend(text, "cs3", Convert.ToHexStringLower(record.PreviousHash));
        Extend(text, "cs4Label", "traceId");
        Extend(text, "cs4", columns.TraceId);
        Extend(text, "cs5Label", "requestId");
        Extend(text, "cs5", columns.RequestId);
        Extend(text, "msg", record.Content);
        return text.ToString();
    }

    private static void Extend(StringBuilder text, string name, string? value)
    {
        if (value is not null)
        {
            text.Append(' ').Append(name).Append('=').Append(Escaped(value, "="));
        }
    }

    private static string Escaped(string value, string special) =>
        value
            .Replace("\\", "\\\\", StringComparison.Ordinal)
            .Replace(special, "\\" + special, StringComparison.Ordinal)
            .Replace("\r", "", StringComparison.Ordinal)
            .Replace("\n", "\\n", StringComparison.Ordinal);
}
