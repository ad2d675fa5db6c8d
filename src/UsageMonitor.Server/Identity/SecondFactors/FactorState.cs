using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>Which second factors a person has.</summary>
/// <param name="HasTotp">An authenticator app is confirmed.</param>
/// <param name="Passkeys">How many.</param>
/// <param name="RecoveryCodes">Left to use.</param>
/// <param name="PasswordChangedAt">Of the password now.</param>
internal sealed record FactorState(bool HasTotp, int Passkeys, int RecoveryCodes, DateTimeOffset? PasswordChangedAt)
{
    public const string Totp = "totp";
    public const string Passkey = "passkey";
    public const string Recovery = "recovery";

    /// <summary>Recovery codes alone are no factor: they only stand in for one.</summary>
    public int Factors => Passkeys + (HasTotp ? 1 : 0);

    public bool Any => Factors > 0;

    /// <summary>The ways open to the person, best first.</summary>
    public IReadOnlyList<string> Methods =>
        [
            .. Passkeys > 0 ? [Passkey] : Array.Empty<string>(),
            .. HasTotp ? [Totp] : Array.Empty<string>(),
            .. Any && RecoveryCodes > 0 ? [Recovery] : Array.Empty<string>(),
        ];

    private const string Read = """
        SELECT EXISTS (SELECT FROM totp_secrets t WHERE t.enterprise_id = $1 AND t.user_id = $2 AND t.secret IS NOT NULL),
               (SELECT count(*)::int FROM passkeys p WHERE p.enterprise_id = $1 AND p.user_id = $2),
               (SELECT count(*)::int FROM recovery_codes r WHERE r.enterprise_id = $1 AND r.user_id = $2 AND r.used_at IS NULL),
               u.password_changed_at
        FROM users u
        WHERE u.enterprise_id = $1 AND u.user_id = $2 AND u.email IS NOT NULL AND u.deactivated_at IS NULL
        """;

    /// <summary>Null: the person may not sign in (any more).</summary>
    public static async Task<FactorState?> ReadAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(Read, enterpriseId, userId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? new FactorState(
                reader.GetBoolean(0),
                reader.GetInt32(1),
                reader.GetInt32(2),
                reader.IsDBNull(3) ? null : reader.GetFieldValue<DateTimeOffset>(3)
            )
            : null;
    }

    private const string LockUser = "SELECT FROM users WHERE enterprise_id = $1 AND user_id = $2 FOR NO KEY UPDATE";

    /// <summary>As it is until the transaction ends: changes to a person's factors and password take turns.</summary>
    public static async Task<FactorState?> ReadLockedAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        // Locked by a statement of its own: the counts of one that waited would be those of before the wait.
        await transaction.ExecuteAsync(LockUser, [enterpriseId, userId], cancellationToken);
        return await ReadAsync(transaction, enterpriseId, userId, cancellationToken);
    }

    private const string ReadTotpSince = """
        SELECT confirmed_at FROM totp_secrets WHERE enterprise_id = $1 AND user_id = $2 AND secret IS NOT NULL
        """;

    private const string ReadPasskeys = """
        SELECT passkey_id, name, backed_up, created_at, last_used_at FROM passkeys
        WHERE enterprise_id = $1 AND user_id = $2 ORDER BY created_at, passkey_id LIMIT $3
        """;

    /// <summary>The factors as their owner sees them.</summary>
    public static async Task<SecondFactorsResponse> DescribeAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        FactorState? state = await ReadAsync(transaction, enterpriseId, userId, cancellationToken);
        DateTimeOffset? totpSince;
        await using (NpgsqlCommand command = transaction.Command(ReadTotpSince, enterpriseId, userId))
        {
            totpSince = await command.ExecuteScalarAsync(cancellationToken) is DateTime at
                ? new DateTimeOffset(at, TimeSpan.Zero)
                : null;
        }

        var passkeys = new List<PasskeySummary>();
        await using (
            NpgsqlCommand command = transaction.Command(
                ReadPasskeys,
                enterpriseId,
                userId,
                SecondFactors.Passkeys.PerPersonMax
            )
        )
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                Guid passkeyId = reader.GetGuid(0);
                passkeys.Add(
                    new PasskeySummary(
                        passkeyId,
                        SecondFactors.Passkeys.OpenName(enterprise, passkeyId, reader.GetFieldValue<byte[]>(1)),
                        reader.GetBoolean(2),
                        reader.GetFieldValue<DateTimeOffset>(3),
                        reader.IsDBNull(4) ? null : reader.GetFieldValue<DateTimeOffset>(4)
                    )
                );
            }
        }

        return new SecondFactorsResponse(
            enterprise.SecondFactorRequired,
            totpSince,
            passkeys,
            state?.RecoveryCodes ?? 0
        );
    }
}
