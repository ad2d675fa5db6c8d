using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary>The roles that an enterprise has made itself, in the database. Names are found whatever their case.</summary>
internal static class OwnRoles
{
    private const string ReadRoles = """
        SELECT r.role_name, r.description, r.updated_at,
               ARRAY(SELECT p.permission FROM role_permissions p
                     WHERE p.enterprise_id = r.enterprise_id AND p.role_name = r.role_name ORDER BY p.permission)
        FROM roles r WHERE r.enterprise_id = $1 AND ($2::text IS NULL OR lower(r.role_name) = lower($2))
        ORDER BY lower(r.role_name)
        """;

    // Whoever gives a role holds it FOR KEY SHARE until they commit: see RoleGrants.
    private const string LockRole =
        "SELECT 1 FROM roles WHERE enterprise_id = $1 AND lower(role_name) = lower($2) FOR UPDATE";

    public static async Task<List<RoleSummary>> ListAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    ) => await ReadAsync(transaction, enterpriseId, null, cancellationToken);

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="name">In any case.</param>
    /// <param name="forChange">Nobody else changes or gives it until the transaction ends.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<RoleSummary?> FindAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        string name,
        bool forChange,
        CancellationToken cancellationToken
    )
    {
        if (!RoleNames.IsValid(name))
        {
            return null;
        }

        if (forChange)
        {
            await transaction.ExecuteAsync(LockRole, [enterpriseId, name], cancellationToken);
        }

        return (await ReadAsync(transaction, enterpriseId, name, cancellationToken)).SingleOrDefault();
    }

    public static async Task<long> CountAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(
            "SELECT count(*) FROM roles WHERE enterprise_id = $1",
            enterpriseId
        );
        return (long)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    private const string InsertRole = """
        INSERT INTO roles (enterprise_id, role_name, description, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
        ON CONFLICT DO NOTHING
        """;

    private const string InsertPermissions = """
        INSERT INTO role_permissions (enterprise_id, role_name, permission) SELECT $1, $2, unnest($3::text[])
        """;

    /// <summary>False: there is one of that name.</summary>
    public static async Task<bool> InsertAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        RoleSummary role,
        CancellationToken cancellationToken
    )
    {
        object?[] row = [enterpriseId, role.Name, role.Description, role.UpdatedAt];
        if (await transaction.ExecuteAsync(InsertRole, row, cancellationToken) == 0)
        {
            return false;
        }

        object?[] permissions = [enterpriseId, role.Name, role.Permissions.ToArray()];
        await transaction.ExecuteAsync(InsertPermissions, permissions, cancellationToken);
        return true;
    }

    private const string UpdateRole =
        "UPDATE roles SET description = $3, updated_at = $4 WHERE enterprise_id = $1 AND role_name = $2";

    private const string DeletePermissions = "DELETE FROM role_permissions WHERE enterprise_id = $1 AND role_name = $2";

    public static async Task ReplaceAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        RoleSummary role,
        CancellationToken cancellationToken
    )
    {
        object?[] row = [enterpriseId, role.Name, role.Description, role.UpdatedAt];
        await transaction.ExecuteAsync(UpdateRole, row, cancellationToken);
        await transaction.ExecuteAsync(DeletePermissions, [enterpriseId, role.Name], cancellationToken);
        object?[] permissions = [enterpriseId, role.Name, role.Permissions.ToArray()];
        await transaction.ExecuteAsync(InsertPermissions, permissions, cancellationToken);
    }

    private const string CountUses = """
        SELECT (SELECT count(*) FROM user_roles WHERE enterprise_id = $1 AND role_name = $2),
               (SELECT count(*) FROM group_roles WHERE enterprise_id = $1 AND role_name = $2)
        """;

    /// <summary>How many people and groups have the role by themselves.</summary>
    public static async Task<(long People, long Groups)> UsesAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        string name,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(CountUses, enterpriseId, name);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        return (reader.GetInt64(0), reader.GetInt64(1));
    }

    public static Task DeleteAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        string name,
        CancellationToken cancellationToken
    ) =>
        transaction.ExecuteAsync(
            "DELETE FROM roles WHERE enterprise_id = $1 AND role_name = $2",
            [enterpriseId, name],
            cancellationToken
        );

    private static async Task<List<RoleSummary>> ReadAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        string? name,
        CancellationToken cancellationToken
    )
    {
        var read = new List<RoleSummary>();
        await using NpgsqlCommand command = transaction.Command(ReadRoles, enterpriseId, name);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            read.Add(
                new RoleSummary(
                    reader.GetString(0),
                    reader.GetString(1),
                    false,
                    reader.GetFieldValue<string[]>(3),
                    reader.GetFieldValue<DateTimeOffset>(2)
                )
            );
        }

        return read;
    }
}
