using System.Collections.Concurrent;
using System.Data;
using Npgsql;
using NpgsqlTypes;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>Counts to begin with.</summary>
/// <param name="Group">Their group's place in the plan.</param>
/// <param name="IsWhole">They are all of the group: a subject that is not among them has used nothing.</param>
/// <param name="Counts">Per subject.</param>
internal sealed record CounterLoad(int Group, bool IsWhole, IReadOnlyCollection<(Guid SubjectId, long Used)> Counts);

/// <summary>What counters are rebuilt from: what processing has counted, what the log still holds, and what is reserved.</summary>
/// <remarks>
/// <para>The invariant: <b>a counter that is loaded under a fence holds every use that was admitted before the fence was
/// raised, once.</b> Raising the fence makes everything appended under lower ones readable and refuses the rest
/// (<see cref="IEventLog.RaiseFenceAsync"/>); a counter that is missing has had no admission under the present fence, since
/// admission needs it. So nothing that counts on it can be appended between the reading and the loading, except by who
/// does not know the limit yet: see <see cref="LimitCounters.SettledAfter"/>.</para>
/// <para>Counts and position are read in one snapshot, and the log after that position: an event is in one of the two,
/// wherever processing has got to meanwhile. An event that is in both was sent twice.</para>
/// <para>Where processing counts a meter, all subjects' counts of the window are read at once, up to
/// <see cref="WholeSubjectsMax"/>: otherwise everybody's first use after the fence was raised would pay for a reading.</para>
/// </remarks>
internal sealed class CounterBase(Database database, LogTail tail)
{
    /// <summary>Groups of more subjects are read subject by subject.</summary>
    public const int WholeSubjectsMax = 20_000;

    /// <summary>Groups remembered as too large; beyond, it starts over.</summary>
    private const int LargeGroupsMax = 10_000;

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

    // Rows of a window lie together: the primary key has the window before the subject.
    private const string ReadWhole = """
        SELECT wanted.place, kept.subject_id, kept.used
          FROM unnest($2, $3) WITH ORDINALITY AS wanted (meter_id, window_start, place)
          JOIN limit_meters AS meter ON meter.enterprise_id = $1 AND meter.meter_id = wanted.meter_id
               AND meter.counted_since <= wanted.window_start
          LEFT JOIN LATERAL (SELECT u.subject_id, u.used FROM limit_usage AS u
                              WHERE u.enterprise_id = $1 AND u.meter_id = wanted.meter_id
                                AND u.window_start = wanted.window_start
                              LIMIT $4) AS kept ON true
        """;

    private readonly ConcurrentDictionary<(Guid MeterId, DateTime WindowStart), bool> _large = new();

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

    /// <summary>The counts of some of a plan's counters, and where it is cheap of all others of their groups.</summary>
    /// <exception cref="NpgsqlException">PostgreSQL cannot be read.</exception>
    /// <exception cref="EventLogUnavailableException">The log cannot be read.</exception>
    /// <exception cref="LogTailTooLongException">The log holds too much.</exception>
    public async Task<List<CounterLoad>> ReadAsync(
        AdmissionPlan plan,
        IReadOnlyList<int> places,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = plan.Enterprise;
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
        Dictionary<int, Dictionary<Guid, long>> whole = await ReadWholeAsync(
            connection,
            plan,
            [.. places.Select(place => plan.Counters[place].Group).Distinct()],
            cancellationToken
        );
        Dictionary<int, Dictionary<Guid, long>> some = await ReadStoredAsync(
            connection,
            plan,
            [.. places.Select(place => plan.Counters[place]).Where(counter => !whole.ContainsKey(counter.Group))],
            cancellationToken
        );
        foreach (PendingEvent use in pending.DistinctBy(use => use.EventId).Where(use => !stored.Contains(use.EventId)))
        {
            foreach ((int group, Dictionary<Guid, long> counts) in whole)
            {
                if (IsIn(plan, group, use))
                {
                    Guid subjectId = plan.Groups[group].Meter.SubjectOf(use.UserId);
                    counts[subjectId] = counts.GetValueOrDefault(subjectId) + 1;
                }
            }

            foreach ((int group, Dictionary<Guid, long> counts) in some)
            {
                Guid subjectId = plan.Groups[group].Meter.SubjectOf(use.UserId);
                if (IsIn(plan, group, use) && counts.TryGetValue(subjectId, out long used))
                {
                    counts[subjectId] = used + 1;
                }
            }
        }

        return
        [
            .. whole.Select(group => Load(group, isWhole: true)),
            .. some.Select(group => Load(group, isWhole: false)),
        ];

        static CounterLoad Load(KeyValuePair<int, Dictionary<Guid, long>> group, bool isWhole) =>
            new(group.Key, isWhole, [.. group.Value.Select(count => (count.Key, count.Value))]);
    }

