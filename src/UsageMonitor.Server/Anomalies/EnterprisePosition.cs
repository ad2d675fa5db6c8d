using Npgsql;
using NpgsqlTypes;

namespace UsageMonitor.Server.Anomalies;

/// <summary>How far an enterprise has been looked at: its row of <c>anomaly_positions</c>, locked.</summary>
internal sealed class EnterprisePosition
{
    public required Guid EnterpriseId { get; init; }

    public required DateTime WatchedSince { get; init; }

    public DateTime NextLookAt { get; set; }

    public DateOnly? FeaturesDay { get; set; }

    public DateOnly? UserDay { get; set; }

    public int UserOrdinal { get; set; }

    public int UserFindings { get; set; }

    /// <summary>A feature's place is its number in what is known of users.</summary>
    public List<string> FeatureNames { get; init; } = [];

    /// <summary>The day on which each was first met.</summary>
    public List<int> FeatureDays { get; init; } = [];

    public DateTime? NoticesHour { get; set; }

    public int Notices { get; set; }

    private const string Lock = """
        SELECT next_look_at, watched_since, features_day, user_day, user_ordinal, user_findings, feature_names, feature_days, notices_hour, notices
          FROM anomaly_positions WHERE enterprise_id = $1 AND next_look_at <= $2 FOR UPDATE SKIP LOCKED
        """;

    /// <returns>Null when another has it, or it is not due any more.</returns>
    public static async Task<EnterprisePosition?> LockAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(Lock, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new() { Value = now },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? new EnterprisePosition
            {
                EnterpriseId = enterpriseId,
                NextLookAt = reader.GetDateTime(0),
                WatchedSince = reader.GetDateTime(1),
                FeaturesDay = reader.GetFieldValue<DateOnly?>(2),
                UserDay = reader.GetFieldValue<DateOnly?>(3),
                UserOrdinal = reader.GetInt32(4),
                UserFindings = reader.GetInt32(5),
                FeatureNames = [.. reader.GetFieldValue<string[]>(6)],
                FeatureDays = [.. reader.GetFieldValue<int[]>(7)],
                NoticesHour = reader.GetFieldValue<DateTime?>(8),
                Notices = reader.GetInt32(9),
            }
            : null;
    }

    private const string Move = """
        UPDATE anomaly_positions
           SET next_look_at = $2, features_day = $3, user_day = $4, user_ordinal = $5, user_findings = $6, feature_names = $7,
               feature_days = $8, notices_hour = $9, notices = $10
         WHERE enterprise_id = $1
        """;

    public NpgsqlBatchCommand Save() =>
        new(Move)
        {
            Parameters =
            {
                new() { Value = EnterpriseId },
                new() { Value = NextLookAt },
                new() { Value = FeaturesDay ?? (object)DBNull.Value, NpgsqlDbType = NpgsqlDbType.Date },
                new() { Value = UserDay ?? (object)DBNull.Value, NpgsqlDbType = NpgsqlDbType.Date },
                new() { Value = UserOrdinal },
                new() { Value = UserFindings },
                new NpgsqlParameter<string[]> { TypedValue = [.. FeatureNames] },
                new NpgsqlParameter<int[]> { TypedValue = [.. FeatureDays] },
                new() { Value = NoticesHour ?? (object)DBNull.Value, NpgsqlDbType = NpgsqlDbType.TimestampTz },
                new() { Value = Notices },
            },
        };

    /// <summary>A feature's number, given to it when it is first met; null when there are too many.</summary>
    public int? NumberOf(string featureName, int day)
    {
        int number = FeatureNames.IndexOf(featureName);
        if (number < 0 && FeatureNames.Count < AnomalyLimits.UserFeaturesMax)
        {
            FeatureNames.Add(featureName);
            FeatureDays.Add(day);
            number = FeatureNames.Count - 1;
        }

        return number < 0 ? null : number;
    }
}
