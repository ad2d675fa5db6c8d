using System.Buffers;
using Npgsql;
using UsageMonitor.Server.Anomalies.Detection;

namespace UsageMonitor.Server.Anomalies;

/// <summary>The detectors of a feature, or of all together, and how far they have seen: a row of <c>anomaly_series</c>.</summary>
internal sealed class WatchedSeries
{
    public required string FeatureName { get; init; }

    /// <summary>The beginning of the first hour that it has not seen.</summary>
    public required DateTime FedThrough { get; set; }

    /// <summary>The last hour by the local clock, as the detectors were told.</summary>
    public long FedLocal { get; set; } = long.MinValue;

    /// <summary>Hours that ended before only teach.</summary>
    public required DateTime WatchedSince { get; init; }

    public SeriesDetector Usage { get; init; } = new();

    public SeriesDetector Users { get; init; } = new();

    public SeriesProfile Profile { get; init; } = new();

    private const string ReadSeries = """
        SELECT feature_name, fed_through, fed_local, watched_since, usage_state, users_state, profile
          FROM anomaly_series WHERE enterprise_id = $1
        """;

    /// <summary>All of an enterprise. What another version of the server wrote and this one cannot read is left out: it is learned anew.</summary>
    public static async Task<List<WatchedSeries>> ReadAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        var series = new List<WatchedSeries>();
        await using var command = new NpgsqlCommand(ReadSeries, connection)
        {
            Parameters = { new() { Value = enterpriseId } },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            try
            {
                series.Add(
                    new WatchedSeries
                    {
                        FeatureName = reader.GetString(0),
                        FedThrough = reader.GetDateTime(1),
                        FedLocal = reader.GetInt64(2),
                        WatchedSince = reader.GetDateTime(3),
                        Usage = SeriesDetector.Read(reader.GetFieldValue<byte[]>(4)),
                        Users = SeriesDetector.Read(reader.GetFieldValue<byte[]>(5)),
                        Profile = SeriesProfile.Read(reader.GetFieldValue<byte[]>(6)),
                    }
                );
            }
            catch (FormatException)
            {
                // Its row is written over by the series that begins again.
            }
        }

        return series;
    }

    private const string SaveSeries = """
        INSERT INTO anomaly_series (enterprise_id, feature_name, fed_through, fed_local, watched_since, usage_state, users_state, profile)
        SELECT $1, feature_name, fed_through, fed_local, watched_since, usage_state, users_state, profile
          FROM unnest($2, $3, $4, $5, $6, $7, $8) AS fed (feature_name, fed_through, fed_local, watched_since, usage_state, users_state, profile)
            ON CONFLICT (enterprise_id, feature_name)
            DO UPDATE SET fed_through = excluded.fed_through, fed_local = excluded.fed_local, watched_since = excluded.watched_since,
                          usage_state = excluded.usage_state, users_state = excluded.users_state, profile = excluded.profile
        """;

    public static NpgsqlBatchCommand Save(Guid enterpriseId, IReadOnlyList<WatchedSeries> series) =>
        new(SaveSeries)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new NpgsqlParameter<string[]> { TypedValue = [.. series.Select(one => one.FeatureName)] },
                new NpgsqlParameter<DateTime[]> { TypedValue = [.. series.Select(one => one.FedThrough)] },
                new NpgsqlParameter<long[]> { TypedValue = [.. series.Select(one => one.FedLocal)] },
                new NpgsqlParameter<DateTime[]> { TypedValue = [.. series.Select(one => one.WatchedSince)] },
                new NpgsqlParameter<byte[][]> { TypedValue = [.. series.Select(one => StateOf(one.Usage))] },
                new NpgsqlParameter<byte[][]> { TypedValue = [.. series.Select(one => StateOf(one.Users))] },
                new NpgsqlParameter<byte[][]> { TypedValue = [.. series.Select(one => one.Profile.ToArray())] },
            },
        };

    private const string SaveLooks = """
        UPDATE anomaly_series AS kept SET profile = seen.profile
          FROM unnest($2, $3) AS seen (feature_name, profile)
         WHERE kept.enterprise_id = $1 AND kept.feature_name = seen.feature_name
        """;

    /// <summary>Saves what a look at the running hour has changed, which is not the detectors.</summary>
    public static NpgsqlBatchCommand SaveLook(Guid enterpriseId, IReadOnlyList<WatchedSeries> series) =>
        new(SaveLooks)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new NpgsqlParameter<string[]> { TypedValue = [.. series.Select(one => one.FeatureName)] },
                new NpgsqlParameter<byte[][]> { TypedValue = [.. series.Select(one => one.Profile.ToArray())] },
            },
        };

    private const string DropSeries = """
        DELETE FROM anomaly_series WHERE enterprise_id = $1 AND feature_name = ANY ($2)
        """;

    public static NpgsqlBatchCommand Drop(Guid enterpriseId, IEnumerable<string> features) =>
        new(DropSeries)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new NpgsqlParameter<string[]> { TypedValue = [.. features] },
            },
        };

    private static byte[] StateOf(SeriesDetector detector)
    {
        var writer = new ArrayBufferWriter<byte>(4_096);
        detector.WriteTo(writer);
        return writer.WrittenSpan.ToArray();
    }
}
