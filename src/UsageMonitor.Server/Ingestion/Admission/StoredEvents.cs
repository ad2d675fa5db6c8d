using Npgsql;
using NpgsqlTypes;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>Which events processing has stored already.</summary>
internal static class StoredEvents
{
    /// <summary>As processing takes it: two events of an enterprise with one id are the same when their times are no further apart.</summary>
    public static readonly TimeSpan DeduplicationWindow = TimeSpan.FromDays(32);

    // Constant bounds let PostgreSQL look into the few partitions of the window only.
    private const string Find = """
        SELECT probe.event_id
          FROM unnest($2, $3) AS probe (event_id, event_timestamp)
         WHERE EXISTS (
               SELECT FROM usage_events AS stored
                WHERE stored.enterprise_id = $1
                  AND stored.event_id = probe.event_id
                  AND stored.event_timestamp >= $4
                  AND stored.event_timestamp < $5
                  AND stored.event_timestamp - probe.event_timestamp BETWEEN -$6 AND $6)
        """;

    /// <param name="connection">Of the pipeline's login, perhaps in a transaction.</param>
    /// <param name="enterpriseId">Whose.</param>
    /// <param name="events">Ids and times.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<HashSet<Guid>> FindAsync(
        NpgsqlConnection connection,
        Guid enterpriseId,
        IReadOnlyCollection<(Guid Id, DateTime At)> events,
        CancellationToken cancellationToken
    )
    {
        var found = new HashSet<Guid>();
        if (events.Count == 0)
        {
            return found;
        }

        await using var command = new NpgsqlCommand(Find, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. events.Select(one => one.Id)] });
        command.Parameters.Add(new NpgsqlParameter<DateTime[]> { TypedValue = [.. events.Select(one => one.At)] });
        command.Parameters.Add(Instant(events.Min(one => one.At) - DeduplicationWindow));
        command.Parameters.Add(Instant(events.Max(one => one.At) + DeduplicationWindow));
        command.Parameters.Add(new NpgsqlParameter<TimeSpan> { TypedValue = DeduplicationWindow });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found.Add(reader.GetGuid(0));
        }

        return found;
    }

    private static NpgsqlParameter<DateTime> Instant(DateTime utc) =>
        new NpgsqlParameter<DateTime> { TypedValue = utc, NpgsqlDbType = NpgsqlDbType.TimestampTz };
}
