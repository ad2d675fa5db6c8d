using System.Text.Json;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>What somebody gives to show that they hold a second factor.</summary>
internal sealed record GivenFactor(string? Code, string? RecoveryCode, JsonElement? Passkey)
{
    public bool IsOne => (Code is null ? 0 : 1) + (RecoveryCode is null ? 0 : 1) + (Passkey is null ? 0 : 1) == 1;
}

/// <summary>Checks a second factor and uses it up in one transaction: nothing that was shown is good a second time.</summary>
internal sealed class FactorProofs(Passkeys passkeys, RecoveryCodes recoveryCodes, TimeProvider time)
{
    /// <summary>The part that needs no transaction, done before there is one: a passkey's signature.</summary>
    public Task<PasskeyAssertion?> AssertAsync(HttpContext context, Challenge challenge, GivenFactor given) =>
        given.Passkey is { } credential && challenge.PasskeyState is { } state
            ? passkeys.AssertAsync(context, state, credential, alone: false)
            : Task.FromResult<PasskeyAssertion?>(null);

    /// <returns>Which factor it was: one of <see cref="FactorState"/>'s names; null when it was wrong or used before.</returns>
    public async Task<string?> UseAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        GivenFactor given,
        PasskeyAssertion? assertion,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        if (given.Code is { } code)
        {
            return await TryUseCodeAsync(transaction, enterprise, userId, code, cancellationToken)
                ? FactorState.Totp
                : null;
        }

        if (given.RecoveryCode is { } recovery)
        {
            return await recoveryCodes.TryUseAsync(transaction, enterpriseId, userId, recovery, cancellationToken)
                ? FactorState.Recovery
                : null;
        }

        return
            assertion is not null
            && assertion.User == new PasskeyUser(enterpriseId, userId)
            && await Passkeys.TryUseAsync(transaction, assertion, time.GetUtcNow(), cancellationToken)
            ? FactorState.Passkey
            : null;
    }

    private const string ReadSecret = """
        SELECT secret, last_step FROM totp_secrets WHERE enterprise_id = $1 AND user_id = $2 AND secret IS NOT NULL
        """;

    // Of two with the same code at once the second waits for the first and then finds the step taken.
    private const string TakeStep = """
        UPDATE totp_secrets SET last_step = $3 WHERE enterprise_id = $1 AND user_id = $2 AND secret IS NOT NULL AND last_step < $3
        """;

    private async Task<bool> TryUseCodeAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        string code,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        byte[] sealedSecret;
        long lastStep;
        await using (NpgsqlCommand command = transaction.Command(ReadSecret, enterpriseId, userId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return false;
            }

            sealedSecret = reader.GetFieldValue<byte[]>(0);
            lastStep = reader.GetInt64(1);
        }

        byte[] secret = TotpSetup.OpenSecret(enterprise, userId, sealedSecret);
        return TimeCodes.StepOf(secret, code, time.GetUtcNow(), lastStep) is { } step
            && await transaction.ExecuteAsync(TakeStep, [enterpriseId, userId, step], cancellationToken) > 0;
    }
}
