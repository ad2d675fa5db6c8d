using System.Collections.Frozen;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>
/// The enterprises' limits, compiled once a change of the enterprise's identity version, which every change of limits raises:
/// an instance follows within a second. A hit takes no lock and allocates nothing.
/// </summary>
internal sealed class LimitSets(Database database, IdentityVersion version)
{
    private const int EnterprisesMax = 100_000;
    private readonly VersionedCache<Guid, LimitSet> _known = new(
        version,
        EnterprisesMax,
        static (enterpriseId, _) => enterpriseId
    );

    /// <exception cref="NpgsqlException">They are not known and cannot be read.</exception>
    public ValueTask<LimitSet> FindAsync(Guid enterpriseId, CancellationToken cancellationToken) =>
        _known.TryGet(enterpriseId, out LimitSet? set)
            ? new ValueTask<LimitSet>(set)
            : LoadAsync(enterpriseId, cancellationToken);

    private async ValueTask<LimitSet> LoadAsync(Guid enterpriseId, CancellationToken cancellationToken) =>
        (await _known.LoadAsync(enterpriseId, async () => await ReadAsync(enterpriseId), cancellationToken))!;

    private const string ReadActive = $"""
        SELECT {StoredLimit.Columns} FROM usage_limits AS l WHERE l.enterprise_id = $1 AND l.status = 'ACTIVE' ORDER BY l.limit_id
        """;

    // A person who was deactivated still counts: what they have used was used.
    private const string ReadHolders = """
        SELECT role_name, user_id FROM user_roles WHERE enterprise_id = $1 AND role_name = ANY ($2)
         UNION
        SELECT g.role_name, m.user_id FROM group_roles AS g JOIN group_members AS m USING (enterprise_id, group_id)
         WHERE g.enterprise_id = $1 AND g.role_name = ANY ($2)
        """;

    private async Task<LimitSet> ReadAsync(Guid enterpriseId)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, CancellationToken.None);
        var limits = new List<StoredLimit>();
        await using (NpgsqlCommand command = own.Command(ReadActive, enterpriseId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
            while (await reader.ReadAsync())
            {
                limits.Add(StoredLimit.Read(reader, enterpriseId));
            }
        }

        return limits.Count == 0
            ? LimitSet.Empty
            : new LimitSet(limits, await ReadHoldersAsync(own, enterpriseId, limits));
    }

    /// <summary>Who holds the roles that limits name, over groups too.</summary>
    public static async Task<FrozenDictionary<string, FrozenSet<Guid>>> ReadHoldersAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        IReadOnlyCollection<StoredLimit> limits
    )
    {
        string[] roles = [.. limits.Select(limit => limit.Meter.RoleName).OfType<string>().Distinct()];
        if (roles.Length == 0)
        {
            return FrozenDictionary<string, FrozenSet<Guid>>.Empty;
        }

        var held = new List<(string Role, Guid UserId)>();
        await using NpgsqlCommand command = transaction.Command(ReadHolders, enterpriseId, roles);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            held.Add((reader.GetString(0), reader.GetGuid(1)));
        }

        return held.GroupBy(row => row.Role)
            .ToFrozenDictionary(
                role => role.Key,
                role => role.Select(row => row.UserId).ToFrozenSet(),
                StringComparer.Ordinal
            );
    }
}
