using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing.Metering;

namespace UsageMonitor.Server.Processing;

/// <summary>One step of one partition: everything that some of its segments mean for the store, in one transaction.</summary>
/// <remarks>
/// <para>Invariant: the effect of every accepted event is exactly once.</para>
/// <para>
/// The position row is locked first and advanced in the same transaction as everything the segments caused. So at every
/// line below, a crash leaves either all of the step or none of it: none, and the next worker reads the same segments
/// again from the same position; all, and it starts after them. Nothing else moves a position, and the lock keeps two
/// workers from taking the same step. An enterprise's events are all in one partition, so nobody else stores events of
/// it meanwhile, and what <see cref="StoreWriter.FindStoredAsync"/> has seen stays true until the commit; the unique
/// index of <c>usage_events</c> would fail the step if it did not.
/// </para>
/// <para>
/// The commit need not wait for the disk: a step that is lost with PostgreSQL's last moments is lost with its position,
/// and its segments, which were durable before their senders were answered, are processed again. Only a step that
/// creates users waits, because their numbers are remembered: see <see cref="UserOrdinals"/>.
/// </para>
/// </remarks>
internal sealed class PartitionStep(
    Database database,
    IEventLog log,
    EnterpriseDirectory enterprises,
    MonthPartitions months,
    MeteringSources metering,
    TimeProvider time
)
{
    /// <summary>Events of one step; bounds its memory and how long it holds the position's lock.</summary>
    public const int StepEventsMax = 20_000;

    private readonly UserOrdinals _users = new();
    private readonly SetLevels _levels = new();
    private readonly StepMetering _metering = new(metering, time);
    private readonly Dictionary<Guid, LocalTime> _localTimes = [];

    /// <summary>What a step did.</summary>
    /// <param name="Events">Events read from the log; 0 when there was nothing to do or another worker had the partition.</param>
    /// <param name="Stored">Events stored.</param>
    /// <param name="Through">The offset it advanced to.</param>
    /// <param name="Enterprises">Whose numbers changed.</param>
    public sealed record Outcome(int Events, int Stored, long Through, IReadOnlyCollection<Guid> Enterprises)
    {
        public static readonly Outcome Nothing = new(0, 0, 0, []);
    }

    public async Task<Outcome> RunAsync(short partition, CancellationToken cancellationToken)
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        if (await LockPositionAsync(connection, partition, cancellationToken) is not var (position, metersVersion))
        {
            return Outcome.Nothing;
        }

        IReadOnlyList<Segment> segments = await log.ReadAsync(partition, position, StepEventsMax, cancellationToken);
        if (segments.Count == 0)
        {
            return Outcome.Nothing;
        }

        StepEvents step = await StepEvents.OpenAsync(segments, enterprises, LocalTimeOf, cancellationToken);
        var writer = new StoreWriter(connection, partition, months);
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            enterprise.MarkRepeats();
        }

        await writer.FindStoredAsync(step, cancellationToken);
        await ArchivedKeys.FindAsync(connection, step, time.GetUtcNow(), cancellationToken);
        await _users.ResolveAsync(connection, step, time.GetUtcNow(), cancellationToken);
        await _metering.CountAsync(connection, partition, metersVersion, step, cancellationToken);
        List<StepTotals> totals = [.. step.Enterprises.Select(enterprise => StepTotals.Of(enterprise, segments))];
        await writer.WriteAsync(step, totals, cancellationToken);
        await _levels.CompactAsync(connection, totals, segments[^1].Offset, cancellationToken);
        await _metering.WriteAsync(connection, step, cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        _users.Remember();
        _metering.Committed();
        return new Outcome(
            step.Count,
            step.StoredCount,
            segments[^1].Offset,
            [.. step.Enterprises.Select(enterprise => enterprise.Id)]
        );
    }

    /// <summary>The position, locked; null when another worker has it.</summary>
    private static async Task<(long Offset, long MetersVersion)?> LockPositionAsync(
        NpgsqlConnection connection,
        short partition,
        CancellationToken cancellationToken
    )
    {
        await using var batch = new NpgsqlBatch(connection);
        batch.BatchCommands.Add(new NpgsqlBatchCommand("SET LOCAL synchronous_commit = off"));
        batch.BatchCommands.Add(
            new NpgsqlBatchCommand(
                "SELECT segment_offset, meters_version FROM log_positions WHERE log_partition = $1 FOR UPDATE SKIP LOCKED"
            )
            {
                Parameters = { new NpgsqlParameter<short> { TypedValue = partition } },
            }
        );
        await using NpgsqlDataReader reader = await batch.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? (reader.GetInt64(0), reader.GetInt64(1)) : null;
    }

    private LocalTime LocalTimeOf(EnterpriseInfo enterprise)
    {
        if (!_localTimes.TryGetValue(enterprise.EnterpriseId, out LocalTime? local))
        {
            _localTimes[enterprise.EnterpriseId] = local = new LocalTime(enterprise.TimeZone);
        }

        return local;
    }
}
