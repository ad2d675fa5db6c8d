using System.Security.Cryptography;
using System.Text;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>A person who shall sign in.</summary>
/// <param name="Email">Normalized.</param>
/// <param name="DisplayName">What people call them, or null.</param>
/// <param name="PasswordHash">By <see cref="Passwords.Hash"/>; null for one who is invited or signs in elsewhere.</param>
/// <param name="Roles">Names of roles.</param>
/// <param name="Origin"><see cref="Local"/>, <see cref="SingleSignOn"/> or <see cref="Provisioned"/>.</param>
internal sealed record NewPerson(
    string Email,
    string? DisplayName,
    string? PasswordHash,
    IReadOnlyList<string> Roles,
    string Origin = NewPerson.Local
)
{
    /// <summary>
    /// False for one who is invited: the address is theirs only once they have answered from it. Until then it keeps nobody
    /// else, here or in another enterprise, from signing in with it, and whoever invites does not learn whether it does.
    /// </summary>
    public bool ClaimsEmail { get; init; } = true;

    public const string Local = "LOCAL";
    public const string SingleSignOn = "SSO";
    public const string Provisioned = "SCIM";
}

/// <summary>People who sign in: how their addresses are sealed and found, and how they are added.</summary>
internal sealed class Users(MasterKey masterKey, TimeProvider time)
{
    private readonly byte[] _emailIndexKey = masterKey.Derive("email-index");

    /// <summary>Finds an address without anybody being able to read it out of the table.</summary>
    public byte[] EmailHash(string email) => HMACSHA256.HashData(_emailIndexKey, Encoding.UTF8.GetBytes(email));

    public static byte[] SealEmail(byte[] dataKey, Guid enterpriseId, string email) =>
        Sealing.Seal(dataKey, Encoding.UTF8.GetBytes(email), EmailContext(enterpriseId));

    public static string OpenEmail(byte[] dataKey, Guid enterpriseId, byte[] sealedEmail) =>
        Encoding.UTF8.GetString(Sealing.Open(dataKey, sealedEmail, EmailContext(enterpriseId)));

    private const string EnsureOrdinals =
        "INSERT INTO user_ordinals (enterprise_id) VALUES ($1) ON CONFLICT DO NOTHING";

    private const string LockOrdinals = "SELECT 1 FROM user_ordinals WHERE enterprise_id = $1 FOR UPDATE";

    private const string FindUser = "SELECT email_hash FROM users WHERE enterprise_id = $1 AND user_id = $2";

    private const string TakeOrdinal = """
        UPDATE user_ordinals SET next_ordinal = next_ordinal + 1 WHERE enterprise_id = $1 RETURNING next_ordinal - 1
        """;

    private const string InsertUser = """
        INSERT INTO users
            (enterprise_id, user_id, email, email_hash, password_hash, display_name, origin, password_changed_at, created_at, ordinal)
        VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $5::text IS NOT NULL THEN $8 END, $8, $9)
        """;

    private const string LetUserSignIn = """
        UPDATE users SET email = $3, email_hash = $4, password_hash = $5, display_name = coalesce($6, display_name), origin = $7,
                         password_changed_at = CASE WHEN $5::text IS NOT NULL THEN $8 END, updated_at = $8, deactivated_at = NULL
        WHERE enterprise_id = $1 AND user_id = $2
          AND (email IS NULL OR (email_hash IS NULL AND deactivated_at IS NULL AND $4::bytea IS NOT NULL))
        """;

    private const string GiveRole = """
        INSERT INTO user_roles (enterprise_id, user_id, role_name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
        """;

    /// <summary>Adds a person who signs in, or lets one sign in who was so far invited or known only from usage.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="dataKey">The enterprise's, unwrapped.</param>
    /// <param name="person">The person.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <exception cref="EmailTakenException">The address signs in already, here or in another enterprise.</exception>
    public async Task<Guid> AddAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        byte[] dataKey,
        NewPerson person,
        CancellationToken cancellationToken
    )
    {
        Guid userId = UserIds.FromExternal(enterpriseId, Encoding.UTF8.GetBytes(person.Email));
        object?[] row =
        [
            enterpriseId,
            userId,
            SealEmail(dataKey, enterpriseId, person.Email),
            person.ClaimsEmail ? EmailHash(person.Email) : null,
            person.PasswordHash,
            person.DisplayName is { } name ? SealDisplayName(dataKey, enterpriseId, name) : null,
            person.Origin,
            time.GetUtcNow(),
        ];
        try
        {
            // The ordinals' lock comes before the look at the users: processing adds users under the same lock.
            await transaction.ExecuteAsync(EnsureOrdinals, [enterpriseId], cancellationToken);
            await transaction.ExecuteAsync(LockOrdinals, [enterpriseId], cancellationToken);
            await using NpgsqlCommand find = transaction.Command(FindUser, enterpriseId, userId);
            object? known = await find.ExecuteScalarAsync(cancellationToken);
            if (known is byte[] other && !other.AsSpan().SequenceEqual(EmailHash(person.Email)))
            {
                // Somebody had this address before, keeps the id that came of it, and signs in with another one now.
                known = null;
                row[1] = userId = Guid.NewGuid();
            }

            if (known is null)
            {
                await using NpgsqlCommand take = transaction.Command(TakeOrdinal, enterpriseId);
                object ordinal = (await take.ExecuteScalarAsync(cancellationToken))!;
                await transaction.ExecuteAsync(InsertUser, [.. row, ordinal], cancellationToken);
            }
            else if (await transaction.ExecuteAsync(LetUserSignIn, row, cancellationToken) == 0)
            {
                throw new EmailTakenException();
            }

            foreach (string role in person.Roles)
            {
                await transaction.ExecuteAsync(GiveRole, [enterpriseId, userId, role], cancellationToken);
            }

            return userId;
        }
        catch (PostgresException exception)
            when (exception is { SqlState: PostgresErrorCodes.UniqueViolation, ConstraintName: "users_email_hash_key" })
        {
            throw new EmailTakenException(exception);
        }
    }

    public static byte[] SealDisplayName(byte[] dataKey, Guid enterpriseId, string name) =>
        Sealing.Seal(dataKey, Encoding.UTF8.GetBytes(name), DisplayNameContext(enterpriseId));

    public static string OpenDisplayName(byte[] dataKey, Guid enterpriseId, byte[] sealedName) =>
        Encoding.UTF8.GetString(Sealing.Open(dataKey, sealedName, DisplayNameContext(enterpriseId)));

    private static byte[] DisplayNameContext(Guid enterpriseId) => [.. enterpriseId.ToByteArray(), .. "display-name"u8];

    private static byte[] EmailContext(Guid enterpriseId) => [.. enterpriseId.ToByteArray(), .. "email"u8];
}

/// <summary>The address signs in already.</summary>
internal sealed class EmailTakenException(Exception? inner = null) : Exception("The e-mail address is taken.", inner);
