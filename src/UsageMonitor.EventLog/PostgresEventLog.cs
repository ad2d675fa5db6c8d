using Npgsql;

namespace UsageMonitor.EventLog;

/// <summary>The event log on PostgreSQL tables: <c>log_partitions</c> holds the heads, <c>log_segments</c> the segments.</summary>
/// <remarks>
/// Appending updates its partitions' heads first and inserts in the same transaction. The row locks are held until the
/// commit is durable, so the next appender takes its offset only when the one before is visible: no reader can see offset
/// n + 1 without n, and an aborted append gives its offset back. Partitions are locked in ascending order, so appenders
/// cannot deadlock.
/// </remarks>
/// <param name="dataSource">A login that may read and write the log's tables.</param>
/// <param name="partitionCount">As read by <see cref="ReadPartitionCountAsync"/>.</param>
public sealed class PostgresEventLog(NpgsqlDataSource dataSource, int partitionCount) : IEventLog
{
    /// <summary>Segments one read looks at, however few events they hold.</summary>
    public const int ReadSegmentsMax = 2_048;

    /// <inheritdoc/>
    public int PartitionCount { get; } = partitionCount;

    /// <summary>How many partitions the log in this database has.</summary>
    public static async Task<int> ReadPartitionCountAsync(
        NpgsqlDataSource dataSource,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = dataSource.CreateCommand("SELECT count(*)::int FROM log_partitions");
        return (int)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    private const string AppendSql = """
        WITH head AS (
            UPDATE log_partitions
               SET next_offset = next_offset + 1,
                   appended_events = appended_events + $2,
                   last_appended_at = greatest(last_appended_at, clock_timestamp())
             WHERE log_partition = $1
            RETURNING next_offset - 1 AS segment_offset, last_appended_at
        )
        INSERT INTO log_segments
            (log_partition, segment_offset, appended_at, event_count, enterprise_ids, accepted, rejected, headers, properties)
        SELECT $1, segment_offset, last_appended_at, $2, $3, $4, $5, $6, $7 FROM head
        """;

    /// <inheritdoc/>
    public async Task AppendAsync(IReadOnlyList<SegmentDraft> segments, CancellationToken cancellationToken)
    {
        if (segments.Select(segment => segment.Partition).Distinct().Count() != segments.Count)
        {
            throw new ArgumentException("At most one segment a partition.", nameof(segments));
        }

        if (segments.Any(segment => segment.Partition < 0 || segment.Partition >= PartitionCount))
        {
            throw new EventLogUnavailableException(
                $"A segment names a partition that the log does not have: it has {PartitionCount}."
            );
        }

        if (segments.Count == 0)
        {
            return;
        }

        try
        {
            await using NpgsqlConnection connection = await dataSource.OpenConnectionAsync(cancellationToken);

            // One batch without BEGIN is one implicit transaction and one round trip.
            await using var batch = new NpgsqlBatch(connection);
            foreach (SegmentDraft segment in segments.OrderBy(segment => segment.Partition))
            {
                batch.BatchCommands.Add(AppendCommand(segment));
            }

            await batch.ExecuteNonQueryAsync(cancellationToken);
        }
        catch (NpgsqlException exception)
        {
            throw new EventLogUnavailableException("The event log could not append: " + exception.Message, exception);
        }
    }

    private static NpgsqlBatchCommand AppendCommand(SegmentDraft segment)
    {
        int count = segment.Tallies.Count;
        var enterprises = new Guid[count];
        int[] accepted = new int[count];
        int[] rejected = new int[count];
        int events = 0;
        for (int i = 0; i < count; i++)
        {
            SegmentTally tally = segment.Tallies[i];
            (enterprises[i], accepted[i], rejected[i]) = (tally.EnterpriseId, tally.Accepted, tally.Rejected);
            events += tally.Accepted;
        }

        return new NpgsqlBatchCommand(AppendSql)
        {
            Parameters =
            {
                new NpgsqlParameter<short> { TypedValue = segment.Partition },
                new NpgsqlParameter<int> { TypedValue = events },
                new NpgsqlParameter<Guid[]> { TypedValue = enterprises },
                new NpgsqlParameter<int[]> { TypedValue = accepted },
                new NpgsqlParameter<int[]> { TypedValue = rejected },
                new NpgsqlParameter<ReadOnlyMemory<byte>> { TypedValue = segment.Headers },
                new NpgsqlParameter<ReadOnlyMemory<byte>> { TypedValue = segment.Properties },
            },
        };
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<Segment>> ReadAsync(
        short partition,
        long after,
        int eventsMax,
        CancellationToken cancellationToken
    )
    {
        const string Sql = """
            SELECT segment_offset, appended_at, enterprise_ids, accepted, rejected, headers
              FROM (SELECT *, sum(event_count) OVER (ORDER BY segment_offset) AS events,
                           row_number() OVER (ORDER BY segment_offset) AS place
                      FROM (SELECT segment_offset, appended_at, event_count, enterprise_ids, accepted, rejected, headers
                              FROM log_segments
                             WHERE log_partition = $1 AND segment_offset > $2
                             ORDER BY segment_offset
                             LIMIT $4) AS next) AS counted
             WHERE events <= $3 OR place = 1
             ORDER BY segment_offset
            """;
        var segments = new List<Segment>();
        await using NpgsqlCommand command = dataSource.CreateCommand(Sql);
        command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = partition });
        command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = after });
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = eventsMax });
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = ReadSegmentsMax });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            Guid[] enterprises = reader.GetFieldValue<Guid[]>(2);
            int[] accepted = reader.GetFieldValue<int[]>(3);
            int[] rejected = reader.GetFieldValue<int[]>(4);
            var tallies = new SegmentTally[enterprises.Length];
            for (int i = 0; i < tallies.Length; i++)
            {
                tallies[i] = new SegmentTally(enterprises[i], accepted[i], rejected[i]);
            }

            segments.Add(
                new Segment(
                    partition,
                    reader.GetInt64(0),
                    reader.GetFieldValue<DateTimeOffset>(1),
                    tallies,
                    reader.GetFieldValue<byte[]>(5)
                )
            );
        }

        return segments;
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<AppendedTally>> ReadTalliesAsync(
        short partition,
        long after,
        CancellationToken cancellationToken
    )
    {
        const string Sql = """
            SELECT segment_offset, appended_at, tally.enterprise_id, tally.accepted, tally.rejected
              FROM log_segments, unnest(enterprise_ids, accepted, rejected) AS tally (enterprise_id, accepted, rejected)
             WHERE log_partition = $1 AND segment_offset > $2
             ORDER BY segment_offset
            """;
        var tallies = new List<AppendedTally>();
        await using NpgsqlCommand command = dataSource.CreateCommand(Sql);
        command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = partition });
        command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = after });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            var tally = new SegmentTally(reader.GetGuid(2), reader.GetInt32(3), reader.GetInt32(4));
            tallies.Add(new AppendedTally(reader.GetInt64(0), reader.GetFieldValue<DateTimeOffset>(1), tally));
        }

        return tallies;
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<PartitionHead>> ReadHeadsAsync(CancellationToken cancellationToken)
    {
        const string Sql =
            "SELECT log_partition, next_offset - 1, appended_events FROM log_partitions ORDER BY log_partition";
        var heads = new List<PartitionHead>();
        await using NpgsqlCommand command = dataSource.CreateCommand(Sql);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            heads.Add(new PartitionHead(reader.GetInt16(0), reader.GetInt64(1), reader.GetInt64(2)));
        }

        return heads;
    }

    /// <inheritdoc/>
    public async Task TrimAsync(short partition, long through, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = dataSource.CreateCommand(
            "DELETE FROM log_segments WHERE log_partition = $1 AND segment_offset <= $2"
        );
        command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = partition });
        command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = through });
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
