using System.Collections.Concurrent;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Alerts;

/// <summary>An event that was acknowledged.</summary>
/// <param name="IsBlocked">A limit refused it.</param>
internal readonly record struct DrillEvent(Guid UserId, string Feature, DateTimeOffset At, bool IsBlocked);

/// <summary>An enterprise with limits and rules on all channels, and what it was told of its events.</summary>
internal sealed class DrillTenant
{
    public const string Searched = "search";
    public const string Exported = "export.pdf";
    public const string All = "*";
    private const int ManySearches = 5;
    private const int SearchLimit = 8;
    private const int ExportLimit = 5;
    private const int MonthLimit = 2_000;

    /// <summary>Everybody's, so that something is crossed all through the drill.</summary>
    private static readonly int[] s_ladder = [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800];

    private DrillTenant(Tenant tenant, string hookSecret) => (Tenant, HookSecret) = (tenant, hookSecret);

    public Tenant Tenant { get; }

    public string HookSecret { get; }

    public List<LimitResponse> Limits { get; } = [];

    public List<AlertRuleResponse> Rules { get; } = [];

    public ConcurrentQueue<DrillEvent> Acknowledged { get; } = new();

    public static async Task<DrillTenant> CreateAsync(
        Api platform,
        Uri address,
        Uri hooks,
        string name,
        string timeZone
    )
    {
        Tenant tenant = await platform.CreateTenantAsync(name, timeZone);
        using Api admin = await Api.SignInAsync(address, tenant.AdminEmail, tenant.AdminPassword);
        WebhookSecretResponse hook = await admin.SendAsync<WebhookSecretResponse>(
            HttpMethod.Post,
            "/v1/admin/webhooks",
            new WebhookRequest("hook", new Uri(hooks, name).ToString())
        );
        var made = new DrillTenant(tenant, hook.Secret);
        string[] posted = [hook.Webhook.WebhookId.ToString()];
        string[] mailed = [$"ops@{name}.example", $"boss@{name}.example"];

        await LimitAsync(Searched, "USER", SearchLimit, "DAILY", "ALERT");
        await LimitAsync(Exported, "USER", ExportLimit, "DAILY", "BLOCK");
        await LimitAsync(All, "ENTERPRISE", MonthLimit, "MONTHLY", "ALERT");
        await RuleAsync(new(Searched, "DAILY", "EMAIL", mailed[..1], null, ManySearches, "USER"));
        await RuleAsync(new(Searched, "DAILY", "WEBHOOK", posted, ThresholdPct: 75));
        await RuleAsync(new(Exported, "DAILY", "EMAIL", mailed[..1], ThresholdPct: 80));
        await RuleAsync(new(Exported, "DAILY", "WEBHOOK", posted, ThresholdPct: 100));
        foreach (int percent in new[] { 10, 50, 100 })
        {
            await RuleAsync(new(All, "MONTHLY", "EMAIL", mailed, ThresholdPct: percent));
        }

        foreach (int value in s_ladder)
        {
            await RuleAsync(new(All, "DAILY", "EMAIL", mailed[..1], null, value, "ENTERPRISE"));
        }

        return made;

        async Task LimitAsync(string feature, string scope, long value, string window, string action) =>
            made.Limits.Add(
                await admin.SendAsync<LimitResponse>(
                    HttpMethod.Post,
                    "/v1/admin/usage/limits",
                    new LimitRequest(feature, scope, null, value, window, action)
                )
            );

        async Task RuleAsync(AlertRuleRequest rule) =>
            made.Rules.Add(await admin.SendAsync<AlertRuleResponse>(HttpMethod.Post, "/v1/admin/alerts", rule));
    }
}
