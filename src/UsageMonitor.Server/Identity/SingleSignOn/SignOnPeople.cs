using System.Security.Cryptography;
using System.Text;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Finds, links or makes the person whom a provider vouches for, and gives them the roles that it says.</summary>
internal sealed class SignOnPeople(
    Database database,
    EnterpriseDirectory enterprises,
    Users users,
    MasterKey masterKey,
    IdentityVersion version,
    TimeProvider time
)
{
    private const int DisplayNameCharactersMax = 200;
    private readonly byte[] _subjectKey = masterKey.Derive("sign-on-subject");

    /// <param name="begun">The sign-in; it says whose provider this is.</param>
    /// <param name="state">Completes once.</param>
    /// <param name="vouched">Whom the provider vouches for.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<SignOnResult> CompleteAsync(
        SignOnState begun,
        string state,
        VouchedPerson vouched,
        CancellationToken cancellationToken
    )
    {
        SignOnResult first = await TryOnceAsync(begun, state, vouched, cancellationToken);
        return first.Failure is SignOnFailure.AddressNotUsable or SignOnFailure.LinkedToAnother
            // By the same person in another tab, perhaps, and then they are found the second time.
            ? await TryOnceAsync(begun, state, vouched, cancellationToken)
            : first;
    }

    private async Task<SignOnResult> TryOnceAsync(
        SignOnState begun,
        string state,
        VouchedPerson vouched,
        CancellationToken cancellationToken
    )
    {
        try
        {
            return await TryAsync(begun, state, vouched, cancellationToken);
        }
        catch (EmailTakenException)
        {
            return new SignOnResult(SignOnFailure.AddressNotUsable);
        }
    }

    private const string ForgetCompleted =
        "DELETE FROM completed_sign_ons WHERE enterprise_id = $1 AND expires_at < $2";

    private const string Complete = """
        INSERT INTO completed_sign_ons (enterprise_id, state_hash, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
        """;

    private async Task<SignOnResult> TryAsync(
        SignOnState begun,
        string state,
        VouchedPerson vouched,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = begun.EnterpriseId;
        EnterpriseInfo? enterprise = await enterprises.FindAsync(enterpriseId, cancellationToken);
        if (enterprise is null or { IsSuspended: true })
        {
            return new SignOnResult(SignOnFailure.EnterpriseSuspended);
        }

        DateTimeOffset now = time.GetUtcNow();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await transaction.ExecuteAsync(ForgetCompleted, [enterpriseId, now], cancellationToken);
        object?[] completed = [enterpriseId, SignOnStates.HashOf(state), begun.BegunAt + SignOnStates.Lifetime];
        if (await transaction.ExecuteAsync(Complete, completed, cancellationToken) == 0)
        {
            return new SignOnResult(SignOnFailure.NotBegunHere);
        }

        // As it is now, not as it was when the browser left: what an admin has taken away since is gone.
        IdentityProvider? provider = await IdentityProviderStore.FindAsync(
            transaction,
            enterpriseId,
            begun.ProviderId,
            hold: true,
            cancellationToken
        );
        if (
            provider is not { IsActive: true }
            || provider.Issuer != begun.Issuer
            || provider.ClientId != begun.ClientId
        )
        {
            return new SignOnResult(SignOnFailure.UnknownProvider);
        }

        if (CheckEmail(provider, vouched, out string email) is { } unusable)
        {
            return new SignOnResult(unusable);
        }

        (Found? found, SignOnFailure? failure) = await FindAsync(
            transaction,
            enterprise,
            provider,
            vouched,
            email,
            cancellationToken
        );
        if (found is null)
        {
            return new SignOnResult(failure!.Value);
        }

        bool changed = await SetRolesAsync(transaction, provider, found.UserId, vouched, cancellationToken);
        ResolvedRoles roles = await RoleResolver.ResolveAsync(
            transaction,
            enterpriseId,
            found.UserId,
            cancellationToken
        );
        if (changed || found.IsNew)
        {
            transaction.Audit(
                new AuditEntry(
                    found.IsNew ? "person.signed_on_first" : "person.roles_by_provider",
                    "user",
                    found.UserId.ToString()
                )
                {
                    Actor = AuditActor.User(found.UserId),
                    After = new { roles.Names },
                }
            );
        }

        if (changed || found.IsNew)
        {
            await version.CommitAsync(transaction, cancellationToken);
        }
        else
        {
            await transaction.CommitAsync(cancellationToken);
        }

        return new SignOnResult(new Person(enterpriseId, found.UserId, found.Email, roles.Names));
    }

    private static SignOnFailure? CheckEmail(IdentityProvider provider, VouchedPerson vouched, out string email)
    {
        email = "";
        if (!EmailAddress.TryNormalize(vouched.Email, out string? normalized))
        {
            return SignOnFailure.EmailMissing;
        }

        // email_verified speaks of the claim email and of no other (OpenID Connect Core, 5.1).
        bool saidToBeVerified =
            vouched.EmailVerified == true && provider.EmailClaim == IdentityProvider.StandardEmailClaim;
        if (!saidToBeVerified && (!provider.TrustEmail || vouched.EmailVerified == false))
        {
            return SignOnFailure.EmailNotVerified;
        }

        email = normalized;
        return EmailDomain.Of(normalized) is { } domain && provider.Domains.Contains(domain, StringComparer.Ordinal)
            ? null
            : SignOnFailure.AddressNotUsable;
    }

    private const string FindLinked = """
        SELECT u.user_id, u.email, u.deactivated_at IS NOT NULL
        FROM external_identities i JOIN users u USING (enterprise_id, user_id)
        WHERE i.enterprise_id = $1 AND i.provider_id = $2 AND i.subject_hash = $3
        """;

    // Also one who was taken off the list and is known by usage alone: their id is the same.
    private const string FindByEmail = """
        SELECT user_id, email, deactivated_at IS NOT NULL
        FROM users WHERE enterprise_id = $1 AND (email_hash = $2 OR user_id = $3)
        ORDER BY email_hash = $2 DESC NULLS LAST LIMIT 1
        """;

    private const string Link = """
        INSERT INTO external_identities (enterprise_id, provider_id, subject_hash, user_id, linked_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
        """;

    private async Task<(Found?, SignOnFailure?)> FindAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        IdentityProvider provider,
        VouchedPerson vouched,
        string email,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        byte[] subjectHash = SubjectHash(provider.Issuer, vouched.Subject);
        object?[] linkedBy = [enterpriseId, provider.ProviderId, subjectHash];
        Row? linked = await ReadAsync(transaction, enterprise, FindLinked, linkedBy, cancellationToken);
        if (linked is not null)
        {
            return linked is { IsDeactivated: false, Email: { } known }
                ? (new Found(linked.UserId, known, IsNew: false), null)
                : (null, SignOnFailure.Deactivated);
        }

        Guid idByEmail = UserIds.FromExternal(enterpriseId, Encoding.UTF8.GetBytes(email));
        object?[] knownBy = [enterpriseId, users.EmailHash(email), idByEmail];
        Row? row = await ReadAsync(transaction, enterprise, FindByEmail, knownBy, cancellationToken);
        if (row is { IsDeactivated: true })
        {
            return (null, SignOnFailure.Deactivated);
        }

        Guid userId;
        if (row is { Email: not null })
        {
            if (row.Email != email)
            {
                // Their id is this address's, but they have another by now.
                return (null, SignOnFailure.AddressNotUsable);
            }

            userId = row.UserId;
        }
        else if (provider.JustInTime)
        {
            var person = new NewPerson(email, DisplayNameOf(vouched), null, [], NewPerson.SingleSignOn);
            userId = await users.AddAsync(transaction, enterpriseId, enterprise.DataKey, person, cancellationToken);
        }
        else
        {
            return (null, SignOnFailure.NotInvited);
        }

        // Who has the address now may not be who had it: a person whom the provider knows as somebody else stays theirs.
        object?[] link = [enterpriseId, provider.ProviderId, subjectHash, userId, time.GetUtcNow()];
        return await transaction.ExecuteAsync(Link, link, cancellationToken) == 1
            ? (new Found(userId, email, IsNew: true), null)
            : (null, SignOnFailure.LinkedToAnother);
    }

    private const string KnownRoles = "SELECT role_name FROM roles WHERE enterprise_id = $1 AND role_name = ANY($2)";

    private const string TakeRoles = """
        DELETE FROM user_roles WHERE enterprise_id = $1 AND user_id = $2 AND origin = 'SSO' AND role_name <> ALL($3)
        """;

    private const string GiveRoles = """
        INSERT INTO user_roles (enterprise_id, user_id, role_name, origin)
        SELECT $1, $2, role_name, 'SSO' FROM unnest($3) AS role_name
        ON CONFLICT DO NOTHING
        """;

    private static async Task<bool> SetRolesAsync(
        ScopedTransaction transaction,
        IdentityProvider provider,
        Guid userId,
        VouchedPerson vouched,
        CancellationToken cancellationToken
    )
    {
        IReadOnlyList<string> mapped = provider.RolesFor(vouched.Roles);
        var roles = mapped.Where(RolePermissions.BuiltIn.ContainsKey).ToList();
        string[] own = [.. mapped.Except(roles)];
        await using (NpgsqlCommand command = transaction.Command(KnownRoles, provider.EnterpriseId, own))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                roles.Add(reader.GetString(0));
            }
        }

        object?[] wanted = [provider.EnterpriseId, userId, roles.ToArray()];
        int taken = await transaction.ExecuteAsync(TakeRoles, wanted, cancellationToken);
        int given = await transaction.ExecuteAsync(GiveRoles, wanted, cancellationToken);
        return taken + given > 0;
    }

    private const string HoldProvider = """
        SELECT 1 FROM identity_providers WHERE enterprise_id = $1 AND provider_id = $2 AND status = 'ACTIVE' FOR SHARE
        """;

    private const string EndSessions = """
        UPDATE sessions SET revoked_at = $3
        WHERE enterprise_id = $1 AND user_id = $2 AND method = 'sso' AND revoked_at IS NULL
        """;

    /// <summary>
    /// After the session has begun: ends it if the provider was taken out of use in between. Who takes it out waits for this
    /// lock or is waited for, so one of the two sees the session.
    /// </summary>
    /// <returns>False: the session is ended.</returns>
    public async Task<bool> ConfirmAsync(SignOnState begun, Guid userId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            begun.EnterpriseId,
            cancellationToken
        );
        await using (NpgsqlCommand command = transaction.Command(HoldProvider, begun.EnterpriseId, begun.ProviderId))
        {
            if (await command.ExecuteScalarAsync(cancellationToken) is not null)
            {
                return true;
            }
        }

        object?[] parameters = [begun.EnterpriseId, userId, time.GetUtcNow()];
        await transaction.ExecuteAsync(EndSessions, parameters, cancellationToken);
        transaction.Audit(
            "session.ended",
            "user",
            userId,
            after: new { because = "the provider was taken out of use" }
        );
        await version.CommitAsync(transaction, cancellationToken);
        return false;
    }

    private byte[] SubjectHash(string issuer, string subject) =>
        HMACSHA256.HashData(_subjectKey, Encoding.UTF8.GetBytes(issuer + '\n' + subject));

    private static string? DisplayNameOf(VouchedPerson vouched)
    {
        string name = new([.. (vouched.DisplayName ?? "").Where(character => !char.IsControl(character))]);
        name = name.Trim();
        return name.Length is > 0 and <= DisplayNameCharactersMax ? name : null;
    }

    private static async Task<Row?> ReadAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        string sql,
        object?[] parameters,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(sql, parameters);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? new Row(
                reader.GetGuid(0),
                reader.IsDBNull(1)
                    ? null
                    : Users.OpenEmail(enterprise.DataKey, enterprise.EnterpriseId, reader.GetFieldValue<byte[]>(1)),
                reader.GetBoolean(2)
            )
            : null;
    }

    private sealed record Row(Guid UserId, string? Email, bool IsDeactivated);

    private sealed record Found(Guid UserId, string Email, bool IsNew);
}
