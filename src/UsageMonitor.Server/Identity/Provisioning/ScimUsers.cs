using System.Globalization;
using Npgsql;
using UsageMonitor.Server.Identity.Access;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>A person's row as provisioning sees it.</summary>
internal sealed record ProvisionedPerson(
    Guid UserId,
    string Email,
    string? DisplayName,
    string? Origin,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt,
    bool IsActive,
    bool IsDeprovisioned,
    ScimProfile? Profile
)
{
    public bool IsOwn => Origin == NewPerson.Provisioned;
}

/// <summary>People as a provisioning system sees and changes them: all of the enterprise who sign in.</summary>
internal sealed class ScimUsers(Users users, TimeProvider time)
{
    /// <summary>People of an enterprise who sign in.</summary>
    private const int PeopleMax = 100_000;

    private const string Columns = """
        u.user_id, u.email, u.display_name, u.origin, u.created_at, coalesce(u.updated_at, u.created_at),
        u.deactivated_at IS NULL, u.deprovisioned_at IS NOT NULL, u.provisioned_profile
        """;

    private const string FindUser =
        $"SELECT {Columns} FROM users u WHERE u.enterprise_id = $1 AND u.user_id = $2 AND u.email IS NOT NULL";

    /// <exception cref="ScimException">The enterprise has no such person.</exception>
    public static async Task<ProvisionedPerson> FindAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        string id,
        bool forChange,
        CancellationToken cancellationToken
    )
    {
        if (!Guid.TryParseExact(id, "D", out Guid userId))
        {
            throw ScimException.NotFound();
        }

        await using NpgsqlCommand command = transaction.Command(
            forChange ? $"{FindUser} FOR NO KEY UPDATE" : FindUser,
            enterprise.EnterpriseId,
            userId
        );
        return (await ReadAsync(command, enterprise, cancellationToken)).SingleOrDefault()
            ?? throw ScimException.NotFound();
    }

    /// <summary>A page of the people whom a filter lets through, and how many these are.</summary>
    public async Task<(List<ProvisionedPerson> People, long Total)> ListAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        List<ScimComparison> filter,
        int skip,
        int count,
        CancellationToken cancellationToken
    )
    {
        var parameters = new List<object?> { enterprise.EnterpriseId };
        string where = "u.enterprise_id = $1 AND u.email IS NOT NULL";
        foreach (ScimComparison comparison in filter)
        {
            where += $" AND {Condition(comparison, new ScimLookup(enterprise), parameters)}";
        }

        long total;
        await using (
            NpgsqlCommand counting = transaction.Command($"SELECT count(*) FROM users u WHERE {where}", [.. parameters])
        )
        {
            total = (long)(await counting.ExecuteScalarAsync(cancellationToken))!;
        }

        string page = $"""
            SELECT {Columns} FROM users u WHERE {where}
            ORDER BY u.created_at, u.user_id OFFSET ${parameters.Count + 1} LIMIT ${parameters.Count + 2}
            """;
        await using NpgsqlCommand command = transaction.Command(page, [.. parameters, skip, count]);
        return (await ReadAsync(command, enterprise, cancellationToken), total);
    }

    private const string CountPeople = "SELECT count(*) FROM users WHERE enterprise_id = $1 AND email IS NOT NULL";

    /// <exception cref="ScimException">The address signs in already, or there are as many people as there may be.</exception>
    public async Task<Guid> AddAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        ScimUserDraft draft,
        CancellationToken cancellationToken
    )
    {
        string email = draft.UserName ?? throw ScimException.InvalidValue("userName is required.");
        await using (NpgsqlCommand counting = transaction.Command(CountPeople, enterprise.EnterpriseId))
        {
            if ((long)(await counting.ExecuteScalarAsync(cancellationToken))! >= PeopleMax)
            {
                throw new ScimException(403, null, $"An enterprise has {PeopleMax} people who sign in at most.");
            }
        }

        Guid userId;
        try
        {
            userId = await users.AddAsync(
                transaction,
                enterprise.EnterpriseId,
                enterprise.DataKey,
                new NewPerson(email, draft.ShownName, null, [RolePermissions.Employee], NewPerson.Provisioned),
                cancellationToken
            );
        }
        catch (EmailTakenException)
        {
            throw ScimException.Taken("userName signs in already.");
        }

        await WriteProfileAsync(transaction, enterprise, userId, draft, cancellationToken);
        if (draft.Active == false)
        {
            await DeactivateAsync(transaction, enterprise.EnterpriseId, userId, cancellationToken);
        }

        return userId;
    }

    /// <summary>Makes the person what the draft says; true: credentials must notice.</summary>
    /// <exception cref="ScimException">The address is taken, or the change is not provisioning's to make.</exception>
    public async Task<bool> ChangeAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        ProvisionedPerson before,
        ScimUserDraft draft,
        CancellationToken cancellationToken
    )
    {
        bool noticed = false;
        string email = draft.UserName ?? throw ScimException.InvalidValue("userName is required.");
        if (email != before.Email)
        {
            await ChangeEmailAsync(transaction, enterprise, before, email, cancellationToken);
            noticed = true;
        }

        await WriteProfileAsync(transaction, enterprise, before.UserId, draft, cancellationToken);
        if (draft.Active == false && before.IsActive)
        {
            await KeepAnAdminAsync(transaction, enterprise.EnterpriseId, before, cancellationToken);
            await DeactivateAsync(transaction, enterprise.EnterpriseId, before.UserId, cancellationToken);
            noticed = true;
        }
        else if (draft.Active == true && before.IsDeprovisioned)
        {
            await transaction.ExecuteAsync(Reactivate, [enterprise.EnterpriseId, before.UserId], cancellationToken);
            noticed = true;
        }

        return noticed;
    }

    private const string ChangeEmail = """
        UPDATE users SET email = $3, email_hash = $4 WHERE enterprise_id = $1 AND user_id = $2
        """;

    // Whoever holds the provisioning key could otherwise give an admin an address of their own, and reset the password.
    private async Task ChangeEmailAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        ProvisionedPerson before,
        string email,
        CancellationToken cancellationToken
    )
    {
        if (!before.IsOwn)
        {
            throw ScimException.Mutability("Only the userName of people whom you provisioned can change.");
        }

        object?[] row =
        [
            enterprise.EnterpriseId,
            before.UserId,
            Users.SealEmail(enterprise.DataKey, enterprise.EnterpriseId, email),
            users.EmailHash(email),
        ];
        try
        {
            await transaction.ExecuteAsync(ChangeEmail, row, cancellationToken);
        }
        catch (PostgresException exception) when (exception.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            throw ScimException.Taken("userName signs in already.");
        }
    }

    private const string WriteProfile = """
        UPDATE users SET display_name = $3, provisioned_profile = $4, provisioned_lookup = $5, updated_at = $6
        WHERE enterprise_id = $1 AND user_id = $2
        """;

    private Task<int> WriteProfileAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        ScimUserDraft draft,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        ScimProfile profile = draft.Profile;
        string? name = draft.ShownName;
        object?[] row =
        [
            enterpriseId,
            userId,
            name is null ? null : Users.SealDisplayName(enterprise.DataKey, enterpriseId, name),
            profile.Seal(enterprise, userId),
            new ScimLookup(enterprise).Of(profile, name),
            time.GetUtcNow(),
        ];
        return transaction.ExecuteAsync(WriteProfile, row, cancellationToken);
    }

    // Only who was active is deprovisioned: what an admin has deactivated, provisioning does not bring back.
    private const string Deactivate = """
        UPDATE users SET deactivated_at = $3, deprovisioned_at = $3
        WHERE enterprise_id = $1 AND user_id = $2 AND deactivated_at IS NULL
        """;

    private const string Reactivate = """
        UPDATE users SET deactivated_at = NULL, deprovisioned_at = NULL
        WHERE enterprise_id = $1 AND user_id = $2 AND deprovisioned_at IS NOT NULL
        """;

    // Ended for good: who comes back signs in anew.
    private const string EndSessions = """
        UPDATE sessions SET revoked_at = $3 WHERE enterprise_id = $1 AND user_id = $2 AND revoked_at IS NULL
        """;

    private async Task DeactivateAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        object?[] row = [enterpriseId, userId, time.GetUtcNow()];
        await transaction.ExecuteAsync(Deactivate, row, cancellationToken);
        await transaction.ExecuteAsync(EndSessions, row, cancellationToken);
    }

    // What is left is a user known from usage, as before; with the same address they would be the same user again.
    private const string Erase = """
        UPDATE users SET email = NULL, email_hash = NULL, password_hash = NULL, password_changed_at = NULL, origin = NULL,
                         display_name = NULL, provisioned_profile = NULL, provisioned_lookup = NULL, deprovisioned_at = NULL,
                         deactivated_at = coalesce(deactivated_at, $3), updated_at = $3
        WHERE enterprise_id = $1 AND user_id = $2
        """;

    /// <summary>Takes away everything by which a user is a person who signs in; what they have used stays counted.</summary>
    /// <exception cref="ScimException">It is the last admin whom nobody provisioned.</exception>
    public async Task DeleteAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        ProvisionedPerson person,
        CancellationToken cancellationToken
    )
    {
        await KeepAnAdminAsync(transaction, enterprise.EnterpriseId, person, cancellationToken);
        object?[] row = [enterprise.EnterpriseId, person.UserId, time.GetUtcNow()];
        await transaction.ExecuteAsync(EndSessions, row, cancellationToken);
        await transaction.ExecuteAsync(Erase, row, cancellationToken);
        await PersonTraces.ForgetAsync(transaction, enterprise.EnterpriseId, person.UserId, cancellationToken);
    }

    // The enterprise must have a way in that its provisioning system, or who has taken it over, cannot close.
    private static async Task KeepAnAdminAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        ProvisionedPerson person,
        CancellationToken cancellationToken
    )
    {
        if (
            person is { IsOwn: false, IsActive: true }
            && await LastAdmin.ThereIsAnAdminAsync(transaction, enterpriseId, Guid.Empty, true, cancellationToken)
            && !await LastAdmin.ThereIsAnAdminAsync(transaction, enterpriseId, person.UserId, true, cancellationToken)
        )
        {
            throw new ScimException(403, null, "The last admin whom you did not provision stays.");
        }
    }

    private string Condition(ScimComparison comparison, ScimLookup lookup, List<object?> parameters)
    {
        string value = comparison.Value;
        switch (comparison.Attribute)
        {
            case "id":
                return Guid.TryParse(value, out Guid userId) ? $"u.user_id = {Next(userId)}" : "false";
            case "active":
                return bool.TryParse(value, out bool active)
                    ? $"(u.deactivated_at IS NULL) = {Next(active)}"
                    : throw ScimException.InvalidFilter("active is true or false.");
            case "username":
                return $"u.email_hash = {Next(users.EmailHash(Normalized(value)))}";
            case "emails":
            case "emails.value":
                // Of whom nothing was provisioned, the address is the one to sign in with.
                byte[] hash = lookup.Of(ScimLookup.Email, value);
                string known = $"u.provisioned_lookup @> ARRAY[{Next(hash)}]";
                string signsIn =
                    $"u.provisioned_profile IS NULL AND u.email_hash = {Next(users.EmailHash(Normalized(value)))}";
                return $"({known} OR {signsIn})";
            case ScimLookup.ExternalId:
            case ScimLookup.DisplayName:
                return $"u.provisioned_lookup @> ARRAY[{Next(lookup.Of(comparison.Attribute, value))}]";
            default:
                throw ScimException.InvalidFilter(
                    "People are found by id, userName, externalId, emails.value, displayName and active."
                );
        }

        string Next(object parameter)
        {
            parameters.Add(parameter);
            return string.Create(CultureInfo.InvariantCulture, $"${parameters.Count}");
        }
    }

    private static string Normalized(string value) => EmailAddress.TryNormalize(value, out string? email) ? email : "";

    private static async Task<List<ProvisionedPerson>> ReadAsync(
        NpgsqlCommand command,
        EnterpriseInfo enterprise,
        CancellationToken cancellationToken
    )
    {
        var read = new List<ProvisionedPerson>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            Guid userId = reader.GetGuid(0);
            byte[] key = enterprise.DataKey;
            Guid enterpriseId = enterprise.EnterpriseId;
            read.Add(
                new ProvisionedPerson(
                    userId,
                    Users.OpenEmail(key, enterpriseId, reader.GetFieldValue<byte[]>(1)),
                    reader.IsDBNull(2)
                        ? null
                        : Users.OpenDisplayName(key, enterpriseId, reader.GetFieldValue<byte[]>(2)),
                    reader.IsDBNull(3) ? null : reader.GetString(3),
                    reader.GetFieldValue<DateTimeOffset>(4),
                    reader.GetFieldValue<DateTimeOffset>(5),
                    reader.GetBoolean(6),
                    reader.GetBoolean(7),
                    reader.IsDBNull(8) ? null : ScimProfile.Open(enterprise, userId, reader.GetFieldValue<byte[]>(8))
                )
            );
        }

        return read;
    }
}
