using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>
/// What a person who is removed leaves behind, taken away: whoever gets the same address later has the same id, and must not
/// inherit roles, factors, links or an account at the enterprise's provider.
/// </summary>
internal static class PersonTraces
{
    private const string Forget = """
        WITH roles AS (DELETE FROM user_roles WHERE enterprise_id = $1 AND user_id = $2),
             memberships AS (DELETE FROM group_members WHERE enterprise_id = $1 AND user_id = $2),
             totp AS (DELETE FROM totp_secrets WHERE enterprise_id = $1 AND user_id = $2),
             codes AS (DELETE FROM recovery_codes WHERE enterprise_id = $1 AND user_id = $2),
             keys AS (DELETE FROM passkeys WHERE enterprise_id = $1 AND user_id = $2),
             identities AS (DELETE FROM external_identities WHERE enterprise_id = $1 AND user_id = $2)
        DELETE FROM account_links WHERE enterprise_id = $1 AND user_id = $2
        """;

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="userId">The person.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static Task ForgetAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(Forget, [enterpriseId, userId], cancellationToken);
}
