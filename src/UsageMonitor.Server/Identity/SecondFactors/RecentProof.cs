using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>
/// Factors are changed only within ten minutes of a proof: the sign-in itself, or another since. Who finds an open browser
/// or steals a cookie gets no further than the session.
/// </summary>
internal sealed class RecentProof(
    Database database,
    EnterpriseDirectory enterprises,
    Passwords passwords,
    Challenges challenges,
    Passkeys passkeys,
    FactorProofs proofs,
    ProofLimit limit,
    IdentityVersion version,
    TimeProvider time
)
{
    public static readonly TimeSpan GoodFor = TimeSpan.FromMinutes(10);

    // A session that was begun with the password alone has not proven the factor that its person has meanwhile.
    private const string ReadProof = """
        SELECT proven_at > $3 AND NOT ($4 AND method = 'password' AND second_factor IS NULL) FROM sessions
        WHERE enterprise_id = $1 AND session_id = $2 AND revoked_at IS NULL
        """;

    /// <summary>Null when the caller has shown lately who they are; else the problem to answer.</summary>
    public async Task<IResult?> CheckAsync(
        ScopedTransaction transaction,
        Caller caller,
        FactorState state,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(
            ReadProof,
            caller.EnterpriseId,
            caller.SessionId,
            time.GetUtcNow() - GoodFor,
            state.Any
        );
        return await command.ExecuteScalarAsync(cancellationToken) is true
            ? null
            : Problems.Problem(
                403,
                "proof_required",
                "Show once more who you are: POST /v1/me/proof, then repeat this."
            );
    }

    private const string ForgetOtherProofs = """
        UPDATE sessions SET proven_at = NULL
        WHERE enterprise_id = $1 AND user_id = $2 AND session_id <> $3 AND proven_at IS NOT NULL AND revoked_at IS NULL
        """;

    /// <summary>After a factor has changed, what other sessions had proven before counts no more.</summary>
    public static Task ForgetOthersAsync(
        ScopedTransaction transaction,
        Caller caller,
        CancellationToken cancellationToken
    ) =>
        transaction.ExecuteAsync(
            ForgetOtherProofs,
            [caller.EnterpriseId, caller.UserId, caller.SessionId],
            cancellationToken
        );

    /// <summary>The ways in which the caller can prove themselves: <c>password</c>, or their factors.</summary>
    public async Task<IReadOnlyList<string>> MethodsAsync(HttpContext context)
    {
        Caller caller = context.GetCaller();
        (FactorState? state, string? hash) = await ReadAsync(caller, context.RequestAborted);
        return state is { Any: true } ? state.Methods
            : hash is not null ? [SignInProof.Password]
            : [];
    }

    /// <summary>Options for a proof with a passkey, or null when there is none.</summary>
    public async Task<PasskeyOptionsResponse?> OptionsAsync(HttpContext context)
    {
        Caller caller = context.GetCaller();
        (FactorState? state, _) = await ReadAsync(caller, context.RequestAborted);
        if (state is not { Passkeys: > 0 })
        {
            return null;
        }

        Guid userId = caller.UserId!.Value;
        PasskeyOptions options = await passkeys.RequestOptionsAsync(
            context,
            new PasskeyUser(caller.EnterpriseId, userId)
        );
        Challenge challenge = challenges.New(caller.EnterpriseId, userId, state.PasswordChangedAt, options.State);
        return new PasskeyOptionsResponse(challenges.Seal(Challenges.Proof, challenge), options.Options);
    }

    private const string RememberProof = """
        WITH before AS (
            SELECT second_factor FROM sessions WHERE enterprise_id = $1 AND session_id = $2 AND revoked_at IS NULL FOR UPDATE)
        UPDATE sessions s SET proven_at = $3,
            second_factor = CASE WHEN s.method = 'password' THEN coalesce(s.second_factor, $4) ELSE s.second_factor END
        FROM before WHERE s.enterprise_id = $1 AND s.session_id = $2
        RETURNING before.second_factor IS DISTINCT FROM s.second_factor
        """;

    /// <summary>Takes a proof. A session of a password alone becomes by it one with a second factor.</summary>
    public async Task<IResult> ProveAsync(HttpContext context, ProofRequest request)
    {
        CancellationToken cancellationToken = context.RequestAborted;
        Caller caller = context.GetCaller();
        var given = new GivenFactor(request.Code, request.RecoveryCode, request.Passkey);
        if (given.IsOne == request.Password is not null)
        {
            return Problems.Problem(
                400,
                "invalid_request",
                "Send exactly one of password, code, recoveryCode and passkey."
            );
        }

        (FactorState? before, string? hash) = await ReadAsync(caller, cancellationToken);
        if (before is null || (request.Password is not null && before.Any))
        {
            return Problems.Problem(403, "second_factor_required", "Show a second factor; the password is not enough.");
        }

        if (await CountAsync(caller, cancellationToken) is not { } attempt)
        {
            return TooMany(context);
        }

        Challenge? challenge = null;
        PasskeyAssertion? assertion = null;
        if (request.Passkey is not null)
        {
            challenge = challenges.Open(Challenges.Proof, request.Challenge);
            if (challenge is null || challenge.UserId != caller.UserId || challenge.EnterpriseId != caller.EnterpriseId)
            {
                return Problems.Problem(403, "challenge_over", "The challenge is over. Ask for new options.");
            }

            assertion = await proofs.AssertAsync(context, challenge, given);
        }

        bool passwordIsRight =
            request.Password is { Length: > 0 } password
            && await passwords.VerifyAsync(hash, password, cancellationToken) != PasswordCheck.Wrong;
        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await OpenAsync(caller, cancellationToken);
        FactorState? state = await FactorState.ReadLockedAsync(
            own,
            caller.EnterpriseId,
            caller.UserId!.Value,
            cancellationToken
        );
        if (
            challenge is not null
            && !(
                await challenges.TryCountAsync(own, challenge, cancellationToken)
                && await challenges.TrySpendAsync(own, challenge, cancellationToken)
            )
        )
        {
            return Problems.Problem(403, "challenge_over", "The challenge is over. Ask for new options.");
        }

        string? factor = null;
        bool proven =
            state is not null
            && (
                request.Password is not null
                    ? passwordIsRight && !state.Any && state.PasswordChangedAt == before.PasswordChangedAt
                    : (
                        factor = await proofs.UseAsync(
                            own,
                            enterprise,
                            caller.UserId.Value,
                            given,
                            assertion,
                            cancellationToken
                        )
                    )
                        is not null
            );
        if (!proven)
        {
            return Problems.Problem(403, "invalid_proof", "That is not right, or was used before.");
        }

        await ProofLimit.SucceededAsync(own, attempt, cancellationToken);
        object?[] session = [caller.EnterpriseId, caller.SessionId, time.GetUtcNow(), factor];
        await using (NpgsqlCommand command = own.Command(RememberProof, session))
        {
            command.Parameters[3].NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Text;
            if (await command.ExecuteScalarAsync(cancellationToken) is not true)
            {
                own.Audit("proof.given", "user", caller.UserId);
                await own.CommitAsync(cancellationToken);
                return Results.NoContent();
            }
        }

        own.Audit("proof.given", "user", caller.UserId, after: new { factor });
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    /// <summary>Counts an attempt inside a session; null: too many.</summary>
    public async Task<ProofAttempt?> CountAsync(Caller caller, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await OpenAsync(caller, cancellationToken);
        ProofAttempt? attempt = await limit.TryBeginAsync(
            own,
            caller.EnterpriseId,
            caller.UserId!.Value,
            ProofLimit.Session,
            cancellationToken
        );
        own.Audit("proof.tried", "user", caller.UserId);
        await own.CommitAsync(cancellationToken);
        return attempt;
    }

    public static IResult TooMany(HttpContext context)
    {
        context.Response.Headers.RetryAfter = ProofLimit.Window.TotalSeconds.ToString(
            "0",
            System.Globalization.CultureInfo.InvariantCulture
        );
        return Problems.Problem(429, "too_many_attempts", "Too many wrong attempts. Wait a quarter of an hour.");
    }

    private const string ReadHash = "SELECT password_hash FROM users WHERE enterprise_id = $1 AND user_id = $2";

    /// <summary>The caller's factors and password, read together.</summary>
    public async Task<(FactorState? State, string? PasswordHash)> ReadAsync(
        Caller caller,
        CancellationToken cancellationToken
    )
    {
        Guid userId = caller.UserId!.Value;
        await using ScopedTransaction own = await OpenAsync(caller, cancellationToken);

        // The time of the password first: should it change in between, the time is the older one and a proof fails.
        FactorState? state = await FactorState.ReadAsync(own, caller.EnterpriseId, userId, cancellationToken);
        await using NpgsqlCommand command = own.Command(ReadHash, caller.EnterpriseId, userId);
        string? hash = await command.ExecuteScalarAsync(cancellationToken) as string;
        return (state, hash);
    }

    private Task<ScopedTransaction> OpenAsync(Caller caller, CancellationToken cancellationToken) =>
        database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
}
