using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Bench;

/// <summary>
/// Writes the rows that processing leaves of days on which every user used every feature once, with the server's own
/// encoder. Nine million events would leave the same rows, half an hour later.
/// </summary>
/// <param name="StepsOfDay">
/// Steps of processing over which a day's events were spread. Each adds a row, and sixteen of a level become one of the next:
/// 4,095 steps leave 15 rows on each of three levels, which is about the most that there can be.
/// </param>
internal sealed record ActiveUsersSeed(Guid EnterpriseId, int StepsOfDay)
{
    public const int Users = 10_000;
    public const int Features = 10;
    private const int RowsOfLevel = 16;
    private const int MinutesOfDay = 24 * 60;
    private const int MinutesOfHour = 60;

    public async Task WriteAsync(NpgsqlConnection connection, DateOnly first, int days, Random random)
    {
        for (int day = 0; day < days; day++)
        {
            DateTime start = first.AddDays(day).ToDateTime(TimeOnly.MinValue, DateTimeKind.Utc);
            await EnsureMonthAsync(connection, start);
            await WriteCountsAsync(connection, start);
            await WriteSetsAsync(connection, start, Rows(random));
        }
    }

    /// <summary>The rows of a day: the level, the last step in it, and who was active in its steps.</summary>
    private List<(short Level, int LastStep, ActiveUsers Active)> Rows(Random random)
    {
        var rows = new List<(short, int LastStep, ActiveUsers Active)>();
        int width = 1;
        short level = 0;
        while (width * RowsOfLevel <= StepsOfDay)
        {
            width *= RowsOfLevel;
            level++;
        }

        for (int step = 0; step < StepsOfDay; width /= RowsOfLevel, level--)
        {
            for (; step + width <= StepsOfDay; step += width)
            {
                rows.Add((level, step + width - 1, new ActiveUsers()));
            }
        }

        int[] rowOfStep = new int[StepsOfDay];
        for (int row = 0, step = 0; row < rows.Count; row++)
        {
            for (; step <= rows[row].LastStep; step++)
            {
                rowOfStep[step] = row;
            }
        }

        for (int feature = 0; feature < Features; feature++)
        {
            string name = Name(feature);
            for (int user = 0; user < Users; user++)
            {
                int step = random.Next(StepsOfDay);
                int minute = (int)((long)step * MinutesOfDay / StepsOfDay);
                rows[rowOfStep[step]].Active.Add(name, minute / MinutesOfHour * MinutesOfHour, user);
            }
        }

        return rows;
    }

    private async Task WriteSetsAsync(
        NpgsqlConnection connection,
        DateTime day,
        List<(short Level, int LastStep, ActiveUsers Active)> rows
    )
    {
        const string Sql =
            "COPY active_user_sets (enterprise_id, time_bucket, level, segment_offset, members, hourly_members) FROM STDIN (FORMAT binary)";
        await using NpgsqlBinaryImporter copy = await connection.BeginBinaryImportAsync(Sql);
        foreach ((short level, int lastStep, ActiveUsers active) in rows)
        {
            await copy.StartRowAsync();
            await copy.WriteAsync(EnterpriseId, NpgsqlDbType.Uuid);
            await copy.WriteAsync(day, NpgsqlDbType.TimestampTz);
            await copy.WriteAsync(level, NpgsqlDbType.Smallint);
            await copy.WriteAsync((long)lastStep, NpgsqlDbType.Bigint);
            await copy.WriteAsync(active.EncodeDay(), NpgsqlDbType.Bytea);
            await copy.WriteAsync(active.EncodeHours(), NpgsqlDbType.Bytea);
        }

        await copy.CompleteAsync();
    }

    private async Task WriteCountsAsync(NpgsqlConnection connection, DateTime day)
    {
        const string Sql = """
            INSERT INTO usage_aggregates (enterprise_id, metric_type, granularity, feature_name, time_bucket, value)
            SELECT $1, 'usage_count', 'day', feature_name, $2, $3 FROM unnest($4) AS feature_name
            """;
        await using var command = new NpgsqlCommand(Sql, connection)
        {
            Parameters =
            {
                new NpgsqlParameter<Guid> { TypedValue = EnterpriseId },
                new NpgsqlParameter<DateTime> { TypedValue = day },
                new NpgsqlParameter<long> { TypedValue = Users },
                new NpgsqlParameter<string[]> { TypedValue = [.. Enumerable.Range(0, Features).Select(Name)] },
            },
        };
        await command.ExecuteNonQueryAsync();
    }

    private static async Task EnsureMonthAsync(NpgsqlConnection connection, DateTime day)
    {
        const string Sql =
            "SELECT ensure_month_partition('usage_aggregates', $1), ensure_month_partition('active_user_sets', $1)";
        await using var command = new NpgsqlCommand(Sql, connection)
        {
            Parameters = { new NpgsqlParameter<DateOnly> { TypedValue = DateOnly.FromDateTime(day) } },
        };
        await command.ExecuteNonQueryAsync();
    }

    private static string Name(int feature) => $"feature-{feature}";
}
