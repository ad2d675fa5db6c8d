using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary>An enterprise must not end up with nobody who can administer it.</summary>
internal static class LastAdmin
{
    // One at a time, or two admins could each take the other for the one who stays.
    private const string TakeTurn = "SELECT 1 FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";

    private const string FindAdmin = """
        SELECT EXISTS (
            SELECT 1 FROM users u
            WHERE u.enterprise_id = $1 AND u.email IS NOT NULL AND u.email_hash IS NOT NULL AND u.deactivated_at IS NULL AND u.user_id <> $2
              AND (NOT $3 OR u.origin IS DISTINCT FROM 'SCIM')
              AND (EXISTS (SELECT 1 FROM user_roles r
                           WHERE r.enterprise_id = $1 AND r.user_id = u.user_id AND r.role_name = $4)
                OR EXISTS (SELECT 1 FROM group_members m JOIN groups g USING (enterprise_id, group_id)
                                                         JOIN group_roles r USING (enterprise_id, group_id)
                           WHERE m.enterprise_id = $1 AND m.user_id = u.user_id AND r.role_name = $4
                             AND (NOT $3 OR g.origin = 'LOCAL'))))
        """;

    /// <summary>Waits for whoever else changes the enterprise's admins; before the change that is asked about.</summary>
    public static Task TakeTurnAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(TakeTurn, [enterpriseId], cancellationToken);

    /// <summary>Whether somebody active has the role <see cref="RolePermissions.EnterpriseAdmin"/>.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="besides">A person who does not count, or <see cref="Guid.Empty"/>.</param>
    /// <param name="beyondProvisioning">Counts only those whom a provisioning system neither made nor gives the role.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<bool> ThereIsAnAdminAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid besides,
        bool beyondProvisioning,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(
            FindAdmin,
            enterpriseId,
            besides,
            beyondProvisioning,
            RolePermissions.EnterpriseAdmin
        );
        return (bool)(await command.ExecuteScalarAsync(cancellationToken))!;
    }
}
