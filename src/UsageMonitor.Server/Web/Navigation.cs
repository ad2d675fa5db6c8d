using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Web;

/// <summary>A page that the header leads to.</summary>
/// <param name="Address">Its path; what is below it belongs to it.</param>
/// <param name="Label">As the header calls it.</param>
internal sealed record NavigationPage(string Address, string Label);

/// <summary>Pages that belong together; its first page is where it leads to.</summary>
internal sealed record NavigationSection(string Label, IReadOnlyList<NavigationPage> Pages);

/// <summary>Where the header leads to: as much of it as the caller may see.</summary>
internal static class Navigation
{
    private sealed record Entry(string Section, NavigationPage Page, string Permission, bool IsOfEnterprise = true);

    private static readonly Entry[] s_entries =
    [
        new("Overview", new("/", "Overview"), Permissions.UsageRead),
        new("Overview", new(RestatementPages.Address, "Restatements"), Permissions.UsageRead),
        new("Limits", new(LimitPages.Address, "Limits"), Permissions.LimitsRead),
        new("Limits", new(PolicyPages.Address, "Policies"), Permissions.PoliciesRead, IsOfEnterprise: false),
        new("Limits", new(ViolationPages.Address, "Violations"), Permissions.LimitsRead),
        new("Limits", new(DecisionPages.Address, "Refusals"), Permissions.DecisionsRead),
        new("Alerts", new(AlertPages.Address, "Alerts"), Permissions.AlertsRead),
        new("Alerts", new(AnomalyPages.Address, "Anomalies"), Permissions.AlertsRead),
        new("Access", new(PeoplePages.Address, "People"), Permissions.PeopleRead, IsOfEnterprise: false),
        new("Access", new(ApiKeyPages.Address, "API keys"), Permissions.ApiKeysRead, IsOfEnterprise: false),
        new("Access", new(SingleSignOnPages.Address, "Single sign-on"), Permissions.SettingsRead),
        new("Audit", new(AuditPages.Address, "Audit"), Permissions.AuditRead, IsOfEnterprise: false),
        new("Audit", new(PropertyRulePages.Address, "Property rules"), Permissions.PrivacyRead),
        new(
            "Enterprises",
            new(EnterprisePages.Address, "Enterprises"),
            Permissions.EnterprisesWrite,
            IsOfEnterprise: false
        ),
    ];

    /// <summary>The sections in which there is a page for the caller.</summary>
    public static IReadOnlyList<NavigationSection> For(Caller caller) =>
        [
            .. s_entries
                .Where(entry =>
                    caller.May(entry.Permission) && (!entry.IsOfEnterprise || caller.EnterpriseId != Guid.Empty)
                )
                .GroupBy(entry => entry.Section)
                .Select(section => new NavigationSection(section.Key, [.. section.Select(entry => entry.Page)])),
        ];

    /// <summary>Whether a path is the page or below it.</summary>
    public static bool IsAt(this NavigationPage page, PathString path) =>
        path == page.Address
        || (page.Address != "/" && path.StartsWithSegments(page.Address, StringComparison.Ordinal));
}
