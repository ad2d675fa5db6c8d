using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>An enterprise's active rules.</summary>
/// <param name="Rules">The oldest first; without those that are broken.</param>
internal sealed record AlertRuleSet(IReadOnlyList<AlertRule> Rules);

/// <summary>The enterprises' alert rules, read once a change of the enterprise's identity version, which every change of rules raises.</summary>
internal sealed partial class AlertRuleSets(Database database, IdentityVersion version, ILogger<AlertRuleSets> logger)
{
    private const int EnterprisesMax = 100_000;
    private readonly VersionedCache<Guid, AlertRuleSet> _known = new(
        version,
        EnterprisesMax,
        static (enterpriseId, _) => enterpriseId
    );

    /// <exception cref="NpgsqlException">They are not known and cannot be read.</exception>
    public ValueTask<AlertRuleSet> FindAsync(EnterpriseInfo enterprise, CancellationToken cancellationToken) =>
        _known.TryGet(enterprise.EnterpriseId, out AlertRuleSet? set)
            ? new ValueTask<AlertRuleSet>(set)
            : LoadAsync(enterprise, cancellationToken);

    private async ValueTask<AlertRuleSet> LoadAsync(EnterpriseInfo enterprise, CancellationToken cancellationToken) =>
        (await _known.LoadAsync(enterprise.EnterpriseId, async () => await ReadAsync(enterprise), cancellationToken))!;

    private const string ReadActive = $"""
        SELECT {AlertRule.Columns} FROM usage_alerts AS a WHERE a.enterprise_id = $1 AND a.status = 'ACTIVE' ORDER BY a.alert_id
        """;

    private async Task<AlertRuleSet> ReadAsync(EnterpriseInfo enterprise)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            CancellationToken.None
        );
        var rules = new List<AlertRule>();
        await using NpgsqlCommand command = own.Command(ReadActive, enterprise.EnterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            var rule = AlertRule.Read(reader, enterprise);
            if (rule.IsBroken)
            {
                LogBroken(rule.AlertId, enterprise.EnterpriseId);
                continue;
            }

            rules.Add(rule);
        }

        return new AlertRuleSet(rules);
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The recipients of alert rule {AlertId} of enterprise {EnterpriseId} cannot be read: it tells nobody until they are given again."
    )]
    private partial void LogBroken(Guid alertId, Guid enterpriseId);
}
