using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>Which limits a list is asked for; null: whichever.</summary>
/// <param name="Feature">Those that are about this feature, by its name or a beginning.</param>
/// <param name="Scope">Of this scope.</param>
/// <param name="Status">With this status.</param>
internal readonly record struct LimitFilter(string? Feature, LimitScope? Scope, string? Status);

/// <summary>Reads limits and their versions; every statement runs in the enterprise's scope.</summary>
internal static class LimitStore
{
    /// <summary>Limits of an enterprise, the inactive ones too.</summary>
    public const int LimitsMax = 1_000;

    private const string ReadPage = $"""
        SELECT {StoredLimit.Columns} FROM usage_limits AS l
         WHERE l.enterprise_id = $1 AND l.limit_id > $2
           AND ($3::text IS NULL OR l.feature_name = $3
                OR (right(l.feature_name, 1) = '*' AND starts_with($3, left(l.feature_name, -1))))
           AND ($4::text IS NULL OR l.scope = $4) AND ($5::text IS NULL OR l.status = $5)
         ORDER BY l.limit_id LIMIT $6
        """;

    public static async Task<List<StoredLimit>> ListAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        LimitFilter filter,
        Guid after,
        int rows,
        CancellationToken cancellationToken
    )
    {
        var limits = new List<StoredLimit>();
        await using NpgsqlCommand command = own.Command(
            ReadPage,
            enterpriseId,
            after,
            filter.Feature,
            filter.Scope?.Word(),
            filter.Status,
            rows
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            limits.Add(StoredLimit.Read(reader, enterpriseId));
        }

        return limits;
    }

    private const string ReadOne = $"""
        SELECT {StoredLimit.Columns} FROM usage_limits AS l WHERE l.enterprise_id = $1 AND l.limit_id = $2
        """;

    public static Task<StoredLimit?> FindAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        Guid limitId,
        CancellationToken cancellationToken
    ) => FindAsync(own, ReadOne, enterpriseId, limitId, cancellationToken);

    /// <summary>A limit that the transaction will change: others wait for it.</summary>
    public static Task<StoredLimit?> FindForChangeAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        Guid limitId,
        CancellationToken cancellationToken
    ) => FindAsync(own, ReadOne + " FOR UPDATE", enterpriseId, limitId, cancellationToken);

    private static async Task<StoredLimit?> FindAsync(
        ScopedTransaction own,
        string sql,
        Guid enterpriseId,
        Guid limitId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(sql, enterpriseId, limitId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? StoredLimit.Read(reader, enterpriseId) : null;
    }

    // In the order of StoredLimit.Columns: of an old version, its change is its making.
    private const string ReadVersions = """
        SELECT limit_id, version, feature_name, scope, subject_role, window_type, subject_user_id, subject_external_id,
               limit_value, action, status, starts_at, expires_at, changed_by, changed_at, changed_at, change
          FROM usage_limit_versions
         WHERE enterprise_id = $1 AND limit_id = $2 AND version < $3 ORDER BY version DESC LIMIT $4
        """;

    /// <summary>The versions of a limit, the newest first; of one that has gone as well.</summary>
    public static async Task<List<LimitVersion>> ListVersionsAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid limitId,
        int before,
        int rows,
        CancellationToken cancellationToken
    )
    {
        const int Change = 16;
        var local = new LocalTime(enterprise.TimeZone);
        var versions = new List<LimitVersion>();
        await using NpgsqlCommand command = own.Command(ReadVersions, enterprise.EnterpriseId, limitId, before, rows);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            StoredLimit limit = StoredLimit.Read(reader, enterprise.EnterpriseId);
            versions.Add(
                new LimitVersion(
                    reader.GetString(Change),
                    limit.CreatedBy,
                    local.Show(limit.UpdatedAt),
                    LimitAnswers.Of(limit, enterprise, local)
                )
            );
        }

        return versions;
    }
}
