using Npgsql;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Anomalies;

/// <summary>What some users did on a local day, from the day's sets and the counted rows.</summary>
internal sealed class UserDay
{
    /// <summary>A user of the day.</summary>
    internal sealed class Entry
    {
        public List<(int Minutes, int OthersPercent)> Hours { get; } = [];

        public Dictionary<string, long> Features { get; } = new(StringComparer.Ordinal);

        public long Events => Features.Values.Sum();

        public string TopFeature => Features.MaxBy(feature => feature.Value).Key ?? "";
    }

    private readonly Dictionary<int, Entry> _byOrdinal = [];

    /// <summary>The users, by their ids.</summary>
    public Dictionary<Guid, Entry> Users { get; } = [];

    /// <summary>The ordinal after the last of these users.</summary>
    public int NextOrdinal { get; private set; }

    /// <summary>Whether the day has more users.</summary>
    public bool HasMore { get; private set; }

    /// <summary>Features of the day, whoever used them.</summary>
    public IReadOnlyCollection<string> Features { get; private set; } = [];

    private const string ReadSets = """
        SELECT members, hourly_members FROM active_user_sets WHERE enterprise_id = $1 AND time_bucket = $2
        """;

    /// <summary>Reads the next users of a day, in the order of their ordinals.</summary>
    public static async Task<UserDay> ReadAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        DateTime dayStart,
        int firstOrdinal,
        CancellationToken cancellationToken
    )
    {
        var sets = new ActiveUsers();
        await using (
            var command = new NpgsqlCommand(ReadSets, connection)
            {
                Parameters =
                {
                    new() { Value = enterpriseId },
                    new() { Value = dayStart },
                },
            }
        )
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                sets.UnionWithDay(reader.GetFieldValue<byte[]>(0));
                sets.UnionWithHours(reader.GetFieldValue<byte[]>(1));
            }
        }

        var day = new UserDay { Features = sets.Day.Keys };
        day.Choose(sets, firstOrdinal);
        if (day._byOrdinal.Count > 0)
        {
            day.Distribute(sets);
            await day.ReadIdsAsync(connection, enterpriseId, cancellationToken);
            await day.ReadCountsAsync(connection, enterpriseId, dayStart, cancellationToken);
        }

        return day;
    }

    private void Choose(ActiveUsers sets, int firstOrdinal)
    {
        var all = new UserSet();
        foreach (UserSet set in sets.Day.Values)
        {
            all.UnionWith(set);
        }

        int[] ordinals = [.. all.ToArray().Where(ordinal => ordinal >= firstOrdinal)];
        HasMore = ordinals.Length > AnomalyLimits.UsersPerStepMax;
        foreach (int ordinal in ordinals.Take(AnomalyLimits.UsersPerStepMax))
        {
            _byOrdinal[ordinal] = new Entry();
            NextOrdinal = ordinal + 1;
        }
    }

    private void Distribute(ActiveUsers sets)
    {
        foreach ((string feature, UserSet set) in sets.Day)
        {
            foreach (int ordinal in set.ToArray())
            {
                if (_byOrdinal.TryGetValue(ordinal, out Entry? user))
                {
                    user.Features[feature] = 0;
                }
            }
        }

        var day = new UserSet();
        foreach (UserSet set in sets.Day.Values)
        {
            day.UnionWith(set);
        }

        int others = Math.Max(1, day.Count() - 1);
        foreach ((int minutes, Dictionary<string, UserSet> features) in sets.Hours)
        {
            var hour = new UserSet();
            foreach (UserSet set in features.Values)
            {
                hour.UnionWith(set);
            }

            int[] ordinals = hour.ToArray();
            foreach (int ordinal in ordinals)
            {
                if (_byOrdinal.TryGetValue(ordinal, out Entry? user))
                {
                    user.Hours.Add((minutes, (ordinals.Length - 1) * 100 / others));
                }
            }
        }
    }

    private const string ReadIds = "SELECT ordinal, user_id FROM users WHERE enterprise_id = $1 AND ordinal = ANY ($2)";

    private async Task ReadIdsAsync(NpgsqlConnection connection, Guid enterpriseId, CancellationToken cancellationToken)
    {
        await using var command = new NpgsqlCommand(ReadIds, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new NpgsqlParameter<int[]> { TypedValue = [.. _byOrdinal.Keys] },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            Users[reader.GetGuid(1)] = _byOrdinal[reader.GetInt32(0)];
        }
    }

    // Each row by its whole key: a month's other days are not touched.
    private const string ReadCounts = """
        SELECT counted.user_id, counted.feature_name, counted.usage_count
          FROM unnest($2, $3) AS used (user_id, feature_name)
          JOIN user_usage_aggregates AS counted
            ON counted.enterprise_id = $1 AND counted.user_id = used.user_id AND counted.feature_name = used.feature_name
           AND counted.time_bucket = $4
        """;

    private async Task ReadCountsAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        DateTime dayStart,
        CancellationToken cancellationToken
    )
    {
        List<(Guid UserId, string Feature)> used =
        [
            .. Users.SelectMany(user => user.Value.Features.Keys.Select(feature => (user.Key, feature))),
        ];
        await using var command = new NpgsqlCommand(ReadCounts, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new NpgsqlParameter<Guid[]> { TypedValue = [.. used.Select(pair => pair.UserId)] },
                new NpgsqlParameter<string[]> { TypedValue = [.. used.Select(pair => pair.Feature)] },
                new() { Value = dayStart },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            Users[reader.GetGuid(0)].Features[reader.GetString(1)] = reader.GetInt64(2);
        }
    }
}
