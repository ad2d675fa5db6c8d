using System.Buffers.Binary;
using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary>Which violations a list shows.</summary>
/// <param name="From">Opened at it or later.</param>
/// <param name="To">Opened before it.</param>
/// <param name="Status"><c>OPEN</c>, <c>RESOLVED</c>, or null: both.</param>
/// <param name="LimitId">Of a limit.</param>
/// <param name="UserId">Of a user.</param>
/// <param name="Feature">Of limits on this feature, as they name it.</param>
/// <param name="Before">Older than this violation.</param>
internal sealed record ViolationFilter(
    DateTime From,
    DateTime To,
    string? Status,
    Guid? LimitId,
    Guid? UserId,
    string? Feature,
    Guid? Before
);

/// <summary>Where a page of exceeding users ended.</summary>
internal readonly record struct ExceedingUserCursor(long Over, Guid UserId);

/// <summary>What processing has written of violations, and what people have said to it.</summary>
internal static class ViolationStore
{
    public const string Open = "OPEN";
    public const string Resolved = "RESOLVED";

    /// <summary>Violations shown with a user.</summary>
    public const int UserViolationsMax = 10;

    private const string Columns = """
        v.violation_id, v.limit_id, v.limit_version, v.feature_name, v.scope, v.subject_id, v.subject_external_id, v.role_name, v.window_type,
        v.window_start, v.window_end, v.action, v.limit_value, v.used, v.blocked, v.opened_at, v.last_at, v.status,
        v.resolved_at, v.resolved_by, v.resolved_reason
        """;

    // Ids are UUIDv7s of opened_at: newest first is the order of the key, and days are a range of it.
    private const string ListViolations = $"""
        SELECT {Columns} FROM usage_violations AS v
         WHERE v.enterprise_id = $1 AND v.violation_id >= $2 AND v.violation_id < $3
           AND ($4::text IS NULL OR v.status = $4)
           AND ($5::uuid IS NULL OR v.limit_id = $5)
           AND ($6::uuid IS NULL OR (v.subject_id = $6 AND v.scope = 'USER'))
           AND ($7::text IS NULL OR v.feature_name = $7)
         ORDER BY v.violation_id DESC
         LIMIT $8
        """;

