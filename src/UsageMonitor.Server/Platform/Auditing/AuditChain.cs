using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;

namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>The part of an entry that is hashed in the clear, with its members' names as they are hashed.</summary>
internal sealed record AuditColumns(
    Guid EnterpriseId,
    long Sequence,
    string OccurredAt,
    string Action,
    string Outcome,
    string ActorKind,
    Guid? ActorId,
    string? TargetKind,
    string? TargetId,
    string? RequestId,
    string? TraceId,
    string ContentHash
);

/// <summary>
/// How entries are chained: an entry's hash is <c>SHA-256(previous hash ‖ canonical JSON of its columns)</c>, where
/// <c>contentHash = SHA-256(salt ‖ canonical JSON of its content)</c>.
/// </summary>
internal static class AuditChain
{
    public const int HashBytes = 32;
    public const int SaltBytes = 16;

    /// <summary>Before the first entry.</summary>
    public static readonly byte[] Genesis = new byte[HashBytes];

    private const string TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'";
    private const string SequenceMember = ",\"sequence\":";
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web);

    /// <summary>An instant as it is hashed: UTC, to the microsecond, as precise as PostgreSQL keeps it.</summary>
    public static string Time(DateTimeOffset instant) =>
        instant.UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture);

    public static string Canonical(AuditColumns columns) => CanonicalJson.Of(columns, s_json);

    /// <summary>The canonical JSON before and after the sequence, which only the database can tell.</summary>
    public static (string Before, string After) Around(AuditColumns columns)
    {
        // In a member's text the quotes would be escaped: the first place is the only one.
        string whole = Canonical(columns with { Sequence = 0 });
        int at = whole.IndexOf(SequenceMember, StringComparison.Ordinal) + SequenceMember.Length;
        return (whole[..at], whole[(at + 1)..]);
    }

    public static byte[] Hash(byte[] previous, string canonical) =>
        SHA256.HashData([.. previous, .. CanonicalJson.Utf8(canonical)]);

    public static byte[] ContentHash(ReadOnlySpan<byte> salt, string canonicalContent) =>
        SHA256.HashData([.. salt, .. CanonicalJson.Utf8(canonicalContent)]);

    /// <summary>What content is sealed under, so that it cannot be moved to another entry.</summary>
    public static byte[] SealContext(Guid enterpriseId, ReadOnlySpan<byte> contentHash) =>
        [.. "audit"u8, .. enterpriseId.ToByteArray(), .. contentHash];
}
