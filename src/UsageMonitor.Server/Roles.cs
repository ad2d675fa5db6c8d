namespace UsageMonitor.Server;

/// <summary>The roles a process can take, one row each; <c>all</c> is just a row.</summary>
internal static class Roles
{
    public const string All = "all";
    public const string Gateway = "gateway";
    public const string Identity = "identity";
    public const string Ingestion = "ingestion";
    public const string Processing = "processing";
    public const string Dashboard = "dashboard";
    public const string Admin = "admin";

    private static readonly Role[] Table =
    [
        new(Gateway, []),
        new(Identity, []),
        new(Ingestion, []),
        new(Processing, []),
        new(Dashboard, []),
        new(Admin, []),
        new(All, [Gateway, Identity, Ingestion, Processing, Dashboard, Admin]),
    ];

    public static IEnumerable<string> Names => Table.Select(role => role.Name);

    public static bool IsKnown(string name) => Table.Any(role => role.Name == name);
}

/// <summary>A role.</summary>
/// <param name="Name">As given to <c>--roles</c>.</param>
/// <param name="Includes">Roles it stands for.</param>
internal sealed record Role(string Name, string[] Includes);
