using UsageMonitor.Server.Identity.People;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>An administrator removes the factors of a person who has lost them.</summary>
internal static class FactorReset
{
    private const string RemoveAll = """
        WITH totp AS (DELETE FROM totp_secrets WHERE enterprise_id = $1 AND user_id = $2),
             codes AS (DELETE FROM recovery_codes WHERE enterprise_id = $1 AND user_id = $2),
             keys AS (DELETE FROM passkeys WHERE enterprise_id = $1 AND user_id = $2)
        UPDATE sessions SET revoked_at = $3 WHERE enterprise_id = $1 AND user_id = $2 AND revoked_at IS NULL
        """;

    /// <summary>Removes every factor and ends every session, so that nobody stays signed in by what was lost.</summary>
    public static async Task<IResult> ResetAsync(
        Guid userId,
        Database database,
        EnterpriseDirectory enterprises,
        AccountNotices notices,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        if (userId == caller.UserId)
        {
            return Problems.Problem(
                409,
                "own_account",
                "You cannot reset your own second factors; another administrator can."
            );
        }

        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await PersonRecord.ReadAsync(own, enterprise, userId, cancellationToken) is not { } person)
        {
            return PeopleRules.NotFound;
        }

        // Else whoever may reset a password could take over somebody who may do more.
        if (PeopleRules.WhyNotTouch(caller, person.Held) is { } refused)
        {
            return refused;
        }

        await own.ExecuteAsync(RemoveAll, [caller.EnterpriseId, userId, time.GetUtcNow()], cancellationToken);
        await notices.SendAsync(own, enterprise, person.Email, AccountNotices.FactorsReset, cancellationToken);
        own.Audit("person.second_factors_reset", "user", userId);
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }
}
