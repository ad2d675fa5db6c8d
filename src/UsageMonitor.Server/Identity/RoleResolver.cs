using System.Collections.Frozen;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>The roles a person has, and what they permit together.</summary>
internal sealed record ResolvedRoles(IReadOnlyList<string> Names, FrozenSet<string> Permissions);

/// <summary>Finds a person's roles: their own and those of their groups.</summary>
internal static class RoleResolver
{
    private const string FindRoles = """
        WITH held AS (
            SELECT r.role_name FROM user_roles r WHERE r.enterprise_id = $1 AND r.user_id = $2
            UNION
            SELECT g.role_name FROM group_members m JOIN group_roles g USING (enterprise_id, group_id)
            WHERE m.enterprise_id = $1 AND m.user_id = $2)
        SELECT ARRAY(SELECT role_name FROM held ORDER BY role_name),
               ARRAY(SELECT DISTINCT p.permission FROM role_permissions p JOIN held USING (role_name) WHERE p.enterprise_id = $1)
        """;

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="userId">The person.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<ResolvedRoles> ResolveAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(FindRoles, enterpriseId, userId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        string[] names = reader.GetFieldValue<string[]>(0);
        FrozenSet<string> permissions = RolePermissions.Of(names, reader.GetFieldValue<string[]>(1));
        return new ResolvedRoles(
            names,
            enterpriseId == Guid.Empty ? permissions : RolePermissions.WithoutPlatform(permissions)
        );
    }
}
