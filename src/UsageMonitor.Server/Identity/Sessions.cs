using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Identity;

/// <summary>How a person has proven who they are.</summary>
/// <param name="Method"><see cref="Password"/>, <see cref="SingleSignOn"/> or <see cref="Passkey"/>.</param>
/// <param name="SecondFactor"><c>totp</c>, <c>passkey</c>, <c>recovery</c>, or null: none of ours.</param>
internal sealed record SignInProof(string Method, string? SecondFactor)
{
    public const string Password = "password";
    public const string SingleSignOn = "sso";

    /// <summary>A passkey that has verified its owner: two factors in one.</summary>
    public const string Passkey = "passkey";
}

/// <summary>From where a session was begun, so that people know their own again in a list. Kept sealed.</summary>
internal sealed record SessionClient(string? Address, string? UserAgent)
{
    private const int UserAgentCharactersMax = 300;

    public static SessionClient Of(HttpContext context)
    {
        string agent = context.Request.Headers.UserAgent.ToString();
        return new SessionClient(
            context.Connection.RemoteIpAddress?.ToString(),
            agent.Length == 0 ? null : agent[..Math.Min(agent.Length, UserAgentCharactersMax)]
        );
    }

    public byte[] Seal(byte[] dataKey, Guid enterpriseId) =>
        Sealing.Seal(dataKey, JsonSerializer.SerializeToUtf8Bytes(this), Context(enterpriseId));

    public static SessionClient? Open(byte[] dataKey, Guid enterpriseId, byte[] sealedClient) =>
        JsonSerializer.Deserialize<SessionClient>(Sealing.Open(dataKey, sealedClient, Context(enterpriseId)));

    private static byte[] Context(Guid enterpriseId) => [.. enterpriseId.ToByteArray(), .. "session-client"u8];
}

/// <summary>What a client gets for a sign-in or a refresh.</summary>
internal sealed record IssuedTokens(string AccessToken, string RefreshToken, Person Person);

