using Npgsql;

namespace UsageMonitor.EventLog;

/// <summary>The event log on PostgreSQL tables: <c>log_partitions</c> holds the heads, <c>log_segments</c> the segments.</summary>
/// <remarks>
/// Appending locks its partitions' heads first, then takes the offsets and inserts, in one transaction. The row locks are held until the
/// commit is durable, so the next appender takes its offset only when the one before is visible: no reader can see offset
/// n + 1 without n, and an aborted append gives its offset back. Partitions are locked in ascending order, so appenders
/// cannot deadlock. Fences are read and raised under the same row locks: see <see cref="IEventLog.RaiseFenceAsync"/>.
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

    private const string LockSql =
        "SELECT FROM log_partitions WHERE log_partition = ANY ($1) ORDER BY log_partition FOR UPDATE";

    private const string AppendSql = """
        WITH added AS (
            SELECT * FROM unnest($1, $2, $3, $4, $5) AS segment (log_partition, event_count, tallies, headers, properties)
        ), head AS (
            UPDATE log_partitions AS kept
               SET next_offset = next_offset + 1,
                   appended_events = appended_events + added.event_count,
                   last_appended_at = greatest(last_appended_at, clock_timestamp())
              FROM added
             WHERE kept.log_partition = added.log_partition
            RETURNING kept.log_partition, next_offset - 1 AS segment_offset, last_appended_at
        )
        INSERT INTO log_segments (log_partition, segment_offset, appended_at, event_count, tallies, headers, properties)
        SELECT head.log_partition, segment_offset, last_appended_at, event_count, tallies, headers, properties
          FROM head JOIN added ON added.log_partition = head.log_partition
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
            var partitions = new NpgsqlParameter<short[]>
            {
                TypedValue = [.. segments.Select(segment => segment.Partition)],
            };
            batch.BatchCommands.Add(new NpgsqlBatchCommand(LockSql) { Parameters = { partitions.Clone() } });
            AddFences(batch, segments);
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(AppendSql)
                {
                    Parameters =
                    {
                        partitions,
                        new NpgsqlParameter<int[]>
                        {
                            TypedValue = [.. segments.Select(segment => segment.Tallies.Sum(tally => tally.Kept))],
                        },
                        new NpgsqlParameter<byte[][]>
                        {
                            TypedValue = [.. segments.Select(segment => TallyCodec.Encode(segment.Tallies))],
                        },
                        new NpgsqlParameter<ReadOnlyMemory<byte>[]>
                        {
                            TypedValue = [.. segments.Select(segment => segment.Headers)],
                        },
                        new NpgsqlParameter<ReadOnlyMemory<byte>[]>
                        {
                            TypedValue = [.. segments.Select(segment => segment.Properties)],
                        },
                    },
                }
            );
            await batch.ExecuteNonQueryAsync(cancellationToken);
        }
        catch (PostgresException exception) when (exception.SqlState == FenceRaised)
        {
            throw new EventLogFencedException(exception.MessageText.Split(',').Select(Guid.Parse).ToHashSet());
        }
        catch (NpgsqlException exception)
        {
            throw new EventLogUnavailableException("The event log could not append: " + exception.Message, exception);
        }
    }

    // Parameters of no row cost an append without limited usage nothing: there are no such commands then.
    private static void AddFences(NpgsqlBatch batch, IReadOnlyList<SegmentDraft> segments)
    {
        SegmentFence[] fences = [.. segments.SelectMany(segment => segment.Fences)];
        if (fences.Length > 0)
        {
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand("SELECT check_log_fences($1, $2)")
                {
                    Parameters =
                    {
                        new NpgsqlParameter<Guid[]> { TypedValue = [.. fences.Select(fence => fence.EnterpriseId)] },
                        new NpgsqlParameter<long[]> { TypedValue = [.. fences.Select(fence => fence.Fence)] },
                    },
                }
            );
        }

        // In one order, whatever the partitions: two appends of other partitions never wait for each other's rows anyway.
        Guid[] raises = [.. segments.SelectMany(segment => segment.Raises).Distinct().Order()];
        if (raises.Length > 0)
        {
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(RaiseSql)
                {
                    Parameters = { new NpgsqlParameter<Guid[]> { TypedValue = raises } },
                }
            );
        }
    }

    private const string FenceRaised = "UM001";

    private const string RaiseSql = """
        INSERT INTO log_fences AS kept (enterprise_id, fence) SELECT id, 1 FROM unnest($1) AS id
            ON CONFLICT (enterprise_id) DO UPDATE SET fence = kept.fence + 1
        RETURNING fence
        """;

    /// <inheritdoc/>
    public async Task<long> RaiseFenceAsync(short partition, Guid enterpriseId, CancellationToken cancellationToken)
    {
        try
        {
            // The partition's row first, as every append does: so the appends under a lower fence have committed, and the next
            // one sees the fence that this commits.
            await using NpgsqlConnection connection = await dataSource.OpenConnectionAsync(cancellationToken);
            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
            await using var batch = new NpgsqlBatch(connection, transaction);
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(LockSql)
                {
                    Parameters = { new NpgsqlParameter<short[]> { TypedValue = [partition] } },
                }
            );
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(RaiseSql)
                {
                    Parameters = { new NpgsqlParameter<Guid[]> { TypedValue = [enterpriseId] } },
                }
            );
            long fence = 0;
            await using (NpgsqlDataReader reader = await batch.ExecuteReaderAsync(cancellationToken))
            {
                await reader.NextResultAsync(cancellationToken);
                await reader.ReadAsync(cancellationToken);
                fence = reader.GetInt64(0);
            }

            await transaction.CommitAsync(cancellationToken);
            return fence;
        }
        catch (NpgsqlException exception)
        {
            throw new EventLogUnavailableException(
                "The event log could not be fenced: " + exception.Message,
                exception
            );
        }
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
            SELECT segment_offset, appended_at, tallies, headers
              FROM (SELECT *, sum(event_count) OVER (ORDER BY segment_offset) AS events,
                           row_number() OVER (ORDER BY segment_offset) AS place
                      FROM (SELECT segment_offset, appended_at, event_count, tallies, headers
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
            segments.Add(
                new Segment(
                    partition,
                    reader.GetInt64(0),
                    reader.GetFieldValue<DateTimeOffset>(1),
                    TallyCodec.Decode(reader.GetFieldValue<byte[]>(2)),
                    reader.GetFieldValue<byte[]>(3)
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
            SELECT segment_offset, appended_at, tallies FROM log_segments
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
            (long offset, DateTimeOffset appendedAt) = (reader.GetInt64(0), reader.GetFieldValue<DateTimeOffset>(1));
            tallies.AddRange(
                TallyCodec
                    .Decode(reader.GetFieldValue<byte[]>(2))
                    .Select(tally => new AppendedTally(offset, appendedAt, tally))
            );
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
