using System.Text;
using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Which anomalies are listed.</summary>
/// <param name="From">Those that lasted until then or longer.</param>
/// <param name="To">Those that began before.</param>
/// <param name="Kind">Of this kind only.</param>
/// <param name="FeatureName">Of this feature only.</param>
/// <param name="UserId">Of this user only.</param>
/// <param name="IsOpen">Open ones, or resolved ones, only.</param>
/// <param name="Before">Older than this one only.</param>
internal sealed record AnomalyFilter(
    DateTime From,
    DateTime To,
    string? Kind = null,
    string? FeatureName = null,
    Guid? UserId = null,
    bool? IsOpen = null,
    Guid? Before = null
)
{
    /// <summary>Of this series only.</summary>
    public string? Series { get; init; }
}

/// <summary>Anomalies and expected ranges as people are shown them.</summary>
internal static class AnomalyReader
{
    private const string Columns = """
        a.anomaly_id, a.kind, a.series, a.feature_name, a.user_id, u.external_id, a.starts_at, a.ends_at, a.observed, a.expected, a.low, a.high,
        a.score, a.status, a.detail, a.opened_at, a.resolved_at, a.is_expected, a.note, a.answered_by, a.answered_at
        """;

    private const string From = """
        FROM anomalies AS a LEFT JOIN users AS u ON u.enterprise_id = a.enterprise_id AND u.user_id = a.user_id
        """;

    private const string ListAnomalies = $"""
        SELECT {Columns} {From}
         WHERE a.enterprise_id = $1 AND a.ends_at >= $2 AND a.starts_at < $3
           AND ($4::text IS NULL OR a.kind = $4) AND ($5::text IS NULL OR a.feature_name = $5) AND ($6::uuid IS NULL OR a.user_id = $6)
           AND ($7::boolean IS NULL OR (a.status = 'OPEN') = $7) AND ($8::uuid IS NULL OR a.anomaly_id < $8)
           AND ($9::text IS NULL OR a.series = $9)
         ORDER BY a.anomaly_id DESC LIMIT $10
        """;

    /// <param name="own">In the enterprise's scope.</param>
    /// <param name="enterprise">Whose.</param>
    /// <param name="filter">Which.</param>
    /// <param name="limit">At most so many.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<List<AnomalyResponse>> ListAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        AnomalyFilter filter,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var listed = new List<AnomalyResponse>();
        await using NpgsqlCommand command = own.Command(ListAnomalies, enterprise.EnterpriseId, filter.From, filter.To);
        command.Parameters.Add(Nullable(filter.Kind, NpgsqlDbType.Text));
        command.Parameters.Add(Nullable(filter.FeatureName, NpgsqlDbType.Text));
        command.Parameters.Add(Nullable(filter.UserId, NpgsqlDbType.Uuid));
        command.Parameters.Add(Nullable(filter.IsOpen, NpgsqlDbType.Boolean));
        command.Parameters.Add(Nullable(filter.Before, NpgsqlDbType.Uuid));
        command.Parameters.Add(Nullable(filter.Series, NpgsqlDbType.Text));
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = limit });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            listed.Add(Read(reader, enterprise));
        }

        return listed;
    }

    private const string FindAnomaly = $"SELECT {Columns} {From} WHERE a.enterprise_id = $1 AND a.anomaly_id = $2";

    /// <returns>Null when the enterprise has no such anomaly.</returns>
    public static async Task<AnomalyResponse?> FindAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid anomalyId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(FindAnomaly, enterprise.EnterpriseId, anomalyId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? Read(reader, enterprise) : null;
    }

    private const string ReadExpected = """
        SELECT time_bucket, expected, low, high, score FROM anomaly_expectations
         WHERE enterprise_id = $1 AND feature_name = $2 AND series = $3 AND time_bucket >= $4 AND time_bucket < $5
         ORDER BY time_bucket
        """;

    /// <summary>The ranges of the hours between two instants.</summary>
    public static async Task<List<ExpectedHour>> ExpectedAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        string featureName,
        string series,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        var hours = new List<ExpectedHour>();
        await using NpgsqlCommand command = own.Command(
            ReadExpected,
            enterprise.EnterpriseId,
            featureName,
            series,
            from,
            to
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            hours.Add(
                new ExpectedHour(
                    local.Show(reader.GetDateTime(0)),
                    Math.Max(0, reader.GetFloat(1)),
                    Math.Max(0, reader.GetFloat(2)),
                    Math.Max(0, reader.GetFloat(3)),
                    reader.GetFloat(4)
                )
            );
        }

        return hours;
    }

    public static byte[] SealNote(EnterpriseInfo enterprise, Guid anomalyId, string note) =>
        Sealing.Seal(enterprise.DataKey, Encoding.UTF8.GetBytes(note), NoteContext(enterprise, anomalyId));

    private static byte[] NoteContext(EnterpriseInfo enterprise, Guid anomalyId) =>
        [.. enterprise.EnterpriseId.ToByteArray(), .. anomalyId.ToByteArray(), .. "anomaly-note"u8];

    private static AnomalyResponse Read(NpgsqlDataReader reader, EnterpriseInfo enterprise)
    {
        var local = new LocalTime(enterprise.TimeZone);
        Guid anomalyId = reader.GetGuid(0);
        string feature = reader.GetString(3);
        Guid userId = reader.GetGuid(4);
        return new AnomalyResponse(
            anomalyId,
            reader.GetString(1),
            reader.GetString(2),
            feature.Length == 0 ? null : feature,
            userId == Guid.Empty ? null
                : reader.IsDBNull(5) ? userId.ToString()
                : ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(5)),
            local.Show(reader.GetDateTime(6)),
            local.Show(reader.GetDateTime(7)),
            reader.GetDouble(8),
            Math.Max(0, reader.GetDouble(9)),
            Math.Max(0, reader.GetDouble(10)),
            Math.Max(0, reader.GetDouble(11)),
            reader.GetDouble(12),
            reader.GetString(13),
            reader.GetString(14),
            local.Show(reader.GetDateTime(15)),
            reader.IsDBNull(16) ? null : local.Show(reader.GetDateTime(16)),
            reader.IsDBNull(17) || reader.IsDBNull(20)
                ? null
                : new AnomalyFeedback(
                    reader.GetBoolean(17),
                    reader.IsDBNull(18)
                        ? null
                        : Encoding.UTF8.GetString(
                            Sealing.Open(
                                enterprise.DataKey,
                                reader.GetFieldValue<byte[]>(18),
                                NoteContext(enterprise, anomalyId)
                            )
                        ),
                    reader.GetFieldValue<Guid?>(19),
                    local.Show(reader.GetDateTime(20))
                )
        );
    }

    private static NpgsqlParameter Nullable(object? value, NpgsqlDbType type) =>
        new() { Value = value ?? DBNull.Value, NpgsqlDbType = type };
}
