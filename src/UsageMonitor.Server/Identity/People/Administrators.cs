using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>
/// There is always somebody who can administer. Whatever may take the last one away (deactivating, roles, groups,
/// de-provisioning) locks first, counts before and after, and rolls back when there was one and there is none.
/// </summary>
internal static class Administrators
{
    // The enterprise's own row: two admins who remove each other at once take turns.
    private const string LockEnterprise = "SELECT 1 FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";

    public static Task LockAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(LockEnterprise, [enterpriseId], cancellationToken);

    private const string CountAdmins = """
        SELECT count(*) FROM users u
        WHERE u.enterprise_id = $1 AND u.email IS NOT NULL AND u.email_hash IS NOT NULL AND u.deactivated_at IS NULL
          AND u.user_id IN (
            SELECT r.user_id FROM user_roles r WHERE r.enterprise_id = $1 AND r.role_name = $2
            UNION ALL
            SELECT m.user_id FROM group_roles g JOIN group_members m USING (enterprise_id, group_id)
            WHERE g.enterprise_id = $1 AND g.role_name = $2)
        """;

    /// <summary>Those who have joined and are active, by a role of their own or a group's.</summary>
    public static async Task<long> CountAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(
            CountAdmins,
            enterpriseId,
            PeopleRules.AdminRoleOf(enterpriseId)
        );
        return (long)(await command.ExecuteScalarAsync(cancellationToken))!;
    }
}
