using System.Security.Cryptography;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Audit;

/// <summary>What of a destination is kept sealed.</summary>
/// <param name="Address">A webhook's https address, or <c>host:port</c> of a syslog receiver.</param>
/// <param name="Secret">Signs what a webhook is sent; base64.</param>
/// <param name="Certificate">PEM of the authority that a syslog receiver's certificate must come from; null: the system's.</param>
internal sealed record DestinationSettings(string Address, string? Secret, string? Certificate);

/// <summary>Where an enterprise's audit log is streamed to: a row of <c>audit_destinations</c>.</summary>
/// <param name="Settings">Null: they cannot be opened.</param>
/// <param name="Cursor">The last entry that was taken there.</param>
/// <param name="Replays">How often somebody has set the cursor.</param>
internal sealed record AuditDestination(
    Guid EnterpriseId,
    Guid DestinationId,
    string Name,
    string Kind,
    DestinationSettings? Settings,
    string Status,
    long Cursor,
    int Replays,
    int Failures,
    string? LastError,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
)
{
    public const string Webhook = "WEBHOOK";
    public const string Syslog = "SYSLOG";
    public const string Active = "ACTIVE";
    public const string Inactive = "INACTIVE";

    /// <summary>Of an enterprise.</summary>
    public const int DestinationsMax = 10;

    public const string Columns = """
        enterprise_id, destination_id, name, kind, settings, status, cursor_sequence, replays, failures, last_error, created_at, updated_at
        """;

    public static AuditDestination Read(NpgsqlDataReader reader, byte[]? dataKey)
    {
        (Guid enterpriseId, Guid destinationId) = (reader.GetGuid(0), reader.GetGuid(1));
        return new AuditDestination(
            enterpriseId,
            destinationId,
            reader.GetString(2),
            reader.GetString(3),
            Open(dataKey, enterpriseId, destinationId, reader.GetFieldValue<byte[]>(4)),
            reader.GetString(5),
            reader.GetInt64(6),
            reader.GetInt32(7),
            reader.GetInt32(8),
            reader.IsDBNull(9) ? null : reader.GetString(9),
            reader.GetFieldValue<DateTimeOffset>(10),
            reader.GetFieldValue<DateTimeOffset>(11)
        );
    }

    /// <summary>A webhook's address may hold a token: only where it leads is shown.</summary>
    public AuditDestinationResponse Answer() =>
        new(DestinationId, Name, Kind, Place, Status, Cursor, Failures, LastError, CreatedAt, UpdatedAt);

    /// <summary>The address without what may be secret in it.</summary>
    public string? Place =>
        Settings is null ? null
        : Kind == Webhook && Uri.TryCreate(Settings.Address, UriKind.Absolute, out Uri? uri)
            ? uri.GetLeftPart(UriPartial.Authority)
        : Settings.Address;

    public static byte[] Seal(byte[] dataKey, Guid enterpriseId, Guid destinationId, DestinationSettings settings) =>
        Sealing.Seal(dataKey, JsonSerializer.SerializeToUtf8Bytes(settings), Context(enterpriseId, destinationId));

    private static DestinationSettings? Open(
        byte[]? dataKey,
        Guid enterpriseId,
        Guid destinationId,
        byte[] sealedSettings
    )
    {
        try
        {
            return dataKey is null
                ? null
                : JsonSerializer.Deserialize<DestinationSettings>(
                    Sealing.Open(dataKey, sealedSettings, Context(enterpriseId, destinationId))
                );
        }
        catch (Exception exception) when (exception is CryptographicException or JsonException or ArgumentException)
        {
            return null;
        }
    }

    private static byte[] Context(Guid enterpriseId, Guid destinationId) =>
        [.. enterpriseId.ToByteArray(), .. destinationId.ToByteArray(), .. "audit-destination"u8];
}
