using System.Collections.Frozen;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>What each built-in role may do, and what an API key may be given.</summary>
internal static class RolePermissions
{
    /// <summary>Runs the platform: makes enterprises, sees nobody's usage.</summary>
    public const string Operator = "Operator";

    /// <summary>Administers one enterprise.</summary>
    public const string EnterpriseAdmin = "EnterpriseAdmin";

    /// <summary>Reads the numbers.</summary>
    public const string Analyst = "Analyst";

    /// <summary>Sees who may do what and what was done, and changes nothing.</summary>
    public const string Auditor = "Auditor";

    /// <summary>Sees what is recorded of themselves.</summary>
    public const string Employee = "Employee";

    /// <summary>The scopes of API keys.</summary>
    public static readonly FrozenSet<string> Scopes = FrozenSet.Create(
        Permissions.UsageWrite,
        Permissions.UsageBackfill,
        Permissions.UsageCheck,
        Permissions.UsageRead,
        Permissions.DecisionsRead,
        Permissions.ProvisioningWrite
    );

    /// <summary>What a person may do who has yet to set up the second factor that their enterprise asks for.</summary>
    public static readonly FrozenSet<string> WhileSettingUp = FrozenSet.Create(
        Permissions.Authenticated,
        Permissions.SettingUp
    );

    /// <summary>The built-in roles with their permissions; <see cref="Operator"/> is of the platform only, the others of enterprises only.</summary>
    public static readonly FrozenDictionary<string, string[]> BuiltIn = new Dictionary<string, string[]>
    {
        [Operator] =
        [
            Permissions.EnterprisesWrite,
            Permissions.PlatformWrite,
            Permissions.PeopleRead,
            Permissions.PeopleWrite,
            Permissions.SettingsRead,
            Permissions.SettingsWrite,
            Permissions.AuditRead,
            Permissions.AuditExport,
            Permissions.AuditWrite,
        ],
        [EnterpriseAdmin] =
        [
            Permissions.UsageRead,
            Permissions.UsageCheck,
            Permissions.ApiKeysRead,
            Permissions.ApiKeysWrite,
            Permissions.PeopleRead,
            Permissions.PeopleWrite,
            Permissions.RolesRead,
            Permissions.RolesWrite,
            Permissions.PoliciesRead,
            Permissions.PoliciesWrite,
            Permissions.DecisionsRead,
            Permissions.DecisionsWrite,
            Permissions.LimitsRead,
            Permissions.LimitsWrite,
            Permissions.ViolationsWrite,
            Permissions.AlertsRead,
            Permissions.AlertsWrite,
            Permissions.SettingsRead,
            Permissions.SettingsWrite,
            Permissions.AuditRead,
            Permissions.AuditExport,
            Permissions.AuditWrite,
            Permissions.PrivacyRead,
            Permissions.PrivacyWrite,
        ],
        [Analyst] = [Permissions.UsageRead, Permissions.DecisionsRead, Permissions.LimitsRead, Permissions.AlertsRead],
        [Auditor] =
        [
            Permissions.ApiKeysRead,
            Permissions.PeopleRead,
            Permissions.RolesRead,
            Permissions.PoliciesRead,
            Permissions.DecisionsRead,
            Permissions.LimitsRead,
            Permissions.AlertsRead,
            Permissions.SettingsRead,
            Permissions.AuditRead,
            Permissions.AuditExport,
            Permissions.PrivacyRead,
        ],
        [Employee] = [],
    }.ToFrozenDictionary();

    /// <summary>What a person with these roles may do; a role that nobody knows gives nothing.</summary>
    /// <param name="roles">Built-in and own.</param>
    /// <param name="ownRoles">The permissions of the enterprise's own roles among them.</param>
    public static FrozenSet<string> Of(IEnumerable<string> roles, IEnumerable<string> ownRoles) =>
        roles
            .SelectMany(role => BuiltIn.GetValueOrDefault(role, []))
            .Concat(ownRoles)
            .Append(Permissions.Authenticated)
            .Append(Permissions.SettingUp)
            .Append(Permissions.Person)
            .ToFrozenSet(StringComparer.Ordinal);

    /// <summary>
    /// What an enterprise's people may do at most: whatever their rows say, nobody but the platform's own people runs the
    /// platform.
    /// </summary>
    public static FrozenSet<string> WithoutPlatform(FrozenSet<string> permissions) =>
        permissions.Contains(Permissions.EnterprisesWrite) || permissions.Contains(Permissions.PlatformWrite)
            ? permissions
                .Where(permission => permission is not (Permissions.EnterprisesWrite or Permissions.PlatformWrite))
                .ToFrozenSet(StringComparer.Ordinal)
            : permissions;

    /// <summary>What a key with these scopes may do.</summary>
    public static FrozenSet<string> OfScopes(IEnumerable<string> scopes) =>
        scopes.Where(Scopes.Contains).Append(Permissions.Authenticated).ToFrozenSet(StringComparer.Ordinal);
}