    private static bool IsIn(AdmissionPlan plan, int group, PendingEvent use) =>
        plan.Groups[group].Window.Contains(use.Timestamp)
        && LimitTerms.Covers(plan.Groups[group].Meter.FeatureName, use.FeatureName)
        && plan.Set.Counts(plan.Groups[group].Meter, use.UserId);

    /// <returns>Of those groups that processing counts and that are not too large.</returns>
    private async Task<Dictionary<int, Dictionary<Guid, long>>> ReadWholeAsync(
        NpgsqlConnection connection,
        AdmissionPlan plan,
        IEnumerable<int> groups,
        CancellationToken cancellationToken
    )
    {
        int[] asked = [.. groups.Where(group => !_large.ContainsKey(NameOf(plan, group)))];
        var whole = new Dictionary<int, Dictionary<Guid, long>>();
        await using var command = new NpgsqlCommand(ReadWhole, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = plan.Enterprise.EnterpriseId });
        command.Parameters.Add(
            new NpgsqlParameter<Guid[]> { TypedValue = [.. asked.Select(group => plan.Groups[group].Meter.MeterId)] }
        );
        command.Parameters.Add(
            new NpgsqlParameter<DateTime[]> { TypedValue = [.. asked.Select(group => plan.Groups[group].Window.Start)] }
        );
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = WholeSubjectsMax + 1 });
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                int group = asked[reader.GetInt64(0) - 1];
                if (!whole.TryGetValue(group, out Dictionary<Guid, long>? counts))
                {
                    whole[group] = counts = [];
                }

                if (!await reader.IsDBNullAsync(1, cancellationToken))
                {
                    counts[reader.GetGuid(1)] = reader.GetInt64(2);
                }
            }
        }

        foreach ((int group, _) in whole.Where(group => group.Value.Count > WholeSubjectsMax).ToArray())
        {
            whole.Remove(group);
            if (_large.Count >= LargeGroupsMax)
            {
                _large.Clear();
            }

            _large[NameOf(plan, group)] = true;
        }

        return whole;
    }

    private static (Guid, DateTime) NameOf(AdmissionPlan plan, int group) =>
        (plan.Groups[group].Meter.MeterId, plan.Groups[group].Window.Start);

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

    private static async Task<Dictionary<int, Dictionary<Guid, long>>> ReadStoredAsync(
        NpgsqlConnection connection,
        AdmissionPlan plan,
        Counter[] counters,
        CancellationToken cancellationToken
    )
    {
        var counts = new Dictionary<int, Dictionary<Guid, long>>();
        if (counters.Length == 0)
        {
            return counts;
        }

        bool[] isMetered = new bool[counters.Length];
        await using (var command = new NpgsqlCommand(ReadMetered, connection))
        {
            command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = plan.Enterprise.EnterpriseId });
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
                isMetered[place] = true;
                Set(counters[place], reader.GetInt64(1));
            }
        }

        for (int i = 0; i < counters.Length; i++)
        {
            if (!isMetered[i])
            {
                long used = await MeterHistory.CountAsync(
                    connection,
                    plan.Enterprise.EnterpriseId,
                    counters[i],
                    plan.Set,
                    cancellationToken
                );
                Set(counters[i], used);
            }
        }

        return counts;

        void Set(Counter counter, long used)
        {
            if (!counts.TryGetValue(counter.Group, out Dictionary<Guid, long>? group))
            {
                counts[counter.Group] = group = [];
            }

            group[counter.SubjectId] = used;
        }
    }

    private static NpgsqlParameter<DateTime> Instant(DateTime utc) =>
        new NpgsqlParameter<DateTime> { TypedValue = utc, NpgsqlDbType = NpgsqlDbType.TimestampTz };
}
