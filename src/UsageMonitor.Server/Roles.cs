using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Archive.Retention;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Dashboard;
using UsageMonitor.Server.Gateway;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Identity.Access;
using UsageMonitor.Server.Identity.People;
using UsageMonitor.Server.Identity.Provisioning;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Ingestion.Admission.Reservations;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Policies;
using UsageMonitor.Server.Processing;
using UsageMonitor.Server.Processing.Metering;
using UsageMonitor.Server.Web;

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

    private static readonly Role[] s_table =
    [
        new(Gateway, "answers clients; forwards what other processes serve") { Map = app => app.MapForwarding() },
        new(Identity, "signs people in and out")
        {
            Map = app =>
            {
                app.MapAuthEndpoints();
                app.MapAccountLinkEndpoints();
                app.MapSecondFactorEndpoints();
                app.MapOwnAccountEndpoints();
                app.MapScimEndpoints();
            },
            Paths = ["/v1/auth", "/v1/me", "/scim", "/.well-known"],
        },
        new(Ingestion, "takes usage events and makes them durable")
        {
            Register = services => services.AddIngestion(),
            Map = app =>
            {
                app.MapIngestion();
                app.MapCheckEndpoint();
                app.MapReservations();
                app.MapPipelineHealth();
            },
            Paths = ["/v1/usage", "/health/pipeline"],
        },
        new(Processing, "stores, counts and accounts for events")
        {
            Register = services =>
                services
                    .AddHostedService<ProcessingService>()
                    .AddMetering()
                    .AddAlertDelivery()
                    .AddAnomalies()
                    .AddAuditWork()
                    .AddArchiving(),
        },
        new(Dashboard, "answers with numbers, and shows the pages")
        {
            Register = services => services.AddDashboard().AddWeb(),
            Map = app =>
            {
                app.MapDashboard();
                app.MapViolationEndpoints();
                app.MapRestatementEndpoints();
                app.MapEventEndpoints();
                app.MapAnomalyEndpoints();
                app.MapAlertDashboard();
                app.MapWeb();
            },
            Paths = ["/v1/dashboard", "/v1/admin/usage/ledger", "/v1/admin/anomalies", ""],
        },
        new(Admin, "enterprises, people, roles, keys, policies, limits, alerts and audit")
        {
            Map = app =>
            {
                app.MapEnterpriseEndpoints();
                app.MapKeyEndpoints();
                app.MapApiKeyEndpoints();
                app.MapPeopleEndpoints();
                app.MapRoleEndpoints();
                app.MapGroupEndpoints();
                app.MapSecuritySettingsEndpoints();
                app.MapIdentityProviderEndpoints();
                app.MapPolicyEndpoints();
                app.MapReclassifyEndpoint();
                app.MapLimitEndpoints();
                app.MapAlertEndpoints();
                app.MapSecondFactorReset();
                app.MapAuditEndpoints();
                app.MapRetentionEndpoints();
                app.MapPropertyRuleEndpoints();
            },
            Paths = ["/v1/platform", "/v1/admin", "/v1/audit"],
        },
        new(All, "everything in one process")
        {
            Includes = [Gateway, Identity, Ingestion, Processing, Dashboard, Admin],
        },
    ];

    public static IReadOnlyList<Role> Table => s_table;

    public static IEnumerable<string> Names => s_table.Select(role => role.Name);

    public static bool IsKnown(string name) => s_table.Any(role => role.Name == name);

    /// <summary>The roles that the names stand for, in the order of the table.</summary>
    public static IReadOnlyList<Role> Expand(IReadOnlyCollection<string> names)
    {
        var wanted = new HashSet<string>(names, StringComparer.Ordinal);
        foreach (Role role in s_table.Where(role => names.Contains(role.Name)))
        {
            wanted.UnionWith(role.Includes);
        }

        return [.. s_table.Where(role => wanted.Contains(role.Name) && role.Includes.Length == 0)];
    }

    /// <summary>The paths of all other roles; a gateway forwards them.</summary>
    public static IEnumerable<Forwarding.RolePath> PathsBeyond(IReadOnlyCollection<Role> served) =>
        s_table.Except(served).SelectMany(role => role.Paths.Select(path => new Forwarding.RolePath(role.Name, path)));
}

/// <summary>A role.</summary>
/// <param name="Name">As given to <c>--roles</c>.</param>
/// <param name="Summary">What it does, for <c>--help</c>.</param>
internal sealed record Role(string Name, string Summary)
{
    /// <summary>Roles it stands for.</summary>
    public string[] Includes { get; init; } = [];

    /// <summary>Adds its services, beyond those every role has.</summary>
    public Action<IServiceCollection>? Register { get; init; }

    /// <summary>Maps its endpoints.</summary>
    public Action<WebApplication>? Map { get; init; }

    /// <summary>What it answers, by the beginning of the path; the longest match counts. A gateway forwards by it.</summary>
    public string[] Paths { get; init; } = [];
}
