using Npgsql;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Which features are watched, and from which hour a new one is learned.</summary>
internal static class BusiestFeatures
{
    private const string Choose = """
        SELECT feature_name FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'day' AND time_bucket >= $2 AND feature_name <> ''
         GROUP BY feature_name ORDER BY sum(value) DESC, feature_name LIMIT $3
        """;

    private const string FirstHours = """
        SELECT feature_name, min(time_bucket) FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'hour' AND feature_name = ANY ($2) AND time_bucket >= $3
           AND time_bucket < $4
         GROUP BY feature_name
        """;

    /// <returns>The busiest since an instant, and none when there was no usage at all.</returns>
    public static async Task<List<string>> ChooseAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        DateTime since,
        CancellationToken cancellationToken
    )
    {
        var chosen = new List<string>();
        await using var command = new NpgsqlCommand(Choose, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new() { Value = since },
                new() { Value = AnomalyLimits.FeaturesMax },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            chosen.Add(reader.GetString(0));
        }

        return chosen;
    }

    /// <summary>The first hour with usage of each feature: what comes before it is no zero, but nothing.</summary>
    public static async Task<Dictionary<string, DateTime>> FirstHoursAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        string[] features,
        DateTime since,
        DateTime until,
        CancellationToken cancellationToken
    )
    {
        var first = new Dictionary<string, DateTime>(StringComparer.Ordinal);
        await using var command = new NpgsqlCommand(FirstHours, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new NpgsqlParameter<string[]> { TypedValue = features },
                new() { Value = since },
                new() { Value = until },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            first[reader.GetString(0)] = reader.GetDateTime(1);
        }

        return first;
    }
}
