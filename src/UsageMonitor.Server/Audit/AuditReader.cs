using System.Runtime.CompilerServices;
using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary>Which entries; null: any.</summary>
internal sealed record AuditFilter
{
    public DateTimeOffset? From { get; init; }
    public DateTimeOffset? To { get; init; }

    /// <summary>The whole action, or its beginning with a dot at the end.</summary>
    public string? Action { get; init; }
    public Guid? ActorId { get; init; }
    public string? TargetKind { get; init; }
    public string? TargetId { get; init; }
    public string? Outcome { get; init; }

    /// <summary>Entries before this sequence only: the newest come first.</summary>
    public long? Before { get; init; }
}

/// <summary>Where a chain ends.</summary>
/// <param name="PreviousHash">As its last entry says; null: that entry is not there.</param>
internal sealed record AuditHead(long Sequence, byte[] Hash, byte[]? PreviousHash);

/// <summary>Reads an enterprise's chain, under either login.</summary>
internal static class AuditReader
{
    public const string Columns = """
        enterprise_id, sequence, occurred_at, action, outcome, actor_kind, actor_id, target_kind, target_id, request_id, trace_id,
        content_hash, content, previous_hash, hash
        """;

    private const int RowsPerRead = 1_000;

    private const string List = $"""
        SELECT {Columns} FROM audit_log
        WHERE enterprise_id = $1
          AND ($2::timestamptz IS NULL OR occurred_at >= $2) AND ($3::timestamptz IS NULL OR occurred_at < $3)
          AND ($4::text IS NULL OR action = $4 OR (right($4, 1) = '.' AND starts_with(action, $4)))
          AND ($5::uuid IS NULL OR actor_id = $5) AND ($6::text IS NULL OR target_kind = $6) AND ($7::text IS NULL OR target_id = $7)
          AND ($8::text IS NULL OR outcome = $8) AND ($9::bigint IS NULL OR sequence < $9)
        ORDER BY sequence DESC LIMIT $10
        """;

    /// <summary>The newest first.</summary>
    public static async Task<List<AuditRecord>> ListAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        AuditFilter filter,
        int limit,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(List);
        Add(command, NpgsqlDbType.Uuid, enterprise.EnterpriseId);
        Add(command, NpgsqlDbType.TimestampTz, filter.From?.ToUniversalTime());
        Add(command, NpgsqlDbType.TimestampTz, filter.To?.ToUniversalTime());
        Add(command, NpgsqlDbType.Text, filter.Action);
        Add(command, NpgsqlDbType.Uuid, filter.ActorId);
        Add(command, NpgsqlDbType.Text, filter.TargetKind);
        Add(command, NpgsqlDbType.Text, filter.TargetId);
        Add(command, NpgsqlDbType.Text, filter.Outcome);
        Add(command, NpgsqlDbType.Bigint, filter.Before);
        Add(command, NpgsqlDbType.Integer, limit);
        return await ReadAllAsync(command, enterprise.DataKey, cancellationToken);
    }

    private const string Find = $"SELECT {Columns} FROM audit_log WHERE enterprise_id = $1 AND sequence = $2";

    public static async Task<AuditRecord?> FindAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        long sequence,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(Find, enterprise.EnterpriseId, sequence);
        return (await ReadAllAsync(command, enterprise.DataKey, cancellationToken)).FirstOrDefault();
    }

    private const string ReadOn = $"""
        SELECT {Columns} FROM audit_log
        WHERE enterprise_id = $1 AND (sequence, occurred_at) > ($2, $3) AND sequence <= $4
        ORDER BY sequence, occurred_at LIMIT $5
        """;

    /// <summary>The entries of a range in the order of their sequences, also those that have one twice.</summary>
    public static async IAsyncEnumerable<AuditRecord> ReadAsync(
        Func<string, NpgsqlCommand> command,
        Guid enterpriseId,
        byte[]? dataKey,
        long from,
        long to,
        [EnumeratorCancellation] CancellationToken cancellationToken
    )
    {
        (long Sequence, DateTime At) after = (from - 1, DateTime.MaxValue);
        while (true)
        {
            List<AuditRecord> page;
            await using (NpgsqlCommand read = command(ReadOn))
            {
                Add(read, NpgsqlDbType.Uuid, enterpriseId);
                Add(read, NpgsqlDbType.Bigint, after.Sequence);
                Add(read, NpgsqlDbType.TimestampTz, DateTime.SpecifyKind(after.At, DateTimeKind.Utc));
                Add(read, NpgsqlDbType.Bigint, to);
                Add(read, NpgsqlDbType.Integer, RowsPerRead);
                page = await ReadAllAsync(read, dataKey, cancellationToken);
            }

            foreach (AuditRecord record in page)
            {
                yield return record;
            }

            if (page.Count < RowsPerRead)
            {
                yield break;
            }

            after = (
                page[^1].Sequence,
                DateTime.Parse(
                    page[^1].Columns.OccurredAt,
                    System.Globalization.CultureInfo.InvariantCulture,
                    System.Globalization.DateTimeStyles.AdjustToUniversal
                )
            );
        }
    }

    private const string Head = """
        SELECT h.sequence, h.hash, l.previous_hash FROM audit_heads h
        LEFT JOIN audit_log l ON l.enterprise_id = h.enterprise_id AND l.sequence = h.sequence AND l.hash = h.hash
        WHERE h.enterprise_id = $1
        """;

    /// <summary>Where the chain ends; null: it has not begun.</summary>
    public static async Task<AuditHead?> HeadAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(Head, enterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? new AuditHead(
                reader.GetInt64(0),
                reader.GetFieldValue<byte[]>(1),
                reader.IsDBNull(2) ? null : reader.GetFieldValue<byte[]>(2)
            )
            : null;
    }

    private static async Task<List<AuditRecord>> ReadAllAsync(
        NpgsqlCommand command,
        byte[]? dataKey,
        CancellationToken cancellationToken
    )
    {
        var records = new List<AuditRecord>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            records.Add(Read(reader, dataKey));
        }

        return records;
    }

    private static AuditRecord Read(NpgsqlDataReader reader, byte[]? dataKey)
    {
        Guid enterpriseId = reader.GetGuid(0);
        byte[] contentHash = reader.GetFieldValue<byte[]>(11);
        (byte[]? salt, string? content) = AuditRecord.Open(
            dataKey,
            enterpriseId,
            contentHash,
            reader.GetFieldValue<byte[]>(12)
        );
        return new AuditRecord(
            new AuditColumns(
                enterpriseId,
                reader.GetInt64(1),
                AuditChain.Time(reader.GetFieldValue<DateTimeOffset>(2)),
                reader.GetString(3),
                reader.GetString(4),
                reader.GetString(5),
                reader.IsDBNull(6) ? null : reader.GetGuid(6),
                Text(7),
                Text(8),
                Text(9),
                Text(10),
                Convert.ToHexStringLower(contentHash)
            ),
            reader.GetFieldValue<byte[]>(13),
            reader.GetFieldValue<byte[]>(14),
            salt,
            content
        );

        string? Text(int column) => reader.IsDBNull(column) ? null : reader.GetString(column);
    }

    private static void Add(NpgsqlCommand command, NpgsqlDbType type, object? value) =>
        command.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = type, Value = value ?? DBNull.Value });
}
