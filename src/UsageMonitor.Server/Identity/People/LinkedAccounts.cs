using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Identity.People;

/// <summary>Whom a good link belongs to.</summary>
internal sealed record LinkOwner(EnterpriseInfo Enterprise, Guid UserId, string Email, string? DisplayName);

/// <summary>What people do with a link that was mailed to them: join with a first password, or choose a new one.</summary>
internal sealed class LinkedAccounts(
    Database database,
    EnterpriseDirectory enterprises,
    Users users,
    Passwords passwords,
    AccountLinks links,
    PasswordChange change,
    IdentityVersion version,
    TimeProvider time
)
{
    private const int TokenCharactersMax = 100;

    private static IResult InvalidLink =>
        Problems.Problem(
            400,
            "invalid_link",
            "This link is unknown, was used, has expired, or was replaced by a newer one. Ask for a new one."
        );

    private const string FindOwner = """
        SELECT email, display_name, email_hash IS NOT NULL FROM users
        WHERE enterprise_id = $1 AND user_id = $2 AND email IS NOT NULL AND deactivated_at IS NULL
          AND coalesce(origin, 'LOCAL') <> 'SSO'
        """;

    /// <summary>Who may use the link, without using it; or the problem to answer.</summary>
    public async Task<(LinkOwner? Owner, IResult? Problem)> FindAsync(
        string? token,
        LinkPurpose purpose,
        CancellationToken cancellationToken
    )
    {
        if (token is not { Length: > 0 and <= TokenCharactersMax })
        {
            return (null, InvalidLink);
        }

        byte[] hash = Sessions.HashOf(token);
        await using ScopedTransaction transaction = await database.OpenLookupAsync(hash, cancellationToken);
        if (
            await links.EnterAsync(transaction, hash, purpose, cancellationToken) is not { IsGood: true } link
            || await enterprises.FindAsync(link.EnterpriseId, cancellationToken) is not { } enterprise
        )
        {
            return (null, InvalidLink);
        }

        await using NpgsqlCommand command = transaction.Command(FindOwner, link.EnterpriseId, link.UserId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);

        // An invitation is for one who has not joined yet, a reset for one who has.
        if (!await reader.ReadAsync(cancellationToken) || reader.GetBoolean(2) == (purpose == LinkPurpose.Invitation))
        {
            return (null, InvalidLink);
        }

        return enterprise.IsSuspended
                ? (null, Problems.Problem(403, "enterprise_suspended", "Your enterprise is suspended."))
            : !enterprise.PasswordSignIn
                ? (
                    null,
                    Problems.Problem(403, "password_sign_in_off", "Your enterprise signs in by single sign-on only.")
                )
            : (
                new LinkOwner(
                    enterprise,
                    link.UserId,
                    Users.OpenEmail(enterprise.DataKey, link.EnterpriseId, reader.GetFieldValue<byte[]>(0)),
                    reader.IsDBNull(1)
                        ? null
                        : Users.OpenDisplayName(enterprise.DataKey, link.EnterpriseId, reader.GetFieldValue<byte[]>(1))
                ),
                null
            );
    }

    private const string Join = """
        UPDATE users SET email_hash = $3, password_hash = $4, display_name = coalesce($5::bytea, display_name),
                         password_changed_at = $6, updated_at = $6
        WHERE enterprise_id = $1 AND user_id = $2 AND email IS NOT NULL AND email_hash IS NULL AND deactivated_at IS NULL
        """;

    /// <summary>Joins with the first password.</summary>
    /// <returns>204, or the problem.</returns>
    public async Task<IResult> AcceptAsync(
        string? token,
        string? password,
        string? displayName,
        CancellationToken cancellationToken
    )
    {
        (LinkOwner? owner, IResult? problem) = await FindAsync(token, LinkPurpose.Invitation, cancellationToken);
        if (owner is null)
        {
            return problem!;
        }

        if (!PeopleRules.TryDisplayName(displayName, out string? name))
        {
            return Problems.Problem(400, "invalid_request", PeopleRules.DisplayNameWrong);
        }

        (string? passwordHash, problem) = await HashAsync(owner, name, password, cancellationToken);
        if (passwordHash is null)
        {
            return problem!;
        }

        Guid enterpriseId = owner.Enterprise.EnterpriseId;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        object?[] person =
        [
            enterpriseId,
            owner.UserId,
            users.EmailHash(owner.Email),
            passwordHash,
            name is null ? null : Users.SealDisplayName(owner.Enterprise.DataKey, enterpriseId, name),
            time.GetUtcNow(),
        ];
        try
        {
            if (
                !await links.TryUseAsync(own, enterpriseId, Sessions.HashOf(token!), cancellationToken)
                || await own.ExecuteAsync(Join, person, cancellationToken) == 0
            )
            {
                return InvalidLink;
            }
        }
        catch (PostgresException exception)
            when (exception is { SqlState: PostgresErrorCodes.UniqueViolation, ConstraintName: "users_email_hash_key" })
        {
            // Told to whoever reads the mail of that address, and to nobody else. The link is not used up.
            return Problems.Problem(
                409,
                "email_taken",
                "Your address signs in to another enterprise already. Ask to be invited with another one."
            );
        }

        own.Audit(
            new AuditEntry("invitation.accepted", "user", owner.UserId.ToString())
            {
                Actor = AuditActor.User(owner.UserId),
            }
        );
        await links.EndAsync(own, enterpriseId, owner.UserId, purpose: null, cancellationToken);
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    /// <summary>Sets the new password and ends all of the person's sessions.</summary>
    /// <returns>204, or the problem.</returns>
    public async Task<IResult> CompleteResetAsync(string? token, string? password, CancellationToken cancellationToken)
    {
        (LinkOwner? owner, IResult? problem) = await FindAsync(token, LinkPurpose.PasswordReset, cancellationToken);
        if (owner is null)
        {
            return problem!;
        }

        (string? passwordHash, problem) = await HashAsync(owner, null, password, cancellationToken);
        if (passwordHash is null)
        {
            return problem!;
        }

        Guid enterpriseId = owner.Enterprise.EnterpriseId;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        if (
            !await links.TryUseAsync(own, enterpriseId, Sessions.HashOf(token!), cancellationToken)
            || !await change.ApplyAsync(
                own,
                owner.Enterprise,
                owner.UserId,
                owner.Email,
                passwordHash,
                keptSessionId: null,
                cancellationToken
            )
        )
        {
            return InvalidLink;
        }

        own.Audit(
            new AuditEntry("password.reset", "user", owner.UserId.ToString()) { Actor = AuditActor.User(owner.UserId) }
        );
        await version.CommitAsync(own, cancellationToken);
        return Results.NoContent();
    }

    // Between the two transactions: slow work must not hold a connection.
    private async Task<(string? Hash, IResult? Problem)> HashAsync(
        LinkOwner owner,
        string? displayName,
        string? password,
        CancellationToken cancellationToken
    )
    {
        var context = new PasswordContext(owner.Email, displayName ?? owner.DisplayName, owner.Enterprise.Name);
        return await passwords.OnACoreAsync<(string?, IResult?)>(
            () =>
                PasswordRules.WhatIsWrong(password, context) is { } wrong
                    ? (null, Problems.Problem(400, "invalid_password", "The password " + wrong))
                    : (passwords.Hash(password!), null),
            cancellationToken
        );
    }
}
