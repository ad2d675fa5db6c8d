using System.Globalization;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Tests.Audit;

/// <summary>Something that a superuser does to the rows of an enterprise ($1).</summary>
/// <param name="Sequence">Of the first entry that is then not what it was.</param>
internal sealed record Tampering(string Kind, long Sequence, string Sql)
{
    private static readonly string[] s_changes =
    [
        "action = 'harmless.read'",
        "outcome = CASE outcome WHEN 'DONE' THEN 'REFUSED' ELSE 'DONE' END",
        "actor_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'",
        "actor_kind = 'API_KEY'",
        "target_id = 'somebody else'",
        "target_kind = 'another'",
        "request_id = 'another'",
        "trace_id = 'another'",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "content = set_byte(content, 20, get_byte(content, 20) # 1)",
        "content_hash = set_byte(content_hash, 3, get_byte(content_hash, 3) # 1)",
        "hash = set_byte(hash, 5, get_byte(hash, 5) # 1)",
        "previous_hash = set_byte(previous_hash, 7, get_byte(previous_hash, 7) # 1)",
    ];

    public static Tampering Random(Random random, List<AuditRecord> whole)
    {
        int last = whole.Count;
        int at = random.Next(1, last + 1);
        switch (random.Next(9))
        {
            case 0:
            case 1:
                return new(
                    "altered",
                    at,
                    $"UPDATE audit_log SET {s_changes[random.Next(s_changes.Length)]} WHERE {Of(at)}"
                );
            case 2:
                return Rehashed(whole[at - 1], at);
            case 3:
                int count = random.Next(1, 4);
                return new(
                    "deleted",
                    at,
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"DELETE FROM audit_log WHERE enterprise_id = $1 AND sequence BETWEEN {at} AND {at + count - 1}"
                    )
                );
            case 4:
                // The gap is closed: what was behind it moves up.
                return new(
                    "deleted and closed",
                    at,
                    Invariant(
                        $"WITH gone AS (DELETE FROM audit_log WHERE {Of(at)}) UPDATE audit_log SET sequence = sequence - 1 WHERE enterprise_id = $1 AND sequence > {at}"
                    )
                );
            case 5:
                // A second entry with a number there is already, at another instant.
                return new(
                    "inserted",
                    at,
                    Invariant($"INSERT INTO audit_log ({AuditReader.Columns}) ")
                        + Copy(at, "sequence", "occurred_at + interval '3 microseconds'")
                );
            case 6:
                return Inserted(whole, at);
            case 7:
                at = random.Next(1, last);
                int other = random.Next(at + 1, last + 1);
                return new(
                    "swapped",
                    at,
                    Invariant(
                        $"UPDATE audit_log SET sequence = CASE sequence WHEN {at} THEN {other} ELSE {at} END WHERE enterprise_id = $1 AND sequence IN ({at}, {other})"
                    )
                );
            default:
                // One is taken out and put elsewhere; those between move.
                at = random.Next(1, last);
                int to = random.Next(at + 1, last + 1);
                return new(
                    "moved",
                    at,
                    Invariant(
                        $"UPDATE audit_log SET sequence = CASE WHEN sequence = {at} THEN {to} ELSE sequence - 1 END WHERE enterprise_id = $1 AND sequence BETWEEN {at} AND {to}"
                    )
                );
        }
    }

    // Altered by somebody who knows how entries are hashed: the entry itself is consistent, but not what comes after.
    private static Tampering Rehashed(AuditRecord record, int at)
    {
        AuditColumns forged = record.Columns with { Action = "harmless.read" };
        string hash = Convert.ToHexString(AuditChain.Hash(record.PreviousHash, AuditChain.Canonical(forged)));
        return new(
            "altered and hashed anew",
            at,
            $"UPDATE audit_log SET action = 'harmless.read', hash = decode('{hash}', 'hex') WHERE {Of(at)}"
        );
    }

    // A forged entry that fits what is before it, and all behind it moved by one.
    private static Tampering Inserted(List<AuditRecord> whole, int at)
    {
        AuditRecord there = whole[at - 1];
        AuditColumns forged = there.Columns with
        {
            Action = "harmless.read",
            OccurredAt = AuditChain.Time(
                DateTimeOffset.Parse(there.Columns.OccurredAt, CultureInfo.InvariantCulture).AddMicroseconds(3)
            ),
        };
        string hash = Convert.ToHexString(AuditChain.Hash(there.PreviousHash, AuditChain.Canonical(forged)));
        return new(
            "inserted and moved",
            at,
            Invariant(
                $"""
                WITH moved AS (UPDATE audit_log SET sequence = sequence + 1 WHERE enterprise_id = $1 AND sequence >= {at})
                INSERT INTO audit_log ({AuditReader.Columns})
                SELECT enterprise_id, sequence, occurred_at + interval '3 microseconds', 'harmless.read', outcome, actor_kind, actor_id, target_kind, target_id,
                       request_id, trace_id, content_hash, content, previous_hash, decode('{hash}', 'hex')
                FROM audit_log WHERE {Of(at)}
                """
            )
        );
    }

    private static string Copy(int at, string sequence, string occurredAt) =>
        Invariant(
            $"""
            SELECT enterprise_id, {sequence}, {occurredAt}, action, outcome, actor_kind, actor_id, target_kind, target_id,
                   request_id, trace_id, content_hash, content, previous_hash, hash
            FROM audit_log WHERE {Of(at)}
            """
        );

    private static string Of(int at) => Invariant($"enterprise_id = $1 AND sequence = {at}");

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
