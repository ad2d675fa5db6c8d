using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>A user's part of some usage.</summary>
internal readonly record struct UserPart(Guid UserId, long Used);

/// <summary>Users with the most of some usage, and the usage of all.</summary>
internal sealed record UserParts(IReadOnlyList<UserPart> Top, long Total);

/// <summary>
/// Reads what is used of limits: from the meters that processing counts, and from the aggregates for those it does not count yet and for
/// the weeks before. Every statement reads a bounded number of rows, in the enterprise's scope.
/// </summary>
internal sealed class LimitUsageReader(ScopedTransaction own, Guid enterpriseId)
{
    /// <summary>Users named of a limit.</summary>
    public const int TopUsersMax = 5;

    /// <summary>Rows of users' days that are summed for one limit; beyond, nothing is said.</summary>
    public const int RowsMax = 200_000;

    private const string ReadCounted =
        "SELECT meter_id FROM limit_meters WHERE enterprise_id = $1 AND meter_id = ANY ($2)";

    /// <summary>Which of the meters processing counts.</summary>
    public async Task<HashSet<Guid>> ReadCountedAsync(Guid[] meters, CancellationToken cancellationToken)
    {
        var counted = new HashSet<Guid>();
        await using NpgsqlCommand command = own.Command(ReadCounted, enterpriseId, meters);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            counted.Add(reader.GetGuid(0));
        }

