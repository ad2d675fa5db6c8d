using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>A person as those who change them see them, locked until the transaction ends.</summary>
/// <param name="UserId">The person.</param>
/// <param name="Email">Their address.</param>
/// <param name="DisplayName">What people call them.</param>
/// <param name="HasJoined">False: invited, and has not answered.</param>
/// <param name="IsActive">Not deactivated.</param>
/// <param name="Origin">See <see cref="NewPerson"/>.</param>
/// <param name="OwnRoles">Their own roles, without those of their groups.</param>
/// <param name="Held">All their roles, and what they permit.</param>
internal sealed record PersonRecord(
    Guid UserId,
    string Email,
    string? DisplayName,
    bool HasJoined,
    bool IsActive,
    string Origin,
    IReadOnlyList<string> OwnRoles,
    ResolvedRoles Held
)
{
    private const string ReadPerson = """
        SELECT email, display_name, email_hash IS NOT NULL, deactivated_at IS NULL, coalesce(origin, 'LOCAL'),
               ARRAY(SELECT r.role_name FROM user_roles r
                     WHERE r.enterprise_id = u.enterprise_id AND r.user_id = u.user_id ORDER BY r.role_name)
        FROM users u WHERE u.enterprise_id = $1 AND u.user_id = $2 AND u.email IS NOT NULL FOR NO KEY UPDATE
        """;

    /// <summary>Reads and locks; null when the enterprise has no such person.</summary>
    public static async Task<PersonRecord?> ReadAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        PersonRecord person;
        await using (NpgsqlCommand command = transaction.Command(ReadPerson, enterpriseId, userId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return null;
            }

            byte[] key = enterprise.DataKey;
            person = new PersonRecord(
                userId,
                Users.OpenEmail(key, enterpriseId, reader.GetFieldValue<byte[]>(0)),
                reader.IsDBNull(1) ? null : Users.OpenDisplayName(key, enterpriseId, reader.GetFieldValue<byte[]>(1)),
                reader.GetBoolean(2),
                reader.GetBoolean(3),
                reader.GetString(4),
                reader.GetFieldValue<string[]>(5),
                new ResolvedRoles([], System.Collections.Frozen.FrozenSet<string>.Empty)
            );
        }

        return person with
        {
            Held = await RoleResolver.ResolveAsync(transaction, enterpriseId, userId, cancellationToken),
        };
    }
}
