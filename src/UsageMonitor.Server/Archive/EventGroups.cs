using System.Globalization;
using DuckDB.NET.Data;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>What events are grouped by.</summary>
/// <param name="Kind">One of <see cref="Kinds"/>.</param>
/// <param name="Property">The names that lead to a property, when the kind is that.</param>
internal sealed record GroupKey(string Kind, IReadOnlyList<string> Property)
{
    public const string Feature = "feature";
    public const string User = "user";
    public const string EventType = "type";
    public const string Day = "day";
    public const string Hour = "hour";
    public const string PropertyPrefix = "property:";

    /// <summary>Names that lead to a property.</summary>
    public const int DepthMax = 4;

    /// <summary>UTF-16 code units of each.</summary>
    public const int NameCharactersMax = 100;

    public static readonly string[] Kinds = [Feature, User, EventType, Day, Hour];

    public bool IsProperty => Property.Count > 0;

    public bool IsTime => Kind is Day or Hour;

    public static bool TryParse(string? text, out GroupKey key)
    {
        key = new GroupKey(text ?? "", []);
        if (Kinds.Contains(text))
        {
            return true;
        }

        if (text is null || !text.StartsWith(PropertyPrefix, StringComparison.Ordinal))
        {
            return false;
        }

        string[] names = text[PropertyPrefix.Length..].Split('.');
        key = new GroupKey(PropertyPrefix, names);
        return names.Length <= DepthMax
            && Array.TrueForAll(
                names,
                name =>
                    name.Length is >= 1 and <= NameCharactersMax
                    && !name.Any(character => character is '"' or '\\' || char.IsControl(character))
            );
    }

    /// <summary>The property as DuckDB's JSON functions find it.</summary>
    public string JsonPath => "$." + string.Join('.', Property.Select(name => $"\"{name}\""));
}

/// <summary>A group of events.</summary>
/// <param name="Key">What they have in common; empty when they have no such property.</param>
/// <param name="Start">When the day or hour begins, UTC; null for other groups.</param>
/// <param name="Events">How many.</param>
internal sealed record EventGroup(string Key, DateTime? Start, long Events);

/// <summary>Counts events by what they have in common: archived ones in DuckDB, live ones in PostgreSQL, put together in DuckDB.</summary>
internal sealed class EventGroups(Database database, OpenedFiles files, OpenedFolder opened, ArchiveSettings settings)
{
    /// <summary>Groups of one answer.</summary>
    public const int GroupsMax = 1_000;

    // Offsets of time zones are whole quarters of an hour: a quarter is of one local hour.
    private const long QuarterMicroseconds = 15 * 60 * 1_000_000L;

    /// <param name="Groups">By events, the most first; days and hours by time.</param>
    /// <param name="Total">Of all groups.</param>
    /// <param name="Count">How many groups there are.</param>
    public sealed record Outcome(IReadOnlyList<EventGroup> Groups, long Total, long Count);

    public Task<Outcome> CountAsync(
        EnterpriseInfo enterprise,
        EventFilter filter,
        GroupKey by,
        int limit,
        CancellationToken cancellationToken
    ) => ArchiveReader.AgainAsync(() => CountOnceAsync(enterprise, filter, by, limit, cancellationToken));

    private async Task<Outcome> CountOnceAsync(
        EnterpriseInfo enterprise,
        EventFilter filter,
        GroupKey by,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        (DateTime from, DateTime to) = (local.DayStart(filter.From), local.DayStart(filter.To));
        var leases = new List<OpenedFiles.Lease>();
        try
        {
            using var duck = new Duck(opened, settings);
            duck.Execute("CREATE TABLE live (key VARCHAR, events BIGINT)", cancellationToken);
            await using (
                ScopedTransaction own = await database.OpenEnterpriseSnapshotAsync(
                    enterprise.EnterpriseId,
                    cancellationToken
                )
            )
            {
                Dictionary<DateOnly, ArchiveFile> archived = await ArchiveReader.ReadFilesAsync(
                    own,
                    enterprise,
                    filter,
                    cancellationToken
                );
                foreach (ArchiveFile file in archived.Values)
                {
                    leases.Add(await files.OpenAsync(enterprise, file, by.IsProperty, cancellationToken));
                }

                var live = new LiveEvents(database, own, enterprise, filter);
                if (by.IsProperty)
                {
                    await AddPropertiesAsync(duck, live, by, from, to, cancellationToken);
                }
                else
                {
                    AddLive(duck, await live.CountAsync(LiveExpression(by), from, to, cancellationToken));
                }
            }

            return await Task.Run(
                () => Put(duck, [.. leases.Select(lease => lease.Path)], filter, by, limit, local, cancellationToken),
                cancellationToken
            );
        }
        finally
        {
            leases.ForEach(lease => lease.Dispose());
        }
    }

    private static void AddLive(Duck duck, List<(string Name, long Events)> groups)
    {
        using DuckDBAppender appender = duck.Connection.CreateAppender("live");
        foreach ((string name, long events) in groups)
        {
            appender.CreateRow().AppendValue(name).AppendValue(events).EndRow();
        }
    }

