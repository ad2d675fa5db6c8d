using Npgsql;

namespace UsageMonitor.Server.Anomalies;

/// <summary>The statements with which a pass reads and writes anomalies, in its transaction.</summary>
internal static class FindingStore
{
    private const string ReadGoing = """
        SELECT anomaly_id, kind, series, feature_name, starts_at, opened_at, ends_at, observed, expected, low, high, score, status, detail
          FROM anomalies
         WHERE enterprise_id = $1 AND series <> 'USER'
           AND (status = 'OPEN' OR (is_expected AND ends_at >= $2 AND anomaly_id >= $3))
        """;

    /// <summary>What goes on: open ones, and those that a person called expected and that reach to where feeding is.</summary>
    public static async Task<List<Finding>> ReadGoingAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        DateTime fedThrough,
        CancellationToken cancellationToken
    )
    {
        var going = new List<Finding>();
        await using var command = new NpgsqlCommand(ReadGoing, connection)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                new() { Value = fedThrough },
                // Ids are in the order of their opening, so that the old ones need not be looked at.
                new() { Value = FirstIdAt(fedThrough - AnomalyLimits.StoppedMax) },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            bool isOpen = reader.GetString(12) == AnomalyTerms.Open;
            going.Add(
                new Finding
                {
                    AnomalyId = reader.GetGuid(0),
                    Kind = reader.GetString(1),
                    Series = reader.GetString(2),
                    FeatureName = reader.GetString(3),
                    StartsAt = reader.GetDateTime(4),
                    OpenedAt = reader.GetDateTime(5),
                    EndsAt = reader.GetDateTime(6),
                    Observed = reader.GetDouble(7),
                    Expected = reader.GetDouble(8),
                    Low = reader.GetDouble(9),
                    High = reader.GetDouble(10),
                    Score = reader.GetDouble(11),
                    Status = isOpen ? AnomalyTerms.Open : AnomalyTerms.Resolved,
                    Detail = reader.GetString(13),
                    IsMuted = !isOpen,
                }
            );
        }

        return going;
    }

    /// <summary>The least UUIDv7 of an instant.</summary>
    public static Guid FirstIdAt(DateTime utc)
    {
        Span<byte> bytes = stackalloc byte[16];
        Guid.CreateVersion7(new DateTimeOffset(utc)).TryWriteBytes(bytes, bigEndian: true, out _);
        bytes[6] = 0x70;
        bytes[7] = 0;
        bytes[8] = 0x80;
        bytes[9..].Clear();
        return new Guid(bytes, bigEndian: true);
    }

    private const string Insert = """
        INSERT INTO anomalies
            (enterprise_id, anomaly_id, kind, series, feature_name, user_id, starts_at, ends_at, observed, expected, low, high, score, status,
             detail, opened_at, resolved_at)
        SELECT $1, anomaly_id, kind, series, feature_name, user_id, starts_at, ends_at, observed, expected, low, high, score, status,
               detail, opened_at, resolved_at
          FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
               AS found (anomaly_id, kind, series, feature_name, user_id, starts_at, ends_at, observed, expected, low, high, score, status,
                         detail, opened_at, resolved_at)
            ON CONFLICT (enterprise_id, series, feature_name, user_id, kind, starts_at) DO NOTHING
        """;

    // One that a person has answered meanwhile stays answered; it is only seen to last longer.
    private const string Update = """
        UPDATE anomalies AS kept
           SET ends_at = found.ends_at, observed = found.observed, expected = found.expected, low = found.low, high = found.high,
               score = found.score, detail = found.detail,
               status = CASE WHEN kept.status = 'RESOLVED' THEN kept.status ELSE found.status END,
               resolved_at = coalesce(kept.resolved_at, found.resolved_at)
          FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
               AS found (anomaly_id, kind, series, feature_name, user_id, starts_at, ends_at, observed, expected, low, high, score, status,
                         detail, opened_at, resolved_at)
         WHERE kept.enterprise_id = $1 AND kept.anomaly_id = found.anomaly_id
        """;

    /// <summary>What writes the findings; nothing when there is nothing.</summary>
    public static IEnumerable<NpgsqlBatchCommand> Save(Guid enterpriseId, IEnumerable<Finding> changed)
    {
        List<Finding> all = [.. changed];
        List<Finding> added = all.FindAll(found => found.IsNew);
        if (added.Count > 0)
        {
            yield return Command(Insert, enterpriseId, added);
        }

        List<Finding> moved = all.FindAll(found => !found.IsNew);
        if (moved.Count > 0)
        {
            yield return Command(Update, enterpriseId, moved);
        }
    }

    private static NpgsqlBatchCommand Command(string sql, Guid enterpriseId, List<Finding> rows)
    {
        return new NpgsqlBatchCommand(sql)
        {
            Parameters =
            {
                new() { Value = enterpriseId },
                Column(found => found.AnomalyId),
                Column(found => found.Kind),
                Column(found => found.Series),
                Column(found => found.FeatureName),
                Column(found => found.UserId),
                Column(found => found.StartsAt),
                Column(found => found.EndsAt),
                Column(found => found.Observed),
                Column(found => found.Expected),
                Column(found => found.Low),
                Column(found => found.High),
                Column(found => found.Score),
                Column(found => found.Status),
                Column(found => found.Detail),
                Column(found => found.OpenedAt),
                Column(found => found.ResolvedAt),
            },
        };

        NpgsqlParameter<T[]> Column<T>(Func<Finding, T> read) => new() { TypedValue = [.. rows.Select(read)] };
    }
}
