using Npgsql;

namespace UsageMonitor.Server.Processing;

/// <summary>
/// Keeps the rows of a day's active users few: when a level has <see cref="RowsMax"/>, their union replaces them one level
/// up, in the step's transaction. Each member is so rewritten once a level, not once a step. A day that is over is one row.
/// </summary>
internal sealed class SetLevels
{
    /// <summary>Rows of a level before they are united.</summary>
    public const int RowsMax = 16;

    /// <summary>Days whose counts are remembered; beyond, it starts over.</summary>
    public const int RememberedDaysMax = 100_000;

    /// <summary>The level of a day's only row when the day is over; what comes late begins again at level 0.</summary>
    public const short OverLevel = 100;

    /// <summary>How far back a new day looks for days of several rows.</summary>
    private const int OverDaysBack = 8;

    private readonly record struct DayKey(Guid EnterpriseId, DateTime Day);

    // A hint only, counted from when this worker first met the day; what is united is what the database has.
    private readonly Dictionary<DayKey, int> _steps = [];
    private readonly Dictionary<Guid, DateTime> _newest = [];

    /// <summary>Unites what has become many among the days that a step has touched.</summary>
    public async Task CompactAsync(
        NpgsqlConnection connection,
        IReadOnlyList<StepTotals> touched,
        long offset,
        CancellationToken cancellationToken
    )
    {
        if (_steps.Count > RememberedDaysMax)
        {
            _steps.Clear();
        }

        var full = new List<DayKey>();
        foreach (
            DayKey day in touched.SelectMany(totals =>
                totals.Days.Keys.Select(day => new DayKey(totals.Enterprise.Id, day))
            )
        )
        {
            int steps = _steps.GetValueOrDefault(day) + 1;
            _steps[day] = steps % RowsMax;
            if (steps == RowsMax)
            {
                full.Add(day);
            }
        }

        Dictionary<DayKey, short> through =
            full.Count == 0 ? [] : await FindFullAsync(connection, full, cancellationToken);
        await FindOverAsync(connection, touched, through, cancellationToken);
        if (through.Count > 0)
        {
            await UniteAsync(connection, through, offset, cancellationToken);
        }
    }

