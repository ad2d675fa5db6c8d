using System.Data;
using Npgsql;
using NpgsqlTypes;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>What counters are rebuilt from: what processing has counted, what the log still holds, and what is reserved.</summary>
/// <remarks>
/// <para>The invariant: <b>a counter that is loaded under a fence holds every use that was admitted before the fence was
/// raised, once.</b> Raising the fence makes everything appended under lower ones readable and refuses the rest
/// (<see cref="IEventLog.RaiseFenceAsync"/>); a counter that is missing has had no admission under the present fence, since
/// admission needs it. So nothing that counts on it can be appended between the reading and the loading, except by who
/// does not know the limit yet: see <see cref="LimitCounters.SettledAfter"/>.</para>
/// <para>Counts and position are read in one snapshot, and the log after that position: an event is in one of the two,
/// wherever processing has got to meanwhile. An event that is in both was sent twice.</para>
/// </remarks>
internal sealed class CounterBase(Database database, LogTail tail)
{
    /// <summary>A reservation that was claimed may take as long to reach the log.</summary>
    public static readonly TimeSpan CommitTimeMax = TimeSpan.FromMinutes(15);

    private const string ReadPosition = "SELECT segment_offset FROM log_positions WHERE log_partition = $1";

    // What is held counts until it was given back, expired or not: between the two it is still on the counters.
    private const string ReadReservations = """
        SELECT reservation_id, user_id, feature_name, created_at FROM usage_reservations
         WHERE enterprise_id = $1 AND (state = 'HELD' OR state = 'COMMITTED' AND ended_at > $2 - $3)
        """;

    // Of the windows since which processing counts a meter, all of its usage is in limit_usage.
    private const string ReadMetered = """
        SELECT wanted.place, coalesce(kept.used, 0)
          FROM unnest($2, $3, $4) WITH ORDINALITY AS wanted (meter_id, subject_id, window_start, place)
          JOIN limit_meters AS meter ON meter.enterprise_id = $1 AND meter.meter_id = wanted.meter_id
               AND meter.counted_since <= wanted.window_start
          LEFT JOIN limit_usage AS kept ON kept.enterprise_id = $1 AND kept.meter_id = wanted.meter_id
               AND kept.subject_id = wanted.subject_id AND kept.window_start = wanted.window_start
        """;

    /// <summary>The ids of what the log and the reservations hold of features with a BLOCK limit.</summary>
    public async Task<List<Guid>> ReadPendingIdsAsync(
        EnterpriseInfo enterprise,
        LimitSet limits,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        List<PendingEvent> pending = await ReadPendingAsync(connection, enterprise, now, cancellationToken);
        return
        [
            .. pending
                .Where(use => Array.Exists(limits.MetersOf(use.FeatureName), meter => meter.HasBlocking))
                .Select(use => use.EventId)
                .Distinct(),
        ];
    }

    /// <summary>The counts of some of a plan's counters, in their order.</summary>
    /// <exception cref="NpgsqlException">PostgreSQL cannot be read.</exception>
    /// <exception cref="EventLogUnavailableException">The log cannot be read.</exception>
    /// <exception cref="LogTailTooLongException">The log holds too much.</exception>
    public async Task<long[]> ReadAsync(
        AdmissionPlan plan,
        IReadOnlyList<int> places,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = plan.Enterprise;
        Counter[] counters = [.. places.Select(place => plan.Counters[place])];
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction snapshot = await connection.BeginTransactionAsync(
            IsolationLevel.RepeatableRead,
            cancellationToken
        );
        List<PendingEvent> pending = await ReadPendingAsync(connection, enterprise, now, cancellationToken);
        HashSet<Guid> stored = await StoredEvents.FindAsync(
            connection,
            enterprise.EnterpriseId,
            [.. pending.Select(use => (use.EventId, use.Timestamp))],
            cancellationToken
        );
        long[] counts = await ReadStoredAsync(connection, enterprise, plan.Set, counters, cancellationToken);
        foreach (PendingEvent use in pending.DistinctBy(use => use.EventId).Where(use => !stored.Contains(use.EventId)))
        {
            for (int i = 0; i < counters.Length; i++)
            {
                if (
                    counters[i].Window.Contains(use.Timestamp)
                    && LimitTerms.Covers(counters[i].Meter.FeatureName, use.FeatureName)
                    && counters[i].Meter.SubjectOf(use.UserId) == counters[i].SubjectId
                    && plan.Set.Counts(counters[i].Meter, use.UserId)
                )
                {
                    counts[i]++;
                }
            }
        }

        return counts;
    }

    // The first statement of the snapshot is the position: everything after it is in the log, whatever has been processed since.
    private async Task<List<PendingEvent>> ReadPendingAsync(
        NpgsqlConnection connection,
        EnterpriseInfo enterprise,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        long position;
        await using (var command = new NpgsqlCommand(ReadPosition, connection))
        {
            command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = enterprise.LogPartition });
            position = await command.ExecuteScalarAsync(cancellationToken) as long? ?? 0;
        }

        var reserved = new List<PendingEvent>();
        await using (var command = new NpgsqlCommand(ReadReservations, connection))
        {
            command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterprise.EnterpriseId });
            command.Parameters.Add(Instant(now.UtcDateTime));
            command.Parameters.Add(new NpgsqlParameter<TimeSpan> { TypedValue = CommitTimeMax });
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                reserved.Add(
                    new PendingEvent(
                        reader.GetGuid(0),
                        reader.GetGuid(1),
                        reader.GetString(2),
                        reader.GetFieldValue<DateTime>(3)
                    )
                );
            }
        }

        List<PendingEvent> pending = await tail.ReadAsync(enterprise, position, cancellationToken);
        pending.AddRange(reserved);
        return pending;
    }

    private static async Task<long[]> ReadStoredAsync(
        NpgsqlConnection connection,
        EnterpriseInfo enterprise,
        LimitSet limits,
        Counter[] counters,
        CancellationToken cancellationToken
    )
    {
        long[] counts = new long[counters.Length];
        bool[] isMetered = new bool[counters.Length];
        await using (var command = new NpgsqlCommand(ReadMetered, connection))
        {
            command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterprise.EnterpriseId });
            command.Parameters.Add(
                new NpgsqlParameter<Guid[]> { TypedValue = [.. counters.Select(one => one.Meter.MeterId)] }
            );
            command.Parameters.Add(
                new NpgsqlParameter<Guid[]> { TypedValue = [.. counters.Select(one => one.SubjectId)] }
            );
            command.Parameters.Add(
                new NpgsqlParameter<DateTime[]> { TypedValue = [.. counters.Select(one => one.Window.Start)] }
            );
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                int place = (int)reader.GetInt64(0) - 1;
                (counts[place], isMetered[place]) = (reader.GetInt64(1), true);
            }
        }

        for (int i = 0; i < counters.Length; i++)
        {
            if (!isMetered[i])
            {
                counts[i] = await MeterHistory.CountAsync(
                    connection,
                    enterprise.EnterpriseId,
                    counters[i],
                    limits,
                    cancellationToken
                );
            }
        }

        return counts;
    }

    private static NpgsqlParameter<DateTime> Instant(DateTime utc) =>
        new NpgsqlParameter<DateTime> { TypedValue = utc, NpgsqlDbType = NpgsqlDbType.TimestampTz };
}