    // Both halves are read by the same function, so that a number or a nested object is the same text in both.
    private static async Task AddPropertiesAsync(
        Duck duck,
        LiveEvents live,
        GroupKey by,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        duck.Execute("CREATE TABLE batch (properties VARCHAR)", cancellationToken);
        await foreach (ArchivedEvent[] batch in live.ReadAllAsync(from, to, inOrder: false, cancellationToken))
        {
            using (DuckDBAppender appender = duck.Connection.CreateAppender("batch"))
            {
                foreach (ArchivedEvent one in batch)
                {
                    IDuckDBAppenderRow row = appender.CreateRow();
                    _ = one.Properties is null ? row.AppendNullValue() : row.AppendValue(one.Properties);
                    row.EndRow();
                }
            }

            using DuckDBCommand add = duck.Command(
                $"INSERT INTO live SELECT {ArchivedExpression(by)}, count(*) FROM batch GROUP BY 1"
            );
            AddPath(add, by);
            add.ExecuteNonQuery();
            duck.Execute("TRUNCATE batch", cancellationToken);
        }
    }

    private static Outcome Put(
        Duck duck,
        IReadOnlyList<string> paths,
        EventFilter filter,
        GroupKey by,
        int limit,
        LocalTime local,
        CancellationToken cancellationToken
    )
    {
        if (paths.Count > 0)
        {
            using DuckDBCommand add = ArchiveReader.Archived(
                duck,
                paths,
                filter,
                $"{ArchivedExpression(by)} AS key, count(*) AS events"
            );
            add.CommandText = $"INSERT INTO live {add.CommandText} GROUP BY 1";
            AddPath(add, by);
            using CancellationTokenRegistration registration = cancellationToken.Register(add.Cancel);
            add.ExecuteNonQuery();
        }

        return by.IsTime ? PutTimes(duck, by, local) : PutNames(duck, limit);
    }

    private static Outcome PutNames(Duck duck, int limit)
    {
        const string Sql = """
            WITH summed AS (SELECT key, sum(events)::BIGINT AS events FROM live GROUP BY key)
            SELECT key, events, sum(events) OVER ()::BIGINT, count(*) OVER ()::BIGINT FROM summed ORDER BY events DESC, key LIMIT $1
            """;
        var groups = new List<EventGroup>();
        (long total, long count) = (0, 0);
        using DuckDBCommand command = duck.Command(Sql, limit);
        using DuckDBDataReader reader = command.ExecuteReader();
        while (reader.Read())
        {
            groups.Add(new EventGroup(reader.GetString(0), null, reader.GetInt64(1)));
            (total, count) = (reader.GetInt64(2), reader.GetInt64(3));
        }

        return new Outcome(groups, total, count);
    }

    private static Outcome PutTimes(Duck duck, GroupKey by, LocalTime local)
    {
        var buckets = new SortedDictionary<DateTime, long>();
        using DuckDBCommand command = duck.Command("SELECT key, events FROM live");
        using DuckDBDataReader reader = command.ExecuteReader();
        while (reader.Read())
        {
            long quarter = long.Parse(reader.GetString(0), CultureInfo.InvariantCulture);
            DateTime at = DateTime.UnixEpoch.AddTicks(quarter * QuarterMicroseconds * 10);
            DateTime start = by.Kind == GroupKey.Day ? local.DayStart(at) : local.HourStart(at);
            buckets[start] = buckets.GetValueOrDefault(start) + reader.GetInt64(1);
        }

        return new Outcome(
            [
                .. buckets.Select(bucket => new EventGroup(
                    local.Show(bucket.Key).ToString("O", CultureInfo.InvariantCulture),
                    bucket.Key,
                    bucket.Value
                )),
            ],
            buckets.Values.Sum(),
            buckets.Count
        );
    }

    private static void AddPath(DuckDBCommand command, GroupKey by)
    {
        if (by.IsProperty)
        {
            command.Parameters.Add(new DuckDBParameter("path", by.JsonPath));
        }
    }

    private static string LiveExpression(GroupKey by) =>
        by.Kind switch
        {
            GroupKey.Feature => "feature_name",
            GroupKey.User => "user_id::text",
            GroupKey.EventType => "event_type",
            _ => string.Create(
                CultureInfo.InvariantCulture,
                $"floor(extract(epoch FROM event_timestamp) * 1000000 / {QuarterMicroseconds})::bigint::text"
            ),
        };

    private static string ArchivedExpression(GroupKey by) =>
        by.Kind switch
        {
            GroupKey.Feature => "feature_name",
            GroupKey.User => "user_id::VARCHAR",
            GroupKey.EventType => "event_type",
            GroupKey.PropertyPrefix =>
                "coalesce(CASE WHEN json_valid(properties) THEN json_extract_string(properties, $path) END, '')",
            _ => string.Create(
                CultureInfo.InvariantCulture,
                $"(epoch_us(event_timestamp) // {QuarterMicroseconds})::VARCHAR"
            ),
        };
}
