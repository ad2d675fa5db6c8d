using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>Nobody can tell at the moment what must not be kept, so nothing is taken.</summary>
internal sealed class PropertyRulesUnavailableException(Exception inner)
    : Exception(
        "The property rules cannot be read at the moment. Send the events again, with the same event ids.",
        inner
    );

/// <summary>
/// The enterprises' property rules, compiled once a change of the enterprise's identity version, which every change of the rules
/// raises: an instance follows within a second. A hit takes no lock and allocates nothing. When the rules are not known and cannot be
/// read, events are refused (503): a value that should have been dropped could not be taken back from the disk.
/// </summary>
internal sealed class PropertyRuleSets(Database database, EnterpriseDirectory enterprises, IdentityVersion version)
{
    private const int EnterprisesMax = 100_000;
    private readonly VersionedCache<Guid, PropertyRuleSet> _known = new(
        version,
        EnterprisesMax,
        static (enterpriseId, _) => enterpriseId
    );

    /// <exception cref="PropertyRulesUnavailableException">They are not known and cannot be read.</exception>
    public ValueTask<PropertyRuleSet> FindAsync(Guid enterpriseId, CancellationToken cancellationToken) =>
        _known.TryGet(enterpriseId, out PropertyRuleSet? set)
            ? new ValueTask<PropertyRuleSet>(set)
            : new ValueTask<PropertyRuleSet>(LoadAsync(enterpriseId, cancellationToken));

    private async Task<PropertyRuleSet> LoadAsync(Guid enterpriseId, CancellationToken cancellationToken)
    {
        try
        {
            return (
                await _known.LoadAsync(enterpriseId, async () => await ReadAsync(enterpriseId), cancellationToken)
            )!;
        }
        catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
        {
            throw new PropertyRulesUnavailableException(exception);
        }
    }

    private const string ReadRules =
        $"SELECT {StoredPropertyRule.Columns} FROM property_rules WHERE enterprise_id = $1 ORDER BY rule_id";

    private async Task<PropertyRuleSet> ReadAsync(Guid enterpriseId)
    {
        EnterpriseInfo enterprise =
            await enterprises.FindAsync(enterpriseId, CancellationToken.None)
            ?? throw new InvalidOperationException("The enterprise does not exist.");
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, CancellationToken.None);
        StoredPropertyDefaults defaults = await ReadDefaultsAsync(own, enterpriseId, CancellationToken.None);
        var rules = new List<StoredPropertyRule>();
        await using NpgsqlCommand command = own.Command(ReadRules, enterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            rules.Add(StoredPropertyRule.Read(reader));
        }

        return rules.Count == 0 && defaults.IsOpen
            ? PropertyRuleSet.Open
            : new PropertyRuleSet(rules, defaults, enterprise.DataKey);
    }

    private const string ReadDefaults =
        "SELECT version, other_action, email_action, card_action, token_action FROM property_defaults WHERE enterprise_id = $1";

    public static async Task<StoredPropertyDefaults> ReadDefaultsAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(ReadDefaults, enterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? new StoredPropertyDefaults(
                reader.GetInt32(0),
                PropertyRuleTerms.Read(reader.GetString(1))!.Value,
                PropertyRuleTerms.Read(reader.GetString(2))!.Value,
                PropertyRuleTerms.Read(reader.GetString(3))!.Value,
                PropertyRuleTerms.Read(reader.GetString(4))!.Value
            )
            : StoredPropertyDefaults.Open;
    }
}
