using System.Net;
using Npgsql;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Identity;

/// <summary>How a sign-in ended.</summary>
internal enum SignInOutcome
{
    SignedIn,

    /// <summary>No such person or a wrong password; deliberately the same.</summary>
    InvalidCredentials,
    TooManyAttempts,
    EnterpriseSuspended,

    /// <summary>A form on another site sent it.</summary>
    CrossSite,

    /// <summary>The password was right; the person has a second factor to show.</summary>
    SecondFactorRequired,

    /// <summary>The second factor was wrong, or was used before.</summary>
    InvalidSecondFactor,

    /// <summary>Too late, answered already, or answered wrongly too often: begin again.</summary>
    ChallengeOver,
}

/// <summary>A person who has proven who they are.</summary>
internal sealed record Person(Guid EnterpriseId, Guid UserId, string Email, IReadOnlyList<string> Roles);

/// <summary>The end of a sign-in.</summary>
/// <param name="Outcome">What became of it.</param>
/// <param name="Person">Who signed in, or null.</param>
/// <param name="RetryAfter">With <see cref="SignInOutcome.TooManyAttempts"/>: how long to wait.</param>
internal sealed record LoginResult(SignInOutcome Outcome, Person? Person = null, TimeSpan RetryAfter = default)
{
    /// <summary>With <see cref="SignInOutcome.SecondFactorRequired"/>: what to answer.</summary>
    public SecondFactors.SecondFactorChallenge? Challenge { get; init; }
}

/// <summary>Checks an e-mail address and a password.</summary>
internal sealed partial class PasswordSignIn(
    Database database,
    EnterpriseDirectory enterprises,
    Users users,
    Passwords passwords,
    SignInThrottle throttle,
    AuditTrail audit,
    ILogger<PasswordSignIn> logger
)
{
    private const string FindByEmail = """
        SELECT enterprise_id, user_id, password_hash FROM users
        WHERE email_hash = $1 AND deactivated_at IS NULL
        """;

    public async Task<LoginResult> CheckAsync(
        string? emailText,
        string? password,
        IPAddress? address,
        CancellationToken cancellationToken
    )
    {
        // An address that cannot exist is looked up all the same: how long an answer takes must not tell who exists.
        bool possible = EmailAddress.TryNormalize(emailText, out string? email);
        byte[] emailHash = users.EmailHash(email ?? "");
        ThrottleDecision attempt = await throttle.TryBeginAsync(ThrottleKind.Password, emailHash, address);
        if (!attempt.Allowed)
        {
            Throttled(address);
            return new LoginResult(SignInOutcome.TooManyAttempts, RetryAfter: attempt.RetryAfter);
        }

        (Guid EnterpriseId, Guid UserId, string? Hash)? found = await FindAsync(emailHash, cancellationToken);
        PasswordCheck check = await passwords.VerifyAsync(found?.Hash, password, cancellationToken);
        if (!possible || check == PasswordCheck.Wrong || found is not { } user)
        {
            // Of nobody's account it is the platform's to know: an answer takes as long for those who do not exist.
            await FailedAsync(found?.EnterpriseId ?? Guid.Empty, found?.UserId, "wrong password", cancellationToken);
            return new LoginResult(SignInOutcome.InvalidCredentials);
        }

        EnterpriseInfo? enterprise = await enterprises.FindAsync(user.EnterpriseId, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(user.EnterpriseId, cancellationToken);
        ResolvedRoles roles = await RoleResolver.ResolveAsync(own, user.EnterpriseId, user.UserId, cancellationToken);

        // Before the throttle forgets: it must not tell that the password was right.
        if (enterprise is not null && !PasswordRule.Allows(enterprise, roles.Names))
        {
            await FailedAsync(user.EnterpriseId, user.UserId, "password sign-in is off", cancellationToken);
            return new LoginResult(SignInOutcome.InvalidCredentials);
        }

        await throttle.SucceededAsync(ThrottleKind.Password, emailHash, address);
        if (enterprise is null or { IsSuspended: true })
        {
            await FailedAsync(user.EnterpriseId, user.UserId, "suspended", cancellationToken);
            return new LoginResult(SignInOutcome.EnterpriseSuspended);
        }

        if (check == PasswordCheck.RightAndOutdated)
        {
            await RehashAsync(user.EnterpriseId, user.UserId, user.Hash!, password!, cancellationToken);
        }

        return new LoginResult(SignInOutcome.SignedIn, new Person(user.EnterpriseId, user.UserId, email!, roles.Names));
    }

    // Only over the hash that was checked: the password may have been changed meanwhile.
    private const string ReplaceHash = """
        UPDATE users SET password_hash = $4 WHERE enterprise_id = $1 AND user_id = $2 AND password_hash = $3
        """;

    private async Task RehashAsync(
        Guid enterpriseId,
        Guid userId,
        string outdated,
        string password,
        CancellationToken cancellationToken
    )
    {
        string hash = await passwords.OnACoreAsync(() => passwords.Hash(password), cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await own.ExecuteAsync(ReplaceHash, [enterpriseId, userId, outdated, hash], cancellationToken);
        own.Audit(new AuditEntry("password.rehashed", "user", userId.ToString()) { Actor = AuditActor.System });
        await own.CommitAsync(cancellationToken);
    }

    // The throttle has let the attempt through: nobody fills the log by guessing.
    private Task FailedAsync(Guid enterpriseId, Guid? userId, string because, CancellationToken cancellationToken) =>
        audit.RecordAsync(
            enterpriseId,
            new AuditEntry("sign_in.failed", "user", userId?.ToString())
            {
                Actor = AuditActor.Anonymous,
                Outcome = AuditEntry.Failed,
                After = new { because },
            },
            cancellationToken
        );

    private async Task<(Guid, Guid, string?)?> FindAsync(byte[] emailHash, CancellationToken cancellationToken)
    {
        // Ends before the password is looked at: a sign-in that waits for a core must not hold a connection.
        await using ScopedTransaction lookup = await database.OpenLookupAsync(emailHash, cancellationToken);
        await using NpgsqlCommand command = lookup.Command(FindByEmail, emailHash);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? (reader.GetGuid(0), reader.GetGuid(1), reader.IsDBNull(2) ? null : reader.GetString(2))
            : null;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Too many failed sign-ins; the last came from {Address}.")]
    private partial void Throttled(IPAddress? address);
}
