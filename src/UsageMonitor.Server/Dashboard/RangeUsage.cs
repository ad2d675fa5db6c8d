using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Dashboard;

/// <summary>Counts and distinct users of a range of local days, per feature and overall.</summary>
internal sealed class RangeUsage
{
    /// <summary>Feature → events.</summary>
    public Dictionary<string, long> Counts { get; } = new(StringComparer.Ordinal);

    /// <summary>Feature → users.</summary>
    public Dictionary<string, UserSet> Users { get; } = new(StringComparer.Ordinal);

    public long UsageCount => Counts.Values.Sum();

    public long ActiveUsers => CountUsers(Users, feature: null);

    /// <summary>Most used first.</summary>
    public IEnumerable<FeatureUsage> Features()
    {
        long total = UsageCount;
        return Counts
            .OrderByDescending(feature => feature.Value)
            .ThenBy(feature => feature.Key, StringComparer.Ordinal)
            .Select(feature => new FeatureUsage(
                feature.Key,
                feature.Value,
                CountUsers(Users, feature.Key),
                (double)feature.Value / total
            ));
    }

    /// <summary>Distinct users of one feature, or of all.</summary>
    public static long CountUsers(Dictionary<string, UserSet> sets, string? feature)
    {
        if (feature is not null)
        {
            return sets.TryGetValue(feature, out UserSet? set) ? set.Count() : 0;
        }

        var all = new UserSet();
        foreach (UserSet set in sets.Values)
        {
            all.UnionWith(set);
        }

        return all.Count();
    }

    public static async Task<RangeUsage> ReadAsync(
        ScopedTransaction scope,
        Guid enterpriseId,
        DateTime start,
        DateTime end,
        CancellationToken cancellationToken
    )
    {
        const string CountsSql = """
            SELECT feature_name, sum(value)::bigint FROM usage_aggregates
             WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'day' AND feature_name <> ''
               AND time_bucket >= $2 AND time_bucket < $3
             GROUP BY feature_name
            """;
        const string SetsSql = """
            SELECT members FROM active_user_sets WHERE enterprise_id = $1 AND time_bucket >= $2 AND time_bucket < $3
            """;
        var usage = new RangeUsage();
        await using (NpgsqlCommand command = scope.Command(CountsSql, enterpriseId, start, end))
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                usage.Counts[reader.GetString(0)] = reader.GetInt64(1);
            }
        }

        await using (NpgsqlCommand command = scope.Command(SetsSql, enterpriseId, start, end))
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                Processing.ActiveUsers.UnionDay(usage.Users, reader.GetFieldValue<byte[]>(0));
            }
        }

        return usage;
    }
}
