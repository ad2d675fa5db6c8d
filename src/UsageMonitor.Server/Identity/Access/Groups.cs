using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary>Groups and who is in them, in the database.</summary>
internal static class Groups
{
    public const int GroupsMax = 1_000;
    public const int MembersMax = 20_000;
    public const int NameCharactersMax = 200;

    /// <summary>Made here.</summary>
    public const string Local = "LOCAL";

    /// <summary>Made by the provisioning system, whose names and members are its own.</summary>
    public const string Provisioned = "SCIM";

    private const string ReadGroups = """
        SELECT g.group_id, g.group_name, g.origin, g.updated_at,
               ARRAY(SELECT r.role_name FROM group_roles r
                     WHERE r.enterprise_id = $1 AND r.group_id = g.group_id ORDER BY r.role_name),
               (SELECT count(*) FROM group_members m WHERE m.enterprise_id = $1 AND m.group_id = g.group_id)
        FROM groups g
        WHERE g.enterprise_id = $1 AND ($2::uuid IS NULL OR g.group_id = $2)
          AND ($3::text IS NULL OR lower(g.group_name) > lower($3))
        ORDER BY lower(g.group_name) LIMIT $4
        """;

    // Names, roles and members change one after the other, so that a member cannot slip in beside the check of a new role.
    private const string LockGroup = "SELECT 1 FROM groups WHERE enterprise_id = $1 AND group_id = $2 FOR UPDATE";

    public static Task<List<GroupSummary>> ListAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        string? after,
        int limit,
        CancellationToken cancellationToken
    ) => ReadAsync(transaction, [enterpriseId, null, after, limit], cancellationToken);

    public static async Task<GroupSummary?> FindAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        CancellationToken cancellationToken
    ) => (await ReadAsync(transaction, [enterpriseId, groupId, null, 1], cancellationToken)).SingleOrDefault();

    /// <summary>The group, which nobody else changes until the transaction ends.</summary>
    public static async Task<GroupSummary?> LockAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        CancellationToken cancellationToken
    )
    {
        await transaction.ExecuteAsync(LockGroup, [enterpriseId, groupId], cancellationToken);
        return await FindAsync(transaction, enterpriseId, groupId, cancellationToken);
    }

    public static async Task<long> CountAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(
            "SELECT count(*) FROM groups WHERE enterprise_id = $1",
            enterpriseId
        );
        return (long)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    private const string InsertGroup = """
        INSERT INTO groups (enterprise_id, group_id, group_name, external_id, origin, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING
        """;

    /// <summary>False: there is one of that name.</summary>
    public static async Task<bool> InsertAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        string name,
        string? externalId,
        string origin,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        object?[] row = [enterpriseId, groupId, name, externalId, origin, now];
        return await transaction.ExecuteAsync(InsertGroup, row, cancellationToken) > 0;
    }

    private const string RenameGroup = """
        UPDATE groups g SET group_name = $3, updated_at = $4
        WHERE g.enterprise_id = $1 AND g.group_id = $2
          AND NOT EXISTS (SELECT 1 FROM groups o
                          WHERE o.enterprise_id = $1 AND o.group_id <> $2 AND lower(o.group_name) = lower($3))
        """;

    /// <summary>False: another group has that name. Two at once are told apart by the index, which throws.</summary>
    public static async Task<bool> RenameAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        string name,
        DateTimeOffset now,
        CancellationToken cancellationToken
    ) => await transaction.ExecuteAsync(RenameGroup, [enterpriseId, groupId, name, now], cancellationToken) > 0;

    private const string ReplaceRoles = """
        WITH gone AS (
            DELETE FROM group_roles WHERE enterprise_id = $1 AND group_id = $2 AND role_name <> ALL ($3))
        INSERT INTO group_roles (enterprise_id, group_id, role_name) SELECT $1, $2, unnest($3) ON CONFLICT DO NOTHING
        """;

    public static Task SetRolesAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        string[] roles,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(ReplaceRoles, [enterpriseId, groupId, roles], cancellationToken);

    private const string AddMembers = """
        INSERT INTO group_members (enterprise_id, group_id, user_id)
        SELECT u.enterprise_id, $2, u.user_id FROM users u
        WHERE u.enterprise_id = $1 AND u.user_id = ANY ($3) AND u.email IS NOT NULL
        ON CONFLICT DO NOTHING
        """;

    /// <summary>Adds those of them who are people of the enterprise.</summary>
    public static Task AddAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        Guid[] members,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(AddMembers, [enterpriseId, groupId, members], cancellationToken);

    private const string RemoveMembers =
        "DELETE FROM group_members WHERE enterprise_id = $1 AND group_id = $2 AND user_id = ANY ($3)";

    public static Task<int> RemoveAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        Guid[] members,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(RemoveMembers, [enterpriseId, groupId, members], cancellationToken);

    private const string CountPeople = """
        SELECT count(*) FROM users WHERE enterprise_id = $1 AND user_id = ANY ($2) AND email IS NOT NULL
        """;

    /// <summary>Whether all of them are people of the enterprise.</summary>
    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="people">Each once.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<bool> ArePeopleAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid[] people,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(CountPeople, enterpriseId, people);
        return (long)(await command.ExecuteScalarAsync(cancellationToken))! == people.Length;
    }

    public static Task DeleteAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        CancellationToken cancellationToken
    ) =>
        transaction.ExecuteAsync(
            "DELETE FROM groups WHERE enterprise_id = $1 AND group_id = $2",
            [enterpriseId, groupId],
            cancellationToken
        );

    private const string ReadMembers = """
        SELECT u.user_id, u.email, u.display_name, u.deactivated_at IS NULL
        FROM group_members m JOIN users u USING (enterprise_id, user_id)
        WHERE m.enterprise_id = $1 AND m.group_id = $2 AND m.user_id > $3 AND u.email IS NOT NULL
        ORDER BY m.user_id LIMIT $4
        """;

    /// <summary>Members in the order of their ids.</summary>
    public static async Task<List<GroupMember>> MembersAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid groupId,
        Guid after,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var members = new List<GroupMember>();
        Guid enterpriseId = enterprise.EnterpriseId;
        await using NpgsqlCommand command = transaction.Command(ReadMembers, enterpriseId, groupId, after, limit);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            byte[]? name = reader.IsDBNull(2) ? null : reader.GetFieldValue<byte[]>(2);
            members.Add(
                new GroupMember(
                    reader.GetGuid(0),
                    Users.OpenEmail(enterprise.DataKey, enterpriseId, reader.GetFieldValue<byte[]>(1)),
                    name is null ? null : Users.OpenDisplayName(enterprise.DataKey, enterpriseId, name),
                    reader.GetBoolean(3)
                )
            );
        }

        return members;
    }

    private static async Task<List<GroupSummary>> ReadAsync(
        ScopedTransaction transaction,
        object?[] parameters,
        CancellationToken cancellationToken
    )
    {
        var read = new List<GroupSummary>();
        await using NpgsqlCommand command = transaction.Command(ReadGroups, parameters);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            read.Add(
                new GroupSummary(
                    reader.GetGuid(0),
                    reader.GetString(1),
                    reader.GetFieldValue<string[]>(4),
                    reader.GetInt64(5),
                    reader.GetString(2) == Provisioned,
                    reader.GetFieldValue<DateTimeOffset>(3)
                )
            );
        }

        return read;
    }
}
