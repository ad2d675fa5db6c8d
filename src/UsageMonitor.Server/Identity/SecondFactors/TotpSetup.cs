using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>Sets an authenticator app up: a secret waits until a code made of it was shown, and only then counts.</summary>
internal sealed class TotpSetup(TimeProvider time)
{
    public static readonly TimeSpan PendingFor = TimeSpan.FromMinutes(15);

    private const string InsertPending = """
        INSERT INTO totp_secrets AS t (enterprise_id, user_id, pending, pending_since) VALUES ($1, $2, $3, $4)
        ON CONFLICT (enterprise_id, user_id) DO UPDATE SET pending = $3, pending_since = $4
        """;

    /// <summary>A new secret, waiting; one that works already goes on working.</summary>
    public async Task<byte[]> BeginAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        byte[] secret = TimeCodes.NewSecret();
        byte[] sealedSecret = Sealing.Seal(enterprise.DataKey, secret, Context(enterprise.EnterpriseId, userId));
        object?[] row = [enterprise.EnterpriseId, userId, sealedSecret, time.GetUtcNow()];
        await transaction.ExecuteAsync(InsertPending, row, cancellationToken);
        return secret;
    }

    private const string ReadPending = """
        SELECT pending FROM totp_secrets
        WHERE enterprise_id = $1 AND user_id = $2 AND pending IS NOT NULL AND pending_since > $3
        """;

    /// <summary>The secret that waits, or null.</summary>
    public async Task<byte[]?> PendingAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(
            ReadPending,
            enterprise.EnterpriseId,
            userId,
            time.GetUtcNow() - PendingFor
        );
        return await command.ExecuteScalarAsync(cancellationToken) is byte[] sealedSecret
            ? OpenSecret(enterprise, userId, sealedSecret)
            : null;
    }

    // The code that confirmed it is used up with that.
    private const string Confirm = """
        UPDATE totp_secrets SET secret = pending, confirmed_at = $3, last_step = $4, pending = NULL, pending_since = NULL
        WHERE enterprise_id = $1 AND user_id = $2 AND pending IS NOT NULL
        """;

    /// <summary>Puts the waiting secret in force. False: none waits, or the code is not of it.</summary>
    /// <param name="transaction">Holds the person's lock, so that the secret that is read is the one put in force.</param>
    /// <param name="enterprise">The person's.</param>
    /// <param name="userId">The person.</param>
    /// <param name="code">What the app shows.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<bool> TryConfirmAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        string? code,
        CancellationToken cancellationToken
    )
    {
        DateTimeOffset now = time.GetUtcNow();
        return await PendingAsync(transaction, enterprise, userId, cancellationToken) is { } secret
            && TimeCodes.StepOf(secret, code, now, lastStep: 0) is { } step
            && await transaction.ExecuteAsync(Confirm, [enterprise.EnterpriseId, userId, now, step], cancellationToken)
                > 0;
    }

    private const string Remove = """
        DELETE FROM totp_secrets WHERE enterprise_id = $1 AND user_id = $2 AND secret IS NOT NULL
        """;

    public static async Task<bool> TryRemoveAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    ) => await transaction.ExecuteAsync(Remove, [enterpriseId, userId], cancellationToken) > 0;

    /// <summary>A secret of the table, opened.</summary>
    public static byte[] OpenSecret(EnterpriseInfo enterprise, Guid userId, byte[] sealedSecret) =>
        Sealing.Open(enterprise.DataKey, sealedSecret, Context(enterprise.EnterpriseId, userId));

    private static byte[] Context(Guid enterpriseId, Guid userId) =>
        [.. enterpriseId.ToByteArray(), .. userId.ToByteArray(), .. "totp"u8];
}
