using System.Collections.Frozen;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>What each role may do, and what an API key may be given.</summary>
internal static class RolePermissions
{
    /// <summary>Runs the platform: makes enterprises, sees nobody's usage.</summary>
    public const string Operator = "Operator";

    /// <summary>Administers one enterprise.</summary>
    public const string EnterpriseAdmin = "EnterpriseAdmin";

    /// <summary>The scopes of API keys.</summary>
    public static readonly FrozenSet<string> Scopes = FrozenSet.Create(
        Permissions.UsageWrite,
        Permissions.UsageBackfill,
        Permissions.UsageRead
    );

    private static readonly FrozenDictionary<string, string[]> Table = new Dictionary<string, string[]>
    {
        [Operator] = [Permissions.EnterprisesWrite],
        [EnterpriseAdmin] = [Permissions.UsageRead, Permissions.ApiKeysWrite],
    }.ToFrozenDictionary();

    /// <summary>What a person with these roles may do; a role this version does not know gives nothing.</summary>
    public static FrozenSet<string> Of(IEnumerable<string> roles) =>
        roles
            .SelectMany(role => Table.GetValueOrDefault(role, []))
            .Append(Permissions.Authenticated)
            .ToFrozenSet(StringComparer.Ordinal);

    /// <summary>What a key with these scopes may do.</summary>
    public static FrozenSet<string> OfScopes(IEnumerable<string> scopes) =>
        scopes.Where(Scopes.Contains).Append(Permissions.Authenticated).ToFrozenSet(StringComparer.Ordinal);
}
