using Npgsql;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>Finds the roles, groups and API keys that a policy names, within its enterprise.</summary>
internal sealed class PolicyReferences(ScopedTransaction transaction, Guid enterpriseId)
{
    private const string FindOwnRoles = "SELECT role_name FROM roles WHERE enterprise_id = $1 AND role_name = ANY ($2)";

    /// <returns>The roles, or what is missing in words.</returns>
    public async Task<(string[] Found, string? Missing)> FindRolesAsync(
        string[] names,
        CancellationToken cancellationToken
    )
    {
        string[] own = [.. names.Where(name => !IsBuiltIn(name))];
        var known = new HashSet<string>(StringComparer.Ordinal);
        if (own.Length > 0)
        {
            await using NpgsqlCommand command = transaction.Command(FindOwnRoles, enterpriseId, own);
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                known.Add(reader.GetString(0));
            }
        }

        return (
            names,
            Array.Find(own, name => !known.Contains(name)) is { } missing ? $"there is no role “{missing}”" : null
        );
    }

    private const string FindGroups = """
        SELECT group_id, group_name FROM groups WHERE enterprise_id = $1 AND (group_id = ANY ($2) OR group_name = ANY ($3))
        """;

    /// <inheritdoc cref="FindRolesAsync"/>
    public Task<(Guid[] Found, string? Missing)> FindGroupsAsync(
        string[] references,
        CancellationToken cancellationToken
    ) => FindAsync(FindGroups, "group", references, cancellationToken);

    // A key that was revoked can stay in a policy, but is not found by its name any more.
    private const string FindApiKeys = """
        SELECT api_key_id, CASE WHEN revoked_at IS NULL THEN name ELSE '' END FROM api_keys
         WHERE enterprise_id = $1 AND (api_key_id = ANY ($2) OR (name = ANY ($3) AND revoked_at IS NULL))
        """;

    /// <inheritdoc cref="FindRolesAsync"/>
    public Task<(Guid[] Found, string? Missing)> FindApiKeysAsync(
        string[] references,
        CancellationToken cancellationToken
    ) => FindAsync(FindApiKeys, "API key", references, cancellationToken);

    private async Task<(Guid[] Found, string? Missing)> FindAsync(
        string sql,
        string kind,
        string[] references,
        CancellationToken cancellationToken
    )
    {
        if (references.Length == 0)
        {
            return ([], null);
        }

        Guid[] ids = [.. references.Where(IsId).Select(Guid.Parse)];
        var known = new List<(Guid Id, string Name)>();
        await using (NpgsqlCommand command = transaction.Command(sql, enterpriseId, ids, references))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                known.Add((reader.GetGuid(0), reader.GetString(1)));
            }
        }

        var found = new List<Guid>();
        foreach (string reference in references)
        {
            Guid[] matching = IsId(reference)
                ? [.. known.Where(row => row.Id == Guid.Parse(reference)).Select(row => row.Id)]
                : [.. known.Where(row => row.Name == reference).Select(row => row.Id)];
            if (matching.Length != 1)
            {
                return (
                    [],
                    matching.Length == 0
                        ? $"there is no {kind} “{reference}”"
                        : $"there are several {kind}s “{reference}”; give the id"
                );
            }

            found.Add(matching[0]);
        }

        return ([.. found.Distinct()], null);
    }

    private static bool IsId(string reference) => Guid.TryParseExact(reference, "D", out _);

    private static bool IsBuiltIn(string role) =>
        role != RolePermissions.Operator && RolePermissions.BuiltIn.ContainsKey(role);
}
