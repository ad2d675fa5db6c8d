using System.Text.Json;
using Npgsql;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>What a person has to answer after the password.</summary>
/// <param name="Text">The sealed challenge.</param>
/// <param name="Methods"><c>passkey</c>, <c>totp</c>, <c>recovery</c>: those open to the person.</param>
/// <param name="PasskeyOptions">For the browser, when there is a passkey.</param>
internal sealed record SecondFactorChallenge(string Text, IReadOnlyList<string> Methods, JsonElement? PasskeyOptions);

/// <summary>The end of a sign-in with a factor: the session only when it succeeded.</summary>
internal sealed record FactorSignIn<TSession>(LoginResult Result, TSession? Session = null)
    where TSession : class;

/// <summary>The second step of a sign-in, and the sign-in with a passkey alone.</summary>
internal sealed partial class SecondFactorSignIn(
    Database database,
    EnterpriseDirectory enterprises,
    Challenges challenges,
    Passkeys passkeys,
    FactorProofs proofs,
    ProofLimit limit,
    AccountNotices notices,
    TimeProvider time,
    AuditTrail audit,
    ILogger<SecondFactorSignIn> logger
)
{
    /// <summary>What the person has to answer, or null: they have no second factor.</summary>
    public async Task<SecondFactorChallenge?> ChallengeAsync(HttpContext context, Person person)
    {
        FactorState? state;
        await using (ScopedTransaction own = await OpenAsync(person.EnterpriseId, context))
        {
            state = await FactorState.ReadAsync(own, person.EnterpriseId, person.UserId, context.RequestAborted);
        }

        if (state is not { Any: true })
        {
            return null;
        }

        Challenge challenge = challenges.New(person.EnterpriseId, person.UserId, state.PasswordChangedAt, null);
        return await WithOptionsAsync(context, challenge, state);
    }

    /// <summary>The same challenge for another look at it, with options of its own; null when it is over.</summary>
    public async Task<SecondFactorChallenge?> RenewAsync(HttpContext context, string? text)
    {
        if (challenges.Open(Challenges.SecondFactor, text) is not { } challenge)
        {
            return null;
        }

        FactorState? state;
        await using (ScopedTransaction own = await OpenAsync(challenge.EnterpriseId, context))
        {
            state = await FactorState.ReadAsync(own, challenge.EnterpriseId, challenge.UserId, context.RequestAborted);
        }

        return state is { Any: true } && state.PasswordChangedAt == challenge.PasswordChangedAt
            ? await WithOptionsAsync(context, challenge, state)
            : null;
    }

    /// <summary>For a sign-in with a passkey alone; writes nothing and tells nothing of anybody.</summary>
    public async Task<SecondFactorChallenge> PasskeyChallengeAsync(HttpContext context)
    {
        PasskeyOptions options = await passkeys.RequestOptionsAsync(context, null);
        Challenge challenge = challenges.New(Guid.Empty, Guid.Empty, null, options.State);
        string text = challenges.Seal(Challenges.PasskeySignIn, challenge);
        return new SecondFactorChallenge(text, [FactorState.Passkey], options.Options);
    }

    /// <summary>Checks the answer to a challenge and begins the session in the transaction that uses the factor up.</summary>
    public async Task<FactorSignIn<TSession>> AnswerAsync<TSession>(
        HttpContext context,
        string? challengeText,
        GivenFactor given,
        Func<ScopedTransaction, Person, SignInProof, Task<TSession>> begin
    )
        where TSession : class
    {
        CancellationToken cancellationToken = context.RequestAborted;
        if (
            challenges.Open(Challenges.SecondFactor, challengeText) is not { } challenge
            || await enterprises.FindAsync(challenge.EnterpriseId, cancellationToken) is not { } enterprise
        )
        {
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.ChallengeOver));
        }

        if (enterprise.IsSuspended)
        {
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.EnterpriseSuspended));
        }

        (LoginResult? refused, ProofAttempt? attempt) = await CountAsync(challenge, cancellationToken);
        if (refused is not null)
        {
            return new FactorSignIn<TSession>(refused);
        }

        PasskeyAssertion? assertion = await proofs.AssertAsync(context, challenge, given);
        await using ScopedTransaction own = await OpenAsync(challenge.EnterpriseId, context);
        FactorState? state = await FactorState.ReadLockedAsync(
            own,
            challenge.EnterpriseId,
            challenge.UserId,
            cancellationToken
        );
        if (state is null || state.PasswordChangedAt != challenge.PasswordChangedAt)
        {
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.ChallengeOver));
        }

        Person person = await ReadPersonAsync(own, enterprise, challenge.UserId, cancellationToken);
        string? factor = await proofs.UseAsync(own, enterprise, person.UserId, given, assertion, cancellationToken);
        if (factor is null)
        {
            WrongFactor(person.UserId, person.EnterpriseId);
            await audit.RecordAsync(
                person.EnterpriseId,
                new AuditEntry("sign_in.failed", "user", person.UserId.ToString())
                {
                    Outcome = AuditEntry.Failed,
                    After = new { because = "wrong second factor" },
                },
                cancellationToken
            );
            await WarnAsync(own, enterprise, person, attempt!, cancellationToken);
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.InvalidSecondFactor));
        }

        if (!await challenges.TrySpendAsync(own, challenge, cancellationToken))
        {
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.ChallengeOver));
        }

        if (factor == FactorState.Recovery)
        {
            await notices.SendAsync(own, enterprise, person.Email, AccountNotices.RecoveryCodeUsed, cancellationToken);
        }

        await ProofLimit.SucceededAsync(own, attempt!, cancellationToken);
        TSession session = await begin(own, person, new SignInProof(SignInProof.Password, factor));
        await own.CommitAsync(cancellationToken);
        return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.SignedIn, person), session);
    }

    /// <summary>Signs in whoever holds the passkey and has shown it their finger or PIN.</summary>
    public async Task<FactorSignIn<TSession>> SignInWithPasskeyAsync<TSession>(
        HttpContext context,
        string? challengeText,
        JsonElement? credential,
        Func<ScopedTransaction, Person, SignInProof, Task<TSession>> begin
    )
        where TSession : class
    {
        CancellationToken cancellationToken = context.RequestAborted;
        if (challenges.Open(Challenges.PasskeySignIn, challengeText) is not { PasskeyState: { } state } opened)
        {
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.ChallengeOver));
        }

        // An unknown passkey, another enterprise's rules and a wrong signature are answered alike.
        var invalid = new FactorSignIn<TSession>(new LoginResult(SignInOutcome.InvalidSecondFactor));
        if (
            credential is not { } given
            || await passkeys.AssertAsync(context, state, given, alone: true) is not { } assertion
            || await enterprises.FindAsync(assertion.User.EnterpriseId, cancellationToken) is not { } enterprise
        )
        {
            return invalid;
        }

        if (enterprise.IsSuspended)
        {
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.EnterpriseSuspended));
        }

        Challenge challenge = opened with { EnterpriseId = enterprise.EnterpriseId, UserId = assertion.User.UserId };
        await using ScopedTransaction own = await OpenAsync(challenge.EnterpriseId, context);
        if (
            !await challenges.TryCountAsync(own, challenge, cancellationToken)
            || !await challenges.TrySpendAsync(own, challenge, cancellationToken)
            || await FactorState.ReadLockedAsync(own, challenge.EnterpriseId, challenge.UserId, cancellationToken)
                is null
        )
        {
            return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.ChallengeOver));
        }

        if (!await Passkeys.TryUseAsync(own, assertion, time.GetUtcNow(), cancellationToken))
        {
            return invalid;
        }

        // Where people sign in elsewhere, a passkey of ours opens no more doors than a password does.
        Person person = await ReadPersonAsync(own, enterprise, challenge.UserId, cancellationToken);
        if (!PasswordRule.Allows(enterprise, person.Roles))
        {
            return invalid;
        }

        TSession session = await begin(own, person, new SignInProof(SignInProof.Passkey, FactorState.Passkey));
        await own.CommitAsync(cancellationToken);
        return new FactorSignIn<TSession>(new LoginResult(SignInOutcome.SignedIn, person), session);
    }

    private async Task<SecondFactorChallenge> WithOptionsAsync(
        HttpContext context,
        Challenge challenge,
        FactorState state
    )
    {
        PasskeyOptions? options =
            state.Passkeys > 0
                ? await passkeys.RequestOptionsAsync(context, new PasskeyUser(challenge.EnterpriseId, challenge.UserId))
                : null;
        string text = challenges.Seal(Challenges.SecondFactor, challenge with { PasskeyState = options?.State });
        return new SecondFactorChallenge(text, state.Methods, options?.Options);
    }

    // Committed before the answer is looked at: what is counted stays counted, whatever becomes of the request.
    private async Task<(LoginResult? Refused, ProofAttempt? Attempt)> CountAsync(
        Challenge challenge,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            challenge.EnterpriseId,
            cancellationToken
        );
        if (!await challenges.TryCountAsync(own, challenge, cancellationToken))
        {
            return (new LoginResult(SignInOutcome.ChallengeOver), null);
        }

        ProofAttempt? attempt = await limit.TryBeginAsync(
            own,
            challenge.EnterpriseId,
            challenge.UserId,
            ProofLimit.SignIn,
            cancellationToken
        );
        if (attempt is null)
        {
            return (new LoginResult(SignInOutcome.TooManyAttempts, RetryAfter: ProofLimit.Window), null);
        }

        own.Audit(
            new AuditEntry("sign_in.second_factor_tried", "user", challenge.UserId.ToString())
            {
                Actor = AuditActor.User(challenge.UserId),
            }
        );
        await own.CommitAsync(cancellationToken);
        return (null, attempt);
    }

    private async Task WarnAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Person person,
        ProofAttempt attempt,
        CancellationToken cancellationToken
    )
    {
        if (attempt.Count == ProofLimit.AttemptsMax)
        {
            await notices.SendAsync(own, enterprise, person.Email, AccountNotices.Guessed, cancellationToken);
            own.Audit(
                new AuditEntry("sign_in.second_factor_guessed", "user", person.UserId.ToString())
                {
                    Actor = AuditActor.User(person.UserId),
                    Outcome = AuditEntry.Failed,
                    After = new { attempts = attempt.Count },
                }
            );
            await own.CommitAsync(cancellationToken);
        }
    }

    private const string ReadEmail = "SELECT email FROM users WHERE enterprise_id = $1 AND user_id = $2";

    private static async Task<Person> ReadPersonAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        byte[] sealedEmail;
        await using (NpgsqlCommand command = own.Command(ReadEmail, enterpriseId, userId))
        {
            sealedEmail = (byte[])(await command.ExecuteScalarAsync(cancellationToken))!;
        }

        ResolvedRoles roles = await RoleResolver.ResolveAsync(own, enterpriseId, userId, cancellationToken);
        string email = Users.OpenEmail(enterprise.DataKey, enterpriseId, sealedEmail);
        return new Person(enterpriseId, userId, email, roles.Names);
    }

    private Task<ScopedTransaction> OpenAsync(Guid enterpriseId, HttpContext context) =>
        database.OpenEnterpriseAsync(enterpriseId, context.RequestAborted);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "A wrong second factor was given for {UserId} of enterprise {EnterpriseId}."
    )]
    private partial void WrongFactor(Guid userId, Guid enterpriseId);
}
