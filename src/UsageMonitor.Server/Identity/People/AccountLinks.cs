using System.Buffers.Text;
using System.Security.Cryptography;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>What a one-time link is for.</summary>
internal enum LinkPurpose
{
    Invitation,
    PasswordReset,
}

/// <summary>A link as it was found.</summary>
/// <param name="EnterpriseId">Whose.</param>
/// <param name="UserId">Who may use it.</param>
/// <param name="IsGood">Neither used nor expired nor replaced by a newer one.</param>
internal sealed record AccountLink(Guid EnterpriseId, Guid UserId, bool IsGood);

/// <summary>A new link's token, and until when it is good.</summary>
internal sealed record MadeLink(string Token, DateTimeOffset ExpiresAt);

/// <summary>
/// One-time links: 32 random bytes, kept as a hash. A link is good once, and only until a newer one of its purpose is made.
/// </summary>
internal sealed class AccountLinks(TimeProvider time)
{
    public static readonly TimeSpan InvitationLifetime = TimeSpan.FromDays(7);
    public static readonly TimeSpan ResetLifetime = TimeSpan.FromMinutes(30);

    /// <summary>Of one person and purpose; more would only fill a mailbox.</summary>
    public const int LinksPerHourMax = 5;
    private const int TokenBytes = 32;

    // Two at once take turns, so that the later ends the earlier one's link.
    private const string LockUser = "SELECT 1 FROM users WHERE enterprise_id = $1 AND user_id = $2 FOR NO KEY UPDATE";

    private const string CountLinks = """
        SELECT count(*) FROM account_links
        WHERE enterprise_id = $1 AND user_id = $2 AND purpose = $3 AND created_at > $4
        """;

    private const string InsertLink = """
        INSERT INTO account_links (enterprise_id, token_hash, user_id, purpose, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        """;

    /// <summary>Makes a link; null when the person was sent so many within the hour that there shall be no more.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="userId">Who may use it.</param>
    /// <param name="purpose">For what.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<MadeLink?> TryMakeAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        LinkPurpose purpose,
        CancellationToken cancellationToken
    )
    {
        DateTimeOffset now = time.GetUtcNow();
        await transaction.ExecuteAsync(LockUser, [enterpriseId, userId], cancellationToken);
        await using (
            NpgsqlCommand count = transaction.Command(
                CountLinks,
                enterpriseId,
                userId,
                Name(purpose),
                now - TimeSpan.FromHours(1)
            )
        )
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= LinksPerHourMax)
            {
                return null;
            }
        }

        await EndAsync(transaction, enterpriseId, userId, purpose, cancellationToken);
        string token = Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(TokenBytes));
        DateTimeOffset expiresAt = now + (purpose == LinkPurpose.Invitation ? InvitationLifetime : ResetLifetime);
        await transaction.ExecuteAsync(
            InsertLink,
            [enterpriseId, Sessions.HashOf(token), userId, Name(purpose), now, expiresAt],
            cancellationToken
        );
        return new MadeLink(token, expiresAt);
    }

    private const string EndLinks = """
        UPDATE account_links SET expires_at = $3
        WHERE enterprise_id = $1 AND user_id = $2 AND used_at IS NULL AND expires_at > $3
          AND ($4::text IS NULL OR purpose = $4)
        """;

    /// <summary>Ends the person's links, all or those of a purpose.</summary>
    public Task EndAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        LinkPurpose? purpose,
        CancellationToken cancellationToken
    ) =>
        transaction.ExecuteAsync(
            EndLinks,
            [enterpriseId, userId, time.GetUtcNow(), purpose is { } one ? Name(one) : null],
            cancellationToken
        );

    private const string FindLink = """
        SELECT enterprise_id, user_id, used_at IS NULL AND expires_at > $3 FROM account_links
        WHERE token_hash = $1 AND purpose = $2
        """;

    /// <summary>Looks a link up and moves the transaction into the scope of its enterprise; null when there is none.</summary>
    /// <param name="transaction">Of <see cref="Database.OpenLookupAsync"/> with the token's hash.</param>
    /// <param name="hash">The token's.</param>
    /// <param name="purpose">One for another purpose is none.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<AccountLink?> EnterAsync(
        ScopedTransaction transaction,
        byte[] hash,
        LinkPurpose purpose,
        CancellationToken cancellationToken
    )
    {
        AccountLink link;
        await using (NpgsqlCommand command = transaction.Command(FindLink, hash, Name(purpose), time.GetUtcNow()))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return null;
            }

            link = new AccountLink(reader.GetGuid(0), reader.GetGuid(1), reader.GetBoolean(2));
        }

        await transaction.SetAsync("app.enterprise_id", link.EnterpriseId.ToString(), cancellationToken);
        return link;
    }

    private const string UseLink = """
        UPDATE account_links SET used_at = $3
        WHERE enterprise_id = $1 AND token_hash = $2 AND used_at IS NULL AND expires_at > $3
        """;

    /// <summary>Uses a link up, in the transaction of what it allows. False: somebody was faster.</summary>
    public async Task<bool> TryUseAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        byte[] hash,
        CancellationToken cancellationToken
    ) => await transaction.ExecuteAsync(UseLink, [enterpriseId, hash, time.GetUtcNow()], cancellationToken) == 1;

    private static string Name(LinkPurpose purpose) =>
        purpose == LinkPurpose.Invitation ? "INVITATION" : "PASSWORD_RESET";
}
