using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>One counter from what is stored, for a meter so new that processing has not begun to count it.</summary>
internal static class MeterHistory
{
    // The feature of all, '', is in the hours and days too: a pattern must not add it.
    private const string OfEverybody = """
        SELECT coalesce(sum(value), 0)::bigint FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = $5 AND feature_name <> ''
           AND starts_with(feature_name, $2) AND ($6 OR feature_name = $2)
           AND time_bucket >= $3 AND time_bucket < $4
        """;

    private const string OfDays = """
        SELECT coalesce(sum(usage_count), 0)::bigint FROM user_usage_aggregates
         WHERE enterprise_id = $1 AND user_id = ANY ($7)
           AND starts_with(feature_name, $2) AND ($6 OR feature_name = $2)
           AND time_bucket >= $3 AND time_bucket < $4
        """;

    private const string OfAnHour = """
        SELECT count(*) FROM usage_events
         WHERE enterprise_id = $1 AND user_id = ANY ($7)
           AND starts_with(feature_name, $2) AND ($6 OR feature_name = $2)
           AND event_timestamp >= $3 AND event_timestamp < $4
        """;

    public static async Task<long> CountAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        Counter counter,
        LimitSet limits,
        CancellationToken cancellationToken
    )
    {
        LimitMeter meter = counter.Meter;
        bool isBeginning = meter.FeatureName.EndsWith('*');
        bool isHour = meter.Window == LimitWindow.Hourly;
        string sql =
            meter.Scope == LimitScope.Enterprise ? OfEverybody
            : isHour ? OfAnHour
            : OfDays;
        await using var command = new NpgsqlCommand(sql, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = meter.FeatureName.TrimEnd('*') });
        command.Parameters.Add(Instant(counter.Window.Start));
        command.Parameters.Add(Instant(counter.Window.End));
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = isHour ? "hour" : "day" });
        command.Parameters.Add(new NpgsqlParameter<bool> { TypedValue = isBeginning });
        if (meter.Scope != LimitScope.Enterprise)
        {
            command.Parameters.Add(
                new NpgsqlParameter<Guid[]>
                {
                    TypedValue = meter.Scope == LimitScope.User ? [counter.SubjectId] : [.. limits.HoldersOf(meter)],
                }
            );
        }

        return (long)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    private static NpgsqlParameter<DateTime> Instant(DateTime utc) =>
        new NpgsqlParameter<DateTime> { TypedValue = utc, NpgsqlDbType = NpgsqlDbType.TimestampTz };
}
