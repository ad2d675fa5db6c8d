using System.Globalization;
using System.Text;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>Which people are asked for.</summary>
/// <param name="Email">Exactly this address, found by its blind index; or null.</param>
/// <param name="Role">Who has it, by themselves or by a group; or null.</param>
/// <param name="After">Where the page before ended, or null.</param>
/// <param name="Limit">People on the page.</param>
internal sealed record PeopleQuery(string? Email, string? Role, PageCursor? After, int Limit)
{
    public const int LimitDefault = 50;
    public const int LimitMax = 200;
    public Guid? UserId { get; init; }
}

/// <summary>Lists the people of an enterprise who sign in or are invited to, oldest first, page by page.</summary>
internal sealed class PeopleList(Database database, EnterpriseDirectory enterprises, Users users, TimeProvider time)
{
    public const string Invited = "INVITED";
    public const string Active = "ACTIVE";
    public const string Deactivated = "DEACTIVATED";

    // One who is invited has no blind index yet, but the id that is made of their address.
    private const string ReadPeople = """
        SELECT u.user_id, u.email, u.display_name, u.email_hash IS NULL, u.deactivated_at IS NOT NULL,
               coalesce(u.origin, 'LOCAL'), u.created_at,
               ARRAY(SELECT r.role_name FROM user_roles r
                     WHERE r.enterprise_id = $1 AND r.user_id = u.user_id ORDER BY r.role_name),
               ARRAY(SELECT DISTINCT g.role_name FROM group_members m JOIN group_roles g USING (enterprise_id, group_id)
                     WHERE m.enterprise_id = $1 AND m.user_id = u.user_id ORDER BY g.role_name)
        FROM users u
        WHERE u.enterprise_id = $1 AND u.email IS NOT NULL
          AND ($2::timestamptz IS NULL OR (u.created_at, u.user_id) > ($2, $3::uuid))
          AND ($4::bytea IS NULL OR u.email_hash = $4 OR (u.email_hash IS NULL AND u.user_id = $5::uuid))
          AND ($6::text IS NULL OR u.user_id IN (
                SELECT r.user_id FROM user_roles r WHERE r.enterprise_id = $1 AND r.role_name = $6
                UNION ALL
                SELECT m.user_id FROM group_roles g JOIN group_members m USING (enterprise_id, group_id)
                WHERE g.enterprise_id = $1 AND g.role_name = $6))
          AND ($7::uuid IS NULL OR u.user_id = $7)
        ORDER BY u.created_at, u.user_id LIMIT $8
        """;

    public async Task<UserPage> ReadAsync(Guid enterpriseId, PeopleQuery query, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = (await enterprises.FindAsync(enterpriseId, cancellationToken))!;
        string? email = null;
        if (query.Email is not null && !EmailAddress.TryNormalize(query.Email, out email))
        {
            return new UserPage([], null);
        }

        DateTimeOffset? after = null;
        if (query.After is { } cursor)
        {
            if (!TryInstant(cursor.Key, out DateTimeOffset instant))
            {
                return new UserPage([], null);
            }

            after = instant;
        }

        object?[] parameters =
        [
            enterpriseId,
            after,
            query.After?.Id,
            email is null ? null : users.EmailHash(email),
            email is null ? null : UserIds.FromExternal(enterpriseId, Encoding.UTF8.GetBytes(email)),
            query.Role,
            query.UserId,
            query.Limit + 1,
        ];
        var people = new List<UserSummary>();
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(ReadPeople, parameters);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            people.Add(Read(reader, enterprise));
        }

        // One more was asked for, only to know whether there is a next page.
        bool isLast = people.Count <= query.Limit;
        if (!isLast)
        {
            people.RemoveAt(people.Count - 1);
        }

        return new UserPage(
            people,
            isLast ? null : new PageCursor(Key(people[^1].CreatedAt), people[^1].UserId).ToString()
        );
    }

    /// <summary>One person, or null when the enterprise has no such.</summary>
    public async Task<UserSummary?> FindAsync(Guid enterpriseId, Guid userId, CancellationToken cancellationToken)
    {
        var query = new PeopleQuery(null, null, null, Limit: 1) { UserId = userId };
        return (await ReadAsync(enterpriseId, query, cancellationToken)).Users.SingleOrDefault();
    }

    /// <summary>The sign-ins of a person that have not ended, or null when the enterprise has no such person.</summary>
    public async Task<IReadOnlyList<UserSession>?> SessionsAsync(
        Caller caller,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        if (await FindAsync(caller.EnterpriseId, userId, cancellationToken) is null)
        {
            return null;
        }

        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        return await PersonSessions.ListAsync(
            own,
            enterprise,
            userId,
            caller.SessionId,
            time.GetUtcNow(),
            cancellationToken
        );
    }

    /// <summary>The roles that people of the enterprise can be given, with what each permits.</summary>
    public async Task<IReadOnlyDictionary<string, string[]>> RolesAsync(
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        return await KnownRoles.ReadAsync(own, enterpriseId, cancellationToken);
    }

    private static UserSummary Read(NpgsqlDataReader reader, EnterpriseInfo enterprise)
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        return new UserSummary(
            reader.GetGuid(0),
            Users.OpenEmail(enterprise.DataKey, enterpriseId, reader.GetFieldValue<byte[]>(1)),
            reader.IsDBNull(2)
                ? null
                : Users.OpenDisplayName(enterprise.DataKey, enterpriseId, reader.GetFieldValue<byte[]>(2)),
            reader.GetFieldValue<string[]>(7),
            reader.GetFieldValue<string[]>(8),
            reader.GetBoolean(4) ? Deactivated
                : reader.GetBoolean(3) ? Invited
                : Active,
            reader.GetString(5),
            reader.GetFieldValue<DateTimeOffset>(6)
        );
    }

    private static string Key(DateTimeOffset instant) => instant.UtcTicks.ToString(CultureInfo.InvariantCulture);

    private static bool TryInstant(string key, out DateTimeOffset instant)
    {
        bool isInstant =
            long.TryParse(key, NumberStyles.None, CultureInfo.InvariantCulture, out long ticks)
            && ticks <= DateTime.MaxValue.Ticks;
        instant = isInstant ? new DateTimeOffset(ticks, TimeSpan.Zero) : default;
        return isInstant;
    }
}
