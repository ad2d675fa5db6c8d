using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Events and active users of the hours that a step needs; what is missing is zero.</summary>
internal sealed class HourCounts
{
    private readonly Dictionary<(string Feature, DateTime Hour), long> _events = [];
    private readonly Dictionary<(string Feature, DateTime Hour), int> _users = [];

    public long Events(string feature, DateTime hour) => _events.GetValueOrDefault((feature, hour));

    public int Users(string feature, DateTime hour) => _users.GetValueOrDefault((feature, hour));

    private const string ReadEvents = """
        SELECT feature_name, time_bucket, value FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'hour' AND feature_name = ANY ($2)
           AND time_bucket >= $3 AND time_bucket < $4
        """;

    public async Task ReadEventsAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        string[] features,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(ReadEvents, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new NpgsqlParameter<string[]> { TypedValue = features },
                new() { Value = from },
                new() { Value = to },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            _events[(reader.GetString(0), reader.GetDateTime(1))] = reader.GetInt64(2);
        }
    }

    private const string ReadSets = """
        SELECT time_bucket, hourly_members FROM active_user_sets WHERE enterprise_id = $1 AND time_bucket >= $2 AND time_bucket < $3
         ORDER BY time_bucket
        """;

    /// <summary>Counts the users of hours; a day's sets are in memory one day at a time.</summary>
    public async Task ReadUsersAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        LocalTime local,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(ReadSets, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new() { Value = local.DayStart(from) },
                new() { Value = to },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        DateTime day = default;
        var users = new ActiveUsers();
        while (await reader.ReadAsync(cancellationToken))
        {
            if (reader.GetDateTime(0) != day)
            {
                Count(users, day, from, to);
                (day, users) = (reader.GetDateTime(0), new ActiveUsers());
            }

            users.UnionWithHours(reader.GetFieldValue<byte[]>(1));
        }

        Count(users, day, from, to);
    }

    private void Count(ActiveUsers users, DateTime day, DateTime from, DateTime to)
    {
        foreach ((int minutes, Dictionary<string, UserSet> sets) in users.Hours)
        {
            DateTime hour = day.AddMinutes(minutes);
            if (hour >= from && hour < to)
            {
                var all = new UserSet();
                foreach ((string feature, UserSet set) in sets)
                {
                    _users[(feature, hour)] = set.Count();
                    all.UnionWith(set);
                }

                _users[("", hour)] = all.Count();
            }
        }
    }
}
