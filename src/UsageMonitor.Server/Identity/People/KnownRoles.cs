using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>The roles that people of an enterprise can be given, with what each permits.</summary>
internal static class KnownRoles
{
    /// <summary>More than an enterprise can have; bounds the read.</summary>
    private const int OwnRolesMax = 1_000;

    private const string ReadOwnRoles = """
        SELECT r.role_name, ARRAY(SELECT p.permission FROM role_permissions p
                                  WHERE p.enterprise_id = r.enterprise_id AND p.role_name = r.role_name)
        FROM roles r WHERE r.enterprise_id = $1 ORDER BY r.role_name LIMIT $2
        """;

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<IReadOnlyDictionary<string, string[]>> ReadAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        var known = new SortedDictionary<string, string[]>(StringComparer.Ordinal);
        await using NpgsqlCommand command = transaction.Command(ReadOwnRoles, enterpriseId, OwnRolesMax);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            known[reader.GetString(0)] = reader.GetFieldValue<string[]>(1);
        }

        // Last, so that no role of an enterprise's own can pass for one of these.
        foreach ((string role, string[] permissions) in RolePermissions.BuiltIn)
        {
            if (PeopleRules.IsBuiltInFor(enterpriseId, role))
            {
                known[role] = permissions;
            }
            else
            {
                known.Remove(role);
            }
        }

        return known;
    }
}