        return counted;
    }

    private const string ReadMeter = """
        SELECT used FROM limit_usage WHERE enterprise_id = $1 AND meter_id = $2 AND subject_id = $3 AND window_start = $4
        """;

    /// <summary>What a counted meter says of a subject.</summary>
    public async Task<long> ReadMeterAsync(
        LimitMeter meter,
        Guid subjectId,
        WindowSpan window,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(
            ReadMeter,
            enterpriseId,
            meter.MeterId,
            subjectId,
            window.Start
        );
        return await command.ExecuteScalarAsync(cancellationToken) is long used ? used : 0;
    }

    private const string ReadMeterTop = """
        SELECT subject_id, used FROM limit_usage
         WHERE enterprise_id = $1 AND meter_id = $2 AND window_start = $3 AND NOT subject_id = ANY ($4)
         ORDER BY used DESC, subject_id LIMIT $5
        """;

    /// <summary>The users furthest on a counted meter.</summary>
    /// <param name="meter">Of scope USER.</param>
    /// <param name="window">The window.</param>
    /// <param name="except">Users who have a limit of their own.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<UserParts> ReadMeterTopAsync(
        LimitMeter meter,
        WindowSpan window,
        Guid[] except,
        CancellationToken cancellationToken
    )
    {
        var top = new List<UserPart>();
        await using NpgsqlCommand command = own.Command(
            ReadMeterTop,
            enterpriseId,
            meter.MeterId,
            window.Start,
            except,
            TopUsersMax
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            top.Add(new UserPart(reader.GetGuid(0), reader.GetInt64(1)));
        }

        return new UserParts(top, 0);
    }

    // A pattern is asked for as it is kept: all features together have rows of their own.
    private const string ReadHours = """
        SELECT time_bucket, sum(value)::bigint FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'hour'
           AND CASE WHEN $2 = '*' THEN feature_name = ''
                    WHEN right($2, 1) = '*' THEN feature_name <> '' AND starts_with(feature_name, left($2, -1))
                    ELSE feature_name = $2 END
           AND time_bucket >= $3 AND time_bucket < $4
         GROUP BY time_bucket
        """;

    /// <summary>Everybody's usage of a feature pattern by the hour.</summary>
    public async Task<Dictionary<DateTime, long>> ReadHoursAsync(
        string feature,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        var hours = new Dictionary<DateTime, long>();
        await using NpgsqlCommand command = own.Command(ReadHours, enterpriseId, feature, from, to);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            hours[reader.GetDateTime(0)] = reader.GetInt64(1);
        }

        return hours;
    }

    private const string ReadDays = """
        SELECT time_bucket, sum(usage_count)::bigint, (sum(count(*)) OVER ())::bigint
          FROM (SELECT time_bucket, usage_count FROM user_usage_aggregates
                 WHERE enterprise_id = $1 AND user_id = ANY ($2) AND time_bucket >= $4 AND time_bucket < $5
                   AND (feature_name = $3 OR (right($3, 1) = '*' AND starts_with(feature_name, left($3, -1))))
                 LIMIT $6) AS day
         GROUP BY time_bucket
        """;

    /// <summary>Some users' usage of a feature pattern by the local day; null: too much to read.</summary>
    public async Task<Dictionary<DateTime, long>?> ReadDaysAsync(
        Guid[] users,
        string feature,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        var days = new Dictionary<DateTime, long>();
        await using NpgsqlCommand command = own.Command(ReadDays, enterpriseId, users, feature, from, to, RowsMax + 1);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            if (reader.GetInt64(2) > RowsMax)
            {
                return null;
            }

            days[reader.GetDateTime(0)] = reader.GetInt64(1);
        }

        return days;
    }

    private const string ReadTop = """
        SELECT user_id, sum(usage_count)::bigint AS used, (sum(sum(usage_count)) OVER ())::bigint, (sum(count(*)) OVER ())::bigint
          FROM (SELECT user_id, usage_count FROM user_usage_aggregates
                 WHERE enterprise_id = $1 AND time_bucket >= $3 AND time_bucket < $4 AND last_at >= $5
                   AND (feature_name = $2 OR (right($2, 1) = '*' AND starts_with(feature_name, left($2, -1))))
                   AND ($6::uuid[] IS NULL OR user_id = ANY ($6)) AND NOT user_id = ANY ($7)
                 LIMIT $8) AS part
         GROUP BY user_id ORDER BY used DESC, user_id LIMIT $9
        """;

    /// <summary>The users with the most usage of a feature pattern in some local days; null: too much to read.</summary>
    /// <param name="feature">The pattern.</param>
    /// <param name="days">From the beginning of a local day to that of another.</param>
    /// <param name="activeSince">Only those days on which the user was active at or after this instant.</param>
    /// <param name="among">Only these users, or null: all.</param>
    /// <param name="except">Not these.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<UserParts?> ReadTopAsync(
        string feature,
        WindowSpan days,
        DateTime activeSince,
        Guid[]? among,
        Guid[] except,
        CancellationToken cancellationToken
    )
    {
        var top = new List<UserPart>();
        long total = 0;
        await using NpgsqlCommand command = own.Command(
            ReadTop,
            enterpriseId,
            feature,
            days.Start,
            days.End,
            activeSince,
            among,
            except,
            RowsMax + 1,
            TopUsersMax
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            if (reader.GetInt64(3) > RowsMax)
            {
                return null;
            }

            total = reader.GetInt64(2);
            top.Add(new UserPart(reader.GetGuid(0), reader.GetInt64(1)));
        }

        return new UserParts(top, total);
    }

    private const string ReadExceptions = """
        SELECT feature_name, window_type, action, subject_user_id FROM usage_limits
         WHERE enterprise_id = $1 AND scope = 'USER' AND subject_user_id IS NOT NULL AND status = 'ACTIVE'
           AND (starts_at IS NULL OR starts_at <= $2) AND (expires_at IS NULL OR expires_at > $2)
        """;

    /// <summary>Users who have a limit of their own just now, to whom one for each user does not apply.</summary>
    public async Task<ILookup<(string Feature, string Window, string Action), Guid>> ReadExceptionsAsync(
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        var found = new List<((string, string, string) Of, Guid UserId)>();
        await using NpgsqlCommand command = own.Command(ReadExceptions, enterpriseId, now);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found.Add(((reader.GetString(0), reader.GetString(1), reader.GetString(2)), reader.GetGuid(3)));
        }

        return found.ToLookup(one => one.Of, one => one.UserId);
    }

    private const string ReadExternalIds = """
        SELECT user_id, external_id FROM users WHERE enterprise_id = $1 AND user_id = ANY ($2) AND external_id IS NOT NULL
        """;

    /// <summary>Users as their events name them.</summary>
    public async Task<Dictionary<Guid, string>> ReadNamesAsync(
        Guid[] users,
        EnterpriseInfo enterprise,
        CancellationToken cancellationToken
    )
    {
        var names = users.Distinct().ToDictionary(user => user, user => user.ToString());
        await using NpgsqlCommand command = own.Command(ReadExternalIds, enterpriseId, users);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            names[reader.GetGuid(0)] = ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(1));
        }

        return names;
    }
}
