using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>Reads what policies are made of; every statement runs in the enterprise's scope.</summary>
internal static class PolicyStore
{
    /// <summary>Policies of an enterprise, the inactive ones too.</summary>
    public const int PoliciesMax = 500;

    private const string ReadActive = """
        SELECT e.policy_default, p.policy_id, p.version, p.name, p.effect, p.document::text, p.status, p.created_by, p.created_at, p.updated_at
          FROM enterprises AS e
          LEFT JOIN policies AS p ON p.enterprise_id = e.enterprise_id AND p.status = 'ACTIVE'
         WHERE e.enterprise_id = $1
         ORDER BY p.policy_id
        """;

    /// <summary>The active policies, the oldest first, and whether the default is to forbid.</summary>
    public static async Task<(List<StoredPolicy> Policies, bool IsForbiddenByDefault)> ReadActiveAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        var policies = new List<StoredPolicy>();
        bool isForbidden = false;
        await using NpgsqlCommand command = transaction.Command(ReadActive, enterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            isForbidden = reader.GetString(0) == PolicyTerms.Forbid;
            if (!reader.IsDBNull(1))
            {
                policies.Add(Read(reader, first: 1));
            }
        }

        return (policies, isForbidden);
    }

    private const string FindPolicy = "SELECT FROM policies WHERE enterprise_id = $1 AND policy_id = $2";

    public static async Task<bool> ExistsAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid policyId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(FindPolicy, enterpriseId, policyId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken);
    }

    /// <summary>A policy from nine columns: id, version, name, effect, document, status, created by, created at, updated at.</summary>
    public static StoredPolicy Read(NpgsqlDataReader reader, int first) =>
        new(
            reader.GetGuid(first),
            reader.GetInt32(first + 1),
            reader.GetString(first + 2),
            reader.GetString(first + 3),
            PolicyDocument.Parse(reader.GetString(first + 4)),
            reader.GetString(first + 5),
            reader.GetGuid(first + 6),
            reader.GetFieldValue<DateTimeOffset>(first + 7),
            reader.GetFieldValue<DateTimeOffset>(first + 8)
        );

    private const string ReadMembers = """
        SELECT held.role_name, held.group_id, held.user_id, person.deactivated_at IS NULL
          FROM (SELECT role_name, NULL::uuid AS group_id, user_id FROM user_roles
                 WHERE enterprise_id = $1 AND role_name = ANY ($2)
                UNION
                SELECT g.role_name, NULL, m.user_id FROM group_roles AS g JOIN group_members AS m USING (enterprise_id, group_id)
                 WHERE g.enterprise_id = $1 AND g.role_name = ANY ($2)
                UNION ALL
                SELECT NULL, group_id, user_id FROM group_members
                 WHERE enterprise_id = $1 AND group_id = ANY ($3)) AS held
          LEFT JOIN users AS person ON person.enterprise_id = $1 AND person.user_id = held.user_id
        """;

    /// <summary>Who has the roles and is in the groups that the policies mention; asks for nobody when they mention none.</summary>
    public static async Task<PolicyMembers> ReadMembersAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        IReadOnlyCollection<StoredPolicy> policies,
        CancellationToken cancellationToken
    )
    {
        string[] roles = [.. policies.SelectMany(policy => policy.Document.Principals.Roles).Distinct()];
        Guid[] groups = [.. policies.SelectMany(policy => policy.Document.Principals.Groups).Distinct()];
        if (roles.Length + groups.Length == 0)
        {
            return PolicyMembers.None;
        }

        var ofRoles = new List<(string, PolicyMember)>();
        var ofGroups = new List<(Guid, PolicyMember)>();
        await using NpgsqlCommand command = transaction.Command(ReadMembers, enterpriseId, roles, groups);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            var member = new PolicyMember(reader.GetGuid(2), reader.GetBoolean(3));
            if (reader.IsDBNull(0))
            {
                ofGroups.Add((reader.GetGuid(1), member));
            }
            else
            {
                ofRoles.Add((reader.GetString(0), member));
            }
        }

        return PolicyMembers.Of(ofRoles, ofGroups);
    }
}
