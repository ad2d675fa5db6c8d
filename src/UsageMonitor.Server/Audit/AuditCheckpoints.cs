using System.Text.Json;
using Microsoft.IdentityModel.Tokens;
using Npgsql;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary>A checkpoint as it is kept.</summary>
internal sealed record Checkpoint(long Sequence, byte[] Hash, DateTimeOffset SignedAt, string KeyId, string Jws);

/// <summary>Signs and keeps checkpoints of chains, and checks chains against them.</summary>
internal sealed class AuditCheckpoints(
    Database database,
    EnterpriseDirectory enterprises,
    SigningKeys keys,
    TimeProvider time
)
{
    /// <summary>Entries that one check looks at.</summary>
    public const int VerifiedMax = 100_000;

    private const string InsertKey =
        "INSERT INTO audit_signing_keys (key_id, jwk, first_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

    private const string Insert = """
        INSERT INTO audit_checkpoints (enterprise_id, sequence, signed_at, hash, key_id, signature) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT DO NOTHING
        """;

    /// <summary>Signs how far the enterprise's chain goes now; null: it has not begun.</summary>
    public async Task<Checkpoint?> SignAsync(Guid enterpriseId, CancellationToken cancellationToken)
    {
        ECDsaSecurityKey key = await keys.SigningKeyAsync(cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (
            await AuditReader.HeadAsync(own, enterpriseId, cancellationToken) is not { PreviousHash: { } previous } head
        )
        {
            return null;
        }

        DateTimeOffset now = time.GetUtcNow();
        now = now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond));
        string jws = CheckpointSignature.Sign(
            key,
            new CheckpointClaims(
                enterpriseId,
                head.Sequence,
                Convert.ToHexStringLower(head.Hash),
                Convert.ToHexStringLower(previous),
                AuditChain.Time(now)
            )
        );
        await own.ExecuteAsync(InsertKey, [key.KeyId, CheckpointSignature.Jwk(key), now], cancellationToken);
        await own.ExecuteAsync(
            Insert,
            [enterpriseId, head.Sequence, now, head.Hash, key.KeyId, jws],
            cancellationToken
        );
        await own.CommitAsync(cancellationToken);
        return new Checkpoint(head.Sequence, head.Hash, now, key.KeyId, jws);
    }

    private const string List = """
        SELECT sequence, hash, signed_at, key_id, signature FROM audit_checkpoints
        WHERE enterprise_id = $1 AND sequence < $2 AND sequence >= $3 ORDER BY sequence DESC, signed_at LIMIT $4
        """;

    /// <summary>Checkpoints before a sequence, the newest first.</summary>
    public static async Task<List<Checkpoint>> ListAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        long before,
        long from,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var found = new List<Checkpoint>();
        await using NpgsqlCommand command = own.Command(List, enterpriseId, before, from, limit);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found.Add(
                new Checkpoint(
                    reader.GetInt64(0),
                    reader.GetFieldValue<byte[]>(1),
                    reader.GetFieldValue<DateTimeOffset>(2),
                    reader.GetString(3),
                    reader.GetString(4)
                )
            );
        }

        return found;
    }

    private const string ListKeys = "SELECT key_id, jwk FROM audit_signing_keys ORDER BY first_at DESC LIMIT 1000";

    /// <summary>The public keys that checkpoints were ever signed by.</summary>
    public static async Task<Dictionary<string, JsonElement>> KeysAsync(
        ScopedTransaction own,
        CancellationToken cancellationToken
    )
    {
        var found = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        await using NpgsqlCommand command = own.Command(ListKeys);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            using var jwk = JsonDocument.Parse(reader.GetString(1));
            found[reader.GetString(0)] = jwk.RootElement.Clone();
        }

        return found;
    }

    /// <summary>How much of a chain's beginning is gone by retention.</summary>
    /// <param name="Through">The last entry that is gone, or 0.</param>
    /// <param name="IsTold">An entry of the chain says so.</param>
    internal readonly record struct AuditTrimmed(long Through, bool IsTold);

    private const string ReadTrimmed = """
        SELECT gone.sequence,
               EXISTS (SELECT FROM audit_log AS told
                        WHERE told.enterprise_id = gone.enterprise_id AND told.action = 'audit.trimmed'
                          AND told.target_id = gone.sequence::text AND told.sequence > gone.sequence)
          FROM audit_trims AS gone WHERE gone.enterprise_id = $1
        """;

    /// <summary>Where the kept part of a chain begins.</summary>
    internal static async Task<AuditTrimmed> TrimmedAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(ReadTrimmed, enterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? new AuditTrimmed(reader.GetInt64(0), reader.GetBoolean(1))
            : default;
    }

    /// <summary>Checks a part of the chain against itself, its checkpoints and its end.</summary>
    /// <returns>What was found, and where to go on or null.</returns>
    public async Task<(AuditVerdict Verdict, long? Next)> VerifyAsync(
        Guid enterpriseId,
        long from,
        long? to,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo? enterprise = await enterprises.FindAsync(enterpriseId, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);

        AuditTrimmed trimmed = await TrimmedAsync(own, enterpriseId, cancellationToken);
        from = Math.Max(from, trimmed.Through + 1);

        // The end before the entries: what is appended meanwhile is beyond it.
        AuditHead head =
            await AuditReader.HeadAsync(own, enterpriseId, cancellationToken)
            ?? new AuditHead(0, AuditChain.Genesis, null);
        List<Checkpoint> newest = await ListAsync(own, enterpriseId, long.MaxValue, 0, 1, cancellationToken);
        long end = Math.Max(head.Sequence, newest.FirstOrDefault()?.Sequence ?? 0);
        long last = Math.Min(Math.Min(to ?? long.MaxValue, from + VerifiedMax - 1), Math.Max(end, from));
        List<Checkpoint> signed = await ListAsync(
            own,
            enterpriseId,
            last + 1,
            from - 1,
            VerifiedMax,
            cancellationToken
        );
        Dictionary<string, JsonElement> known = await KeysAsync(own, cancellationToken);
        var anchors = new List<AuditAnchor>();
        foreach (Checkpoint checkpoint in signed)
        {
            // What is kept beside the signature does not count, only what was signed.
            if (
                known.TryGetValue(checkpoint.KeyId, out JsonElement jwk)
                && CheckpointSignature.Read(checkpoint.Jws, jwk) is { } claims
                && claims.EnterpriseId == enterpriseId
            )
            {
                anchors.Add(claims.Anchor);
            }
        }

        if (
            trimmed.Through > 0
            && from == trimmed.Through + 1
            && !(trimmed.IsTold && anchors.Exists(anchor => anchor.Sequence == trimmed.Through))
        )
        {
            var lost = new AuditFault(
                "REMOVED",
                1,
                $"Entries up to {trimmed.Through} are not there, and neither a signed checkpoint nor an entry says that they were let go."
            );
            return (new AuditVerdict(lost, 0, 0, 0, 0, 0), null);
        }

        if (head.Sequence > 0 && head.Sequence == last)
        {
            anchors.Add(new AuditAnchor(head.Sequence, head.Hash, null, DateTimeOffset.MaxValue));
        }

        var verifier = new AuditVerifier(anchors, from);
        await foreach (
            AuditRecord record in AuditReader.ReadAsync(
                sql => own.Command(sql),
                enterpriseId,
                enterprise?.DataKey,
                from,
                last,
                cancellationToken
            )
        )
        {
            verifier.Add(record);
        }

        return (verifier.End(), last < end ? last + 1 : null);
    }
}