    /// <summary>Violations, newest first.</summary>
    public static async Task<List<ViolationSummary>> ListAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        ViolationFilter filter,
        int limit,
        CancellationToken cancellationToken
    )
    {
        Guid end = FirstIdAt(filter.To);
        await using NpgsqlCommand command = own.Command(
            ListViolations,
            enterprise.EnterpriseId,
            FirstIdAt(filter.From),
            filter.Before is { } before && before.CompareTo(end) < 0 ? before : end
        );
        command.Parameters.Add(Value(filter.Status, NpgsqlDbType.Text));
        command.Parameters.Add(Value(filter.LimitId, NpgsqlDbType.Uuid));
        command.Parameters.Add(Value(filter.UserId, NpgsqlDbType.Uuid));
        command.Parameters.Add(Value(filter.Feature, NpgsqlDbType.Text));
        command.Parameters.Add(Value(limit, NpgsqlDbType.Integer));
        var local = new LocalTime(enterprise.TimeZone);
        var found = new List<ViolationSummary>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found.Add(Read(reader, enterprise, local, 0));
        }

        return found;
    }

    private const string ListUsers = $"""
        WITH exceeding AS (
            SELECT subject_id, count(*)::int AS violations, sum(greatest(used - limit_value, 0) + blocked)::bigint AS over,
                   min(opened_at) AS since
              FROM usage_violations
             WHERE enterprise_id = $1 AND status = 'OPEN' AND scope = 'USER'
             GROUP BY subject_id
            HAVING $2::bigint IS NULL OR (sum(greatest(used - limit_value, 0) + blocked)::bigint, subject_id) < ($2, $3)
             ORDER BY over DESC, subject_id DESC
             LIMIT $4)
        SELECT e.subject_id, e.violations, e.over, e.since, {Columns}
          FROM exceeding AS e
         CROSS JOIN LATERAL (
               SELECT * FROM usage_violations AS mine
                WHERE mine.enterprise_id = $1 AND mine.subject_id = e.subject_id AND mine.status = 'OPEN' AND mine.scope = 'USER'
                ORDER BY mine.violation_id DESC LIMIT $5) AS v
         ORDER BY e.over DESC, e.subject_id DESC, v.violation_id DESC
        """;

    /// <summary>Users with open violations, who is furthest beyond first; with each where a page after them would begin.</summary>
    public static async Task<List<(ExceedingUser User, ExceedingUserCursor Cursor)>> ListUsersAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        ExceedingUserCursor? after,
        int limit,
        CancellationToken cancellationToken
    )
    {
        const int FirstColumn = 4;
        await using NpgsqlCommand command = own.Command(ListUsers, enterprise.EnterpriseId);
        command.Parameters.Add(Value(after?.Over, NpgsqlDbType.Bigint));
        command.Parameters.Add(Value(after?.UserId, NpgsqlDbType.Uuid));
        command.Parameters.Add(Value(limit, NpgsqlDbType.Integer));
        command.Parameters.Add(Value(UserViolationsMax, NpgsqlDbType.Integer));
        var local = new LocalTime(enterprise.TimeZone);
        var found = new List<(ExceedingUser User, ExceedingUserCursor Cursor)>();
        var violations = new List<ViolationSummary>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            Guid userId = reader.GetGuid(0);
            if (found.Count == 0 || found[^1].Cursor.UserId != userId)
            {
                violations = [];
                found.Add(
                    (
                        new ExceedingUser(
                            NameOf(reader, enterprise, FirstColumn)!,
                            reader.GetInt32(1),
                            reader.GetInt64(2),
                            local.Show(reader.GetDateTime(3)),
                            violations
                        ),
                        new ExceedingUserCursor(reader.GetInt64(2), userId)
                    )
                );
            }

            violations.Add(Read(reader, enterprise, local, FirstColumn));
        }

        return found;
    }

    // Rows are locked in the order in which a step locks them.
    private const string ResolveOpen = """
        WITH wanted AS (
            SELECT violation_id FROM usage_violations
             WHERE enterprise_id = $1 AND violation_id = ANY ($2)
             ORDER BY limit_id, subject_id, window_start FOR UPDATE),
             settled AS (
            UPDATE usage_violations AS v
               SET status = 'RESOLVED', resolved_at = $3, resolved_by = $4, resolved_reason = $5
              FROM wanted
             WHERE v.enterprise_id = $1 AND v.violation_id = wanted.violation_id AND v.status = 'OPEN'
            RETURNING v.violation_id)
        SELECT wanted.violation_id, settled.violation_id IS NOT NULL
          FROM wanted LEFT JOIN settled ON settled.violation_id = wanted.violation_id
        """;

    /// <summary>Resolves those that are open.</summary>
    /// <returns>Those that exist, with whether they were resolved now.</returns>
    public static async Task<Dictionary<Guid, bool>> ResolveAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        IReadOnlyCollection<Guid> ids,
        DateTime now,
        Guid actor,
        string reason,
        CancellationToken cancellationToken
    )
    {
        var found = new Dictionary<Guid, bool>();
        await using NpgsqlCommand command = own.Command(ResolveOpen, enterpriseId, ids.ToArray(), now, actor, reason);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found[reader.GetGuid(0)] = reader.GetBoolean(1);
        }

        return found;
    }

    private static ViolationSummary Read(NpgsqlDataReader reader, EnterpriseInfo enterprise, LocalTime local, int first)
    {
        long limitValue = reader.GetInt64(first + 12);
        long used = reader.GetInt64(first + 13);
        long blocked = reader.GetInt64(first + 14);
        return new ViolationSummary(
            reader.GetGuid(first),
            reader.GetGuid(first + 1),
            reader.GetInt32(first + 2),
            reader.GetString(first + 3),
            reader.GetString(first + 4),
            NameOf(reader, enterprise, first),
            reader.IsDBNull(first + 7) ? null : reader.GetString(first + 7),
            reader.GetString(first + 8),
            local.Show(reader.GetDateTime(first + 9)),
            local.Show(reader.GetDateTime(first + 10)),
            reader.GetString(first + 11),
            limitValue,
            used,
            blocked,
            Math.Max(used - limitValue, 0) + blocked,
            local.Show(reader.GetDateTime(first + 15)),
            local.Show(reader.GetDateTime(first + 16)),
            reader.GetString(first + 17),
            reader.IsDBNull(first + 18) ? null : local.Show(reader.GetDateTime(first + 18)),
            reader.GetFieldValue<Guid?>(first + 19),
            reader.IsDBNull(first + 20) ? null : reader.GetString(first + 20)
        );
    }

    /// <summary>The user as events name them; null when it is no user's.</summary>
    private static string? NameOf(NpgsqlDataReader reader, EnterpriseInfo enterprise, int first) =>
        reader.GetString(first + 4) != LimitScope.User.Word() ? null
        : reader.IsDBNull(first + 6) ? reader.GetGuid(first + 5).ToString()
        : ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(first + 6));

    /// <summary>No UUIDv7 of an instant at or after this is below it: its 48 bits of milliseconds, and nothing else.</summary>
    private static Guid FirstIdAt(DateTime utc)
    {
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        long milliseconds = new DateTimeOffset(utc).ToUnixTimeMilliseconds();
        BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)(milliseconds >> 16));
        BinaryPrimitives.WriteUInt16BigEndian(bytes[4..], (ushort)milliseconds);
        return new Guid(bytes, bigEndian: true);
    }

    private static NpgsqlParameter Value(object? value, NpgsqlDbType type) =>
        new() { Value = value ?? DBNull.Value, NpgsqlDbType = type };
}