/// <summary>
/// Sign-ins and what keeps them going. A refresh token is good once: when it comes a second time, somebody has copied it,
/// and nobody can tell who of the two is the thief, so the session ends for both (RFC 9700, 4.14.2).
/// </summary>
internal sealed partial class Sessions(
    Database database,
    EnterpriseDirectory enterprises,
    AccessTokens accessTokens,
    IdentityVersion version,
    TimeProvider time,
    ILogger<Sessions> logger
)
{
    public static readonly TimeSpan RefreshTokenLifetime = TimeSpan.FromDays(30);
    public static readonly TimeSpan BrowserLifetime = TimeSpan.FromHours(12);
    private const int TokenBytes = 32;

    private const string InsertSession = """
        INSERT INTO sessions (enterprise_id, session_id, user_id, cookie_hash, created_at, expires_at, method, second_factor, client, proven_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $5)
        """;

    private const string InsertRefreshToken = """
        INSERT INTO refresh_tokens (enterprise_id, token_hash, session_id, issued_at, expires_at) VALUES ($1, $2, $3, $4, $5)
        """;

    /// <summary>Begins a session over the API.</summary>
    public async Task<IssuedTokens> BeginAsync(
        Person person,
        SignInProof proof,
        SessionClient client,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            person.EnterpriseId,
            cancellationToken
        );
        IssuedTokens tokens = await BeginAsync(transaction, person, proof, client, cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        return tokens;
    }

    /// <summary>Begins a session over the API in the transaction of what the person has proven; it stands if that commits.</summary>
    public async Task<IssuedTokens> BeginAsync(
        ScopedTransaction transaction,
        Person person,
        SignInProof proof,
        SessionClient client,
        CancellationToken cancellationToken
    )
    {
        (string token, byte[] hash) = NewToken();
        Guid sessionId = Guid.NewGuid();
        DateTimeOffset now = time.GetUtcNow();
        string accessToken = await accessTokens.IssueAsync(person, sessionId, cancellationToken);
        DateTimeOffset expiresAt = now + RefreshTokenLifetime;
        await InsertAsync(transaction, person, sessionId, null, now, expiresAt, proof, client, cancellationToken);
        await transaction.ExecuteAsync(
            InsertRefreshToken,
            [person.EnterpriseId, hash, sessionId, now, expiresAt],
            cancellationToken
        );
        return new IssuedTokens(accessToken, token, person);
    }

    /// <summary>Begins a session in a browser; the answer is its cookie's value.</summary>
    public async Task<string> BeginInBrowserAsync(
        Person person,
        SignInProof proof,
        SessionClient client,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            person.EnterpriseId,
            cancellationToken
        );
        string token = await BeginInBrowserAsync(transaction, person, proof, client, cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        return token;
    }

    /// <summary>Begins a session in a browser in the transaction of what the person has proven; it stands if that commits.</summary>
    public async Task<string> BeginInBrowserAsync(
        ScopedTransaction transaction,
        Person person,
        SignInProof proof,
        SessionClient client,
        CancellationToken cancellationToken
    )
    {
        (string token, byte[] hash) = NewToken();
        DateTimeOffset now = time.GetUtcNow();
        var sessionId = Guid.NewGuid();
        DateTimeOffset expiresAt = now + BrowserLifetime;
        await InsertAsync(transaction, person, sessionId, hash, now, expiresAt, proof, client, cancellationToken);
        return token;
    }

    private async Task InsertAsync(
        ScopedTransaction transaction,
        Person person,
        Guid sessionId,
        byte[]? cookieHash,
        DateTimeOffset now,
        DateTimeOffset expiresAt,
        SignInProof proof,
        SessionClient client,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = person.EnterpriseId;
        EnterpriseInfo enterprise =
            await enterprises.FindAsync(enterpriseId, cancellationToken)
            ?? throw new InvalidOperationException("The person's enterprise does not exist.");
        await transaction.ExecuteAsync(
            InsertSession,
            [
                enterpriseId,
                sessionId,
                person.UserId,
                cookieHash,
                now,
                expiresAt,
                proof.Method,
                proof.SecondFactor,
                client.Seal(enterprise.DataKey, enterpriseId),
            ],
            cancellationToken
        );
        transaction.Audit(
            new AuditEntry("session.began", "session", sessionId.ToString())
            {
                Actor = AuditActor.User(person.UserId),
                After = new
                {
                    proof.Method,
                    proof.SecondFactor,
                    inBrowser = cookieHash is not null,
                },
            }
        );
    }

    private const string FindRefreshToken =
        "SELECT enterprise_id, session_id FROM refresh_tokens WHERE token_hash = $1";

    private const string UseRefreshToken = """
        UPDATE refresh_tokens SET used_at = $3
        WHERE enterprise_id = $1 AND token_hash = $2 AND used_at IS NULL
        """;

    private const string ProlongSession = """
        UPDATE sessions s SET expires_at = $4
        FROM users u
        WHERE s.enterprise_id = $1 AND s.session_id = $2 AND s.revoked_at IS NULL AND s.expires_at > $3
          AND u.enterprise_id = s.enterprise_id AND u.user_id = s.user_id AND u.email IS NOT NULL AND u.deactivated_at IS NULL
        RETURNING u.user_id, u.email
        """;

    /// <summary>Exchanges a refresh token for the next; null when it is unknown, used, expired, or its session has ended.</summary>
    public async Task<IssuedTokens?> RefreshAsync(string refreshToken, CancellationToken cancellationToken)
    {
        byte[] hash = HashOf(refreshToken);
        DateTimeOffset now = time.GetUtcNow();
        await using ScopedTransaction transaction = await database.OpenLookupAsync(hash, cancellationToken);
        if (await EnterSessionAsync(transaction, hash, cancellationToken) is not { } session)
        {
            return null;
        }

        (Guid enterpriseId, Guid sessionId) = session;
        if (await transaction.ExecuteAsync(UseRefreshToken, [enterpriseId, hash, now], cancellationToken) == 0)
        {
            RefreshTokenReused(sessionId, enterpriseId);
            await RevokeAsync(transaction, enterpriseId, sessionId, cancellationToken);
            return null;
        }

        EnterpriseInfo? enterprise = await enterprises.FindAsync(enterpriseId, cancellationToken);
        DateTimeOffset expiresAt = now + RefreshTokenLifetime;
        if (
            enterprise is null or { IsSuspended: true }
            || await ProlongAsync(transaction, enterprise, sessionId, now, expiresAt, cancellationToken)
                is not { } person
        )
        {
            return null;
        }

        (string next, byte[] nextHash) = NewToken();
        await transaction.ExecuteAsync(
            InsertRefreshToken,
            [enterpriseId, nextHash, sessionId, now, expiresAt],
            cancellationToken
        );
        string accessToken = await accessTokens.IssueAsync(person, sessionId, cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        return new IssuedTokens(accessToken, next, person);
    }

    /// <summary>Ends the session of a refresh token; an unknown one is none's.</summary>
    public async Task EndAsync(string refreshToken, CancellationToken cancellationToken)
    {
        byte[] hash = HashOf(refreshToken);
        await using ScopedTransaction transaction = await database.OpenLookupAsync(hash, cancellationToken);
        if (await EnterSessionAsync(transaction, hash, cancellationToken) is { } session)
        {
            await RevokeAsync(transaction, session.EnterpriseId, session.SessionId, cancellationToken);
        }
    }

    public async Task EndAsync(Guid enterpriseId, Guid sessionId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await RevokeAsync(transaction, enterpriseId, sessionId, cancellationToken);
    }

    /// <summary>SHA-256 of a credential's text: what the database knows it by.</summary>
    public static byte[] HashOf(string credential) => SHA256.HashData(Encoding.UTF8.GetBytes(credential));

    private static async Task<(Guid EnterpriseId, Guid SessionId)?> EnterSessionAsync(
        ScopedTransaction transaction,
        byte[] hash,
        CancellationToken cancellationToken
    )
    {
        (Guid, Guid) found;
        await using (NpgsqlCommand command = transaction.Command(FindRefreshToken, hash))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return null;
            }

            found = (reader.GetGuid(0), reader.GetGuid(1));
        }

        await transaction.SetAsync("app.enterprise_id", found.Item1.ToString(), cancellationToken);
        return found;
    }

    private static async Task<Person?> ProlongAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid sessionId,
        DateTimeOffset now,
        DateTimeOffset expiresAt,
        CancellationToken cancellationToken
    )
    {
        Guid userId;
        string email;
        await using (
            NpgsqlCommand command = transaction.Command(
                ProlongSession,
                enterprise.EnterpriseId,
                sessionId,
                now,
                expiresAt
            )
        )
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return null;
            }

            userId = reader.GetGuid(0);
            email = Users.OpenEmail(enterprise.DataKey, enterprise.EnterpriseId, reader.GetFieldValue<byte[]>(1));
        }

        Guid enterpriseId = enterprise.EnterpriseId;
        ResolvedRoles roles = await RoleResolver.ResolveAsync(transaction, enterpriseId, userId, cancellationToken);
        return new Person(enterpriseId, userId, email, roles.Names);
    }

    private const string RevokeSession = """
        UPDATE sessions SET revoked_at = $3 WHERE enterprise_id = $1 AND session_id = $2 AND revoked_at IS NULL
        """;

    private async Task RevokeAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid sessionId,
        CancellationToken cancellationToken
    )
    {
        object?[] parameters = [enterpriseId, sessionId, time.GetUtcNow()];
        if (await transaction.ExecuteAsync(RevokeSession, parameters, cancellationToken) > 0)
        {
            transaction.Audit("session.ended", "session", sessionId);
            await version.CommitAsync(transaction, cancellationToken);
        }
    }

    private static (string Token, byte[] Hash) NewToken()
    {
        string token = Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(TokenBytes));
        return (token, HashOf(token));
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "A used refresh token came again; session {SessionId} of enterprise {EnterpriseId} is ended."
    )]
    private partial void RefreshTokenReused(Guid sessionId, Guid enterpriseId);
}