    /// <summary>Adds the days before an enterprise's newest one that are still of several rows; when a newer one begins they become one.</summary>
    private async Task FindOverAsync(
        NpgsqlConnection connection,
        IReadOnlyList<StepTotals> touched,
        Dictionary<DayKey, short> through,
        CancellationToken cancellationToken
    )
    {
        const string Sql = """
            SELECT kept.enterprise_id, kept.time_bucket
              FROM unnest($1, $2) AS newest (enterprise_id, time_bucket)
              JOIN active_user_sets AS kept
                ON kept.enterprise_id = newest.enterprise_id
               AND kept.time_bucket >= newest.time_bucket - $3 AND kept.time_bucket < newest.time_bucket
             GROUP BY 1, 2
            HAVING count(*) > 1
            """;
        var newer = new List<DayKey>();
        foreach (StepTotals totals in touched.Where(totals => totals.Days.Count > 0))
        {
            DateTime newest = totals.Days.Keys.Max();
            if (newest > _newest.GetValueOrDefault(totals.Enterprise.Id))
            {
                newer.Add(new DayKey(totals.Enterprise.Id, newest));
                _newest[totals.Enterprise.Id] = newest;
            }
        }

        if (newer.Count == 0)
        {
            return;
        }

        await using var command = new NpgsqlCommand(Sql, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. newer.Select(day => day.EnterpriseId)] });
        command.Parameters.Add(new NpgsqlParameter<DateTime[]> { TypedValue = [.. newer.Select(day => day.Day)] });
        command.Parameters.Add(new NpgsqlParameter<TimeSpan> { TypedValue = TimeSpan.FromDays(OverDaysBack) });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            through[new DayKey(reader.GetGuid(0), reader.GetDateTime(1))] = OverLevel;
        }
    }

    /// <summary>The days that have a full level, and the highest level that the union takes with it.</summary>
    private static async Task<Dictionary<DayKey, short>> FindFullAsync(
        NpgsqlConnection connection,
        List<DayKey> days,
        CancellationToken cancellationToken
    )
    {
        const string Sql = """
            SELECT kept.enterprise_id, kept.time_bucket, kept.level, count(*)
              FROM unnest($1, $2) AS wanted (enterprise_id, time_bucket)
              JOIN active_user_sets AS kept ON kept.enterprise_id = wanted.enterprise_id AND kept.time_bucket = wanted.time_bucket
             GROUP BY 1, 2, 3
             ORDER BY 1, 2, 3
            """;
        var through = new Dictionary<DayKey, short>();
        await using var command = new NpgsqlCommand(Sql, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. days.Select(day => day.EnterpriseId)] });
        command.Parameters.Add(new NpgsqlParameter<DateTime[]> { TypedValue = [.. days.Select(day => day.Day)] });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            var day = new DayKey(reader.GetGuid(0), reader.GetDateTime(1));
            short level = reader.GetInt16(2);
            long rows = reader.GetInt64(3);

            // From the lowest level up: a union that fills the next level takes that one along.
            bool carried = through.TryGetValue(day, out short below) && below == level - 1;
            if ((level == 0 && rows >= RowsMax) || (carried && rows + 1 >= RowsMax))
            {
                through[day] = level;
            }
        }

        return through;
    }

    private static async Task UniteAsync(
        NpgsqlConnection connection,
        Dictionary<DayKey, short> through,
        long offset,
        CancellationToken cancellationToken
    )
    {
        const string TakeSql = """
            DELETE FROM active_user_sets AS kept
             USING unnest($1, $2, $3) AS wanted (enterprise_id, time_bucket, level)
             WHERE kept.enterprise_id = wanted.enterprise_id AND kept.time_bucket = wanted.time_bucket AND kept.level <= wanted.level
            RETURNING kept.enterprise_id, kept.time_bucket, kept.members, kept.hourly_members
            """;
        const string PutSql = """
            INSERT INTO active_user_sets (enterprise_id, time_bucket, level, segment_offset, members, hourly_members)
            SELECT enterprise_id, time_bucket, level, $6, members, hourly_members
              FROM unnest($1, $2, $3, $4, $5) AS united (enterprise_id, time_bucket, level, members, hourly_members)
            """;
        DayKey[] days = [.. through.Keys];
        var united = days.ToDictionary(day => day, _ => new ActiveUsers());
        await using (var take = new NpgsqlCommand(TakeSql, connection))
        {
            take.Parameters.Add(
                new NpgsqlParameter<Guid[]> { TypedValue = Array.ConvertAll(days, day => day.EnterpriseId) }
            );
            take.Parameters.Add(
                new NpgsqlParameter<DateTime[]> { TypedValue = Array.ConvertAll(days, day => day.Day) }
            );
            take.Parameters.Add(
                new NpgsqlParameter<short[]> { TypedValue = Array.ConvertAll(days, day => through[day]) }
            );
            await using NpgsqlDataReader reader = await take.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                ActiveUsers members = united[new DayKey(reader.GetGuid(0), reader.GetDateTime(1))];
                members.UnionWithDay(reader.GetFieldValue<byte[]>(2));
                members.UnionWithHours(reader.GetFieldValue<byte[]>(3));
            }
        }

        await using var put = new NpgsqlCommand(PutSql, connection);
        put.Parameters.Add(
            new NpgsqlParameter<Guid[]> { TypedValue = Array.ConvertAll(days, day => day.EnterpriseId) }
        );
        put.Parameters.Add(new NpgsqlParameter<DateTime[]> { TypedValue = Array.ConvertAll(days, day => day.Day) });
        put.Parameters.Add(
            new NpgsqlParameter<short[]> { TypedValue = Array.ConvertAll(days, day => (short)(through[day] + 1)) }
        );
        put.Parameters.Add(
            new NpgsqlParameter<byte[][]> { TypedValue = Array.ConvertAll(days, day => united[day].EncodeDay()) }
        );
        put.Parameters.Add(
            new NpgsqlParameter<byte[][]> { TypedValue = Array.ConvertAll(days, day => united[day].EncodeHours()) }
        );
        put.Parameters.Add(new NpgsqlParameter<long> { TypedValue = offset });
        await put.ExecuteNonQueryAsync(cancellationToken);
    }
}
