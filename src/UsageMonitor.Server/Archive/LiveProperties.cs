using System.Text;
using Npgsql;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive;

/// <summary>Where a live event's properties are.</summary>
internal readonly record struct Place(long SegmentOffset, int Slot, DateTime ReceivedAt);

/// <summary>Opens the properties of live events, which lie in the log: each segment is read once for all of its events.</summary>
internal static class LiveProperties
{
    /// <summary>Segments of one query.</summary>
    private const int SegmentsMax = 256;

    // A segment's time of appending is its events' time of receipt: so only that month's partition is looked into.
    private const string ReadSegments = """
        SELECT segment_offset, properties FROM log_segments
         WHERE log_partition = $1 AND segment_offset = ANY ($2) AND appended_at >= $3 AND appended_at <= $4
        """;

    /// <summary>Calls back for each event with its properties, segment by segment.</summary>
    /// <param name="database">Segments hold events of many enterprises: the pipeline's login reads them.</param>
    /// <param name="partition">The log partition of all of them.</param>
    /// <param name="events">In any order.</param>
    /// <param name="placeOf">Where an event's are.</param>
    /// <param name="enterpriseOf">Whose an event is: its key opens them.</param>
    /// <param name="found">Takes the event and its properties, null when it has none.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <exception cref="InvalidDataException">A segment is missing.</exception>
    public static async Task OpenAsync<T>(
        Database database,
        short partition,
        IReadOnlyList<T> events,
        Func<T, Place> placeOf,
        Func<T, EnterpriseInfo> enterpriseOf,
        Action<T, string?> found,
        CancellationToken cancellationToken
    )
    {
        IGrouping<long, T>[] segments = [.. events.GroupBy(one => placeOf(one).SegmentOffset).OrderBy(one => one.Key)];
        foreach (IGrouping<long, T>[] some in segments.Chunk(SegmentsMax))
        {
            var wanted = some.ToDictionary(segment => segment.Key, segment => segment.ToList());
            await using NpgsqlCommand command = database.Pipeline.CreateCommand(ReadSegments);
            command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = partition });
            command.Parameters.Add(new NpgsqlParameter<long[]> { TypedValue = [.. wanted.Keys] });
            command.Parameters.Add(Columns.Value(wanted.Values.Min(own => own.Min(one => placeOf(one).ReceivedAt))));
            command.Parameters.Add(Columns.Value(wanted.Values.Max(own => own.Max(one => placeOf(one).ReceivedAt))));
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                wanted.Remove(reader.GetInt64(0), out List<T>? own);
                byte[] properties = reader.GetFieldValue<byte[]>(1);
                foreach (IGrouping<EnterpriseInfo, T> ofOne in own!.GroupBy(enterpriseOf))
                {
                    IReadOnlyList<ReadOnlyMemory<byte>> all = SegmentCodec.OpenAllProperties(ofOne.Key, properties);
                    foreach (T one in ofOne)
                    {
                        ReadOnlyMemory<byte> text = all[placeOf(one).Slot];
                        found(one, text.IsEmpty ? null : Encoding.UTF8.GetString(text.Span));
                    }
                }
            }

            if (wanted.Count > 0)
            {
                throw new InvalidDataException(
                    $"Segment {wanted.Keys.First()} of partition {partition} is gone, but stored events point to it."
                );
            }
        }
    }
}
