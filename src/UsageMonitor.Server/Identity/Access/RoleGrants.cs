using System.Collections.Frozen;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary>
/// The rule against escalation: nobody gives, or takes away, what they may not do themselves. It holds for permissions put
/// into a role, and for roles given to a person or a group.
/// </summary>
internal static class RoleGrants
{
    private static readonly FrozenSet<string> s_platformOnly = FrozenSet.Create(
        Permissions.EnterprisesWrite,
        Permissions.PlatformWrite
    );

    /// <summary>A built-in role's own spelling, or null: there is none of that name in any case.</summary>
    public static string? BuiltIn(string roleName) =>
        RolePermissions.BuiltIn.Keys.FirstOrDefault(name => name.Equals(roleName, StringComparison.OrdinalIgnoreCase));

    /// <summary>The platform has operators, enterprises have all others.</summary>
    public static bool IsOf(Guid enterpriseId, string builtInRole) =>
        builtInRole == RolePermissions.Operator == (enterpriseId == Guid.Empty);

    /// <summary>The first permission that the caller may not give, or null.</summary>
    public static string? FirstBeyond(Caller caller, IEnumerable<string> permissions) =>
        permissions.FirstOrDefault(permission =>
            !caller.May(permission) || (caller.EnterpriseId != Guid.Empty && s_platformOnly.Contains(permission))
        );

    // Held until the commit, so that a role cannot be deleted between the check and what it is given by.
    private const string LockOwnRoles = """
        SELECT role_name FROM roles WHERE enterprise_id = $1 AND role_name = ANY($2) ORDER BY role_name FOR KEY SHARE
        """;

    private const string FindPermissions = """
        SELECT role_name, permission FROM role_permissions WHERE enterprise_id = $1 AND role_name = ANY($2)
        """;

    /// <summary>Whether the caller may give these roles, or take them away; the answer is the problem if not.</summary>
    /// <param name="transaction">In the caller's enterprise; until it ends none of the roles can be deleted.</param>
    /// <param name="caller">Who gives.</param>
    /// <param name="roles">Names as they are spelled.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<IResult?> RefuseAsync(
        ScopedTransaction transaction,
        Caller caller,
        IReadOnlyCollection<string> roles,
        CancellationToken cancellationToken
    )
    {
        string[] own = [.. roles.Where(role => !RolePermissions.BuiltIn.ContainsKey(role))];
        HashSet<string> known = own.Length == 0 ? [] : await LockAsync(transaction, caller, own, cancellationToken);
        foreach (string role in roles)
        {
            bool exists = RolePermissions.BuiltIn.ContainsKey(role)
                ? IsOf(caller.EnterpriseId, role)
                : known.Contains(role);
            if (!exists)
            {
                return Problems.Problem(400, "unknown_role", $"There is no role {Shown(role)}.");
            }
        }

        var permissions = new List<string>(
            roles.SelectMany(role => RolePermissions.BuiltIn.GetValueOrDefault(role, []))
        );
        if (own.Length > 0)
        {
            await using NpgsqlCommand command = transaction.Command(FindPermissions, caller.EnterpriseId, own);
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                permissions.Add(reader.GetString(1));
            }
        }

        return FirstBeyond(caller, permissions) is { } beyond ? Beyond(beyond) : null;
    }

    /// <summary>The problem to answer when a caller gives what they may not do.</summary>
    public static IResult Beyond(string permission) =>
        Problems.Problem(
            403,
            "beyond_own_permissions",
            $"Only who has the permission {permission} may give or take it."
        );

    private static string Shown(string role) =>
        role.Length <= RoleNames.CharactersMax && RoleNames.IsValid(role) ? $"“{role}”" : "of one of these names";

    private static async Task<HashSet<string>> LockAsync(
        ScopedTransaction transaction,
        Caller caller,
        string[] own,
        CancellationToken cancellationToken
    )
    {
        var known = new HashSet<string>(StringComparer.Ordinal);
        await using NpgsqlCommand command = transaction.Command(LockOwnRoles, caller.EnterpriseId, own);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            known.Add(reader.GetString(0));
        }

        return known;
    }
}

/// <summary>How roles may be called.</summary>
internal static class RoleNames
{
    public const int CharactersMax = 50;

    public static bool IsValid(string name) =>
        name.Length is > 0 and <= CharactersMax
        && name[0] != ' '
        && name[^1] != ' '
        && name.All(character => char.IsAsciiLetterOrDigit(character) || character is ' ' or '_' or '-');
}
