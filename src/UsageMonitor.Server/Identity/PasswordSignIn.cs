using System.Net;
using Npgsql;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;

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
}

/// <summary>A person who has proven who they are.</summary>
internal sealed record Person(Guid EnterpriseId, Guid UserId, string Email, IReadOnlyList<string> Roles);

/// <summary>The end of a sign-in.</summary>
/// <param name="Outcome">What became of it.</param>
/// <param name="Person">Who signed in, or null.</param>
/// <param name="RetryAfter">With <see cref="SignInOutcome.TooManyAttempts"/>: how long to wait.</param>
internal sealed record LoginResult(SignInOutcome Outcome, Person? Person = null, TimeSpan RetryAfter = default);

/// <summary>Checks an e-mail address and a password.</summary>
internal sealed partial class PasswordSignIn(
    Database database,
    EnterpriseDirectory enterprises,
    Users users,
    Passwords passwords,
    SignInThrottle throttle,
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
        if (!throttle.TryBegin(emailHash, address, out TimeSpan retryAfter))
        {
            Throttled(address);
            return new LoginResult(SignInOutcome.TooManyAttempts, RetryAfter: retryAfter);
        }

        (Guid EnterpriseId, Guid UserId, string? Hash)? found = await FindAsync(emailHash, cancellationToken);
        string given = password is { Length: <= Passwords.CharactersMax } ? password : "";
        bool proven = await passwords.VerifyAsync(found?.Hash, given, cancellationToken);
        if (!possible || !proven || found is not { } user)
        {
            return new LoginResult(SignInOutcome.InvalidCredentials);
        }

        EnterpriseInfo? enterprise = await enterprises.FindAsync(user.EnterpriseId, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(user.EnterpriseId, cancellationToken);
        ResolvedRoles roles = await RoleResolver.ResolveAsync(own, user.EnterpriseId, user.UserId, cancellationToken);

        // Before the throttle forgets: it must not tell that the password was right.
        if (enterprise is not null && !PasswordRule.Allows(enterprise, roles.Names))
        {
            return new LoginResult(SignInOutcome.InvalidCredentials);
        }

        throttle.Succeeded(emailHash, address);
        if (enterprise is null or { IsSuspended: true })
        {
            return new LoginResult(SignInOutcome.EnterpriseSuspended);
        }

        return new LoginResult(SignInOutcome.SignedIn, new Person(user.EnterpriseId, user.UserId, email!, roles.Names));
    }

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
