using System.Runtime.CompilerServices;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>The live events of an enterprise: rows as its own login sees them, properties from the log.</summary>
internal sealed class LiveEvents(
    Database database,
    ScopedTransaction own,
    EnterpriseInfo enterprise,
    EventFilter filter
)
{
    private const int RowsOfBatch = 2_000;
    private const int CommandSeconds = 300;

    private const string Where = """
        WHERE enterprise_id = $1 AND event_timestamp >= $2 AND event_timestamp < $3
          AND ($4::uuid IS NULL OR user_id = $4) AND ($5::text IS NULL OR feature_name = $5) AND ($6::text IS NULL OR event_type = $6)
        """;

    private const string Read = $"""
        SELECT event_id, user_id, feature_name, event_type, event_timestamp, received_at, segment_offset, segment_slot FROM usage_events
        {Where}
        """;

    private const string ReadPage = $"""
        {Read} AND ($7::timestamptz IS NULL OR (event_timestamp, event_id) < ($7, $8::uuid))
         ORDER BY event_timestamp DESC, event_id DESC LIMIT $9
        """;

    /// <summary>The newest before a cursor.</summary>
    public async Task<List<ArchivedEvent>> ReadPageAsync(
        DateTime from,
        DateTime to,
        EventCursor? before,
        int limit,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(
            ReadPage,
            [.. Parameters(from, to), before?.At, before?.EventId, limit]
        );
        command.CommandTimeout = CommandSeconds;
        var rows = new List<(Place, ArchivedEvent)>();
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                rows.Add(Row(reader));
            }
        }

        return [.. await OpenAsync(rows, cancellationToken)];
    }

    /// <summary>All of a stretch, a batch after another.</summary>
    /// <param name="from">Inclusive.</param>
    /// <param name="to">Exclusive.</param>
    /// <param name="inOrder">By time and id, the oldest first.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async IAsyncEnumerable<ArchivedEvent[]> ReadAllAsync(
        DateTime from,
        DateTime to,
        bool inOrder,
        [EnumeratorCancellation] CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(
            inOrder ? Read + " ORDER BY event_timestamp, event_id" : Read,
            [.. Parameters(from, to)]
        );
        command.CommandTimeout = CommandSeconds;
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        var batch = new List<(Place, ArchivedEvent)>(RowsOfBatch);
        while (await reader.ReadAsync(cancellationToken))
        {
            batch.Add(Row(reader));
            if (batch.Count == RowsOfBatch)
            {
                yield return await OpenAsync(batch, cancellationToken);
                batch.Clear();
            }
        }

        if (batch.Count > 0)
        {
            yield return await OpenAsync(batch, cancellationToken);
        }
    }

    /// <summary>How many there are of each.</summary>
    /// <param name="expression">What of a row: a constant of ours.</param>
    /// <param name="from">Inclusive.</param>
    /// <param name="to">Exclusive.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<List<(string Name, long Events)>> CountAsync(
        string expression,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(
            $"SELECT {expression}, count(*) FROM usage_events {Where} GROUP BY 1",
            [.. Parameters(from, to)]
        );
        command.CommandTimeout = CommandSeconds;
        var groups = new List<(string, long)>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            groups.Add((reader.GetString(0), reader.GetInt64(1)));
        }

        return groups;
    }

    private object?[] Parameters(DateTime from, DateTime to) =>
        [enterprise.EnterpriseId, from, to, filter.UserId, filter.FeatureName, filter.EventType];

    private static (Place, ArchivedEvent) Row(NpgsqlDataReader reader) =>
        (
            new Place(reader.GetInt64(6), reader.GetInt32(7), reader.GetDateTime(5)),
            new ArchivedEvent(
                reader.GetGuid(0),
                reader.GetGuid(1),
                reader.GetString(2),
                reader.GetString(3),
                reader.GetDateTime(4),
                reader.GetDateTime(5),
                null
            )
        );

    // In the order they came in.
    private async Task<ArchivedEvent[]> OpenAsync(
        List<(Place Where, ArchivedEvent Event)> rows,
        CancellationToken cancellationToken
    )
    {
        var events = new ArchivedEvent[rows.Count];
        await LiveProperties.OpenAsync(
            database,
            enterprise.LogPartition,
            [.. Enumerable.Range(0, rows.Count)],
            index => rows[index].Where,
            _ => enterprise,
            (index, properties) => events[index] = rows[index].Event with { Properties = properties },
            cancellationToken
        );
        return events;
    }
}
