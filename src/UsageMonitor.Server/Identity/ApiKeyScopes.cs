using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>
/// Which scopes a caller may put into a key, or take out of one as a rotation does. A scope that is somebody's permission
/// is given by whoever has it. The others belong to programs only, and are given by those who answer for what these write:
/// <c>usage:write</c> and <c>usage:backfill</c> by whoever makes keys, <c>provisioning:write</c> by whoever may change
/// people and security settings. So an EnterpriseAdmin may give every scope.
/// </summary>
internal static class ApiKeyScopes
{
    private static readonly Dictionary<string, string[]> s_delegated = new(StringComparer.Ordinal)
    {
        [Permissions.UsageWrite] = [Permissions.ApiKeysWrite],
        [Permissions.UsageBackfill] = [Permissions.ApiKeysWrite],
        [Permissions.ProvisioningWrite] = [Permissions.PeopleWrite, Permissions.SettingsWrite],
    };

    /// <summary>The first that the caller may not give, or null.</summary>
    public static string? FirstBeyond(Caller caller, IEnumerable<string> scopes) =>
        scopes.FirstOrDefault(scope =>
            !caller.May(scope) && !(s_delegated.TryGetValue(scope, out string[]? needed) && needed.All(caller.May))
        );
}
