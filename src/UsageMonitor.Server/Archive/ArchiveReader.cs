using System.Runtime.CompilerServices;
using DuckDB.NET.Data;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>Reads events wherever they are: archived days by DuckDB, live rows from PostgreSQL, in one order and counted together.</summary>
/// <remarks>
/// A snapshot of the database sees each event once, as a live row or behind a row of <c>archive_files</c>. Should the file of a row be
/// gone, its day was rewritten after the snapshot: it is read once more, from a new one.
/// </remarks>
internal sealed class ArchiveReader(Database database, OpenedFiles files, OpenedFolder opened, ArchiveSettings settings)
{
    /// <summary>Days with events that one page looks through; what it has not seen then is on the next.</summary>
    public const int DaysOfPageMax = 40;

    private const int RowsOfChunk = 1_000;

    /// <summary>A page of events, the newest first.</summary>
    /// <param name="Events">Perhaps none, although there is a next page.</param>
    /// <param name="Next">Where the next page begins; null: this is the last.</param>
    public sealed record Page(IReadOnlyList<ArchivedEvent> Events, EventCursor? Next);

    public Task<Page> PageAsync(
        EnterpriseInfo enterprise,
        EventFilter filter,
        EventCursor? before,
        int limit,
        CancellationToken cancellationToken
    ) => AgainAsync(() => PageOnceAsync(enterprise, filter, before, limit, cancellationToken));

    private async Task<Page> PageOnceAsync(
        EnterpriseInfo enterprise,
        EventFilter filter,
        EventCursor? before,
        int limit,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        await using ScopedTransaction own = await database.OpenEnterpriseSnapshotAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        Dictionary<DateOnly, ArchiveFile> archived = await ReadFilesAsync(own, enterprise, filter, cancellationToken);
        List<DateOnly> days = await ReadDaysAsync(own, enterprise, local, filter, cancellationToken);
        days.Reverse();
        var live = new LiveEvents(database, own, enterprise, filter);
        var page = new List<ArchivedEvent>(limit + 1);
        int seen = 0;
        using var duck = new Duck(opened, settings);
        foreach (DateOnly day in days)
        {
            (DateTime from, DateTime to) = (local.DayStart(day), local.DayStart(day.AddDays(1)));
            if (before is { } cursor && from > cursor.At)
            {
                continue;
            }

            if (seen++ == DaysOfPageMax)
            {
                // The greatest there can be of this day comes just before the next day's beginning.
                return new Page(page, new EventCursor(to, Guid.Empty));
            }

            int wanted = limit + 1 - page.Count;
            List<ArchivedEvent> found = await live.ReadPageAsync(from, to, before, wanted, cancellationToken);
            if (archived.TryGetValue(day, out ArchiveFile? file))
            {
                using OpenedFiles.Lease lease = await files.OpenAsync(enterprise, file, true, cancellationToken);
                found.AddRange(
                    await Task.Run(
                        () => ReadPage(duck, lease.Path, filter, before, wanted, cancellationToken),
                        cancellationToken
                    )
                );
            }

            page.AddRange(
                found.OrderByDescending(one => one.Timestamp).ThenByDescending(one => one.EventId).Take(wanted)
            );
            if (page.Count > limit)
            {
                page.RemoveAt(limit);
                return new Page(page, new EventCursor(page[^1].Timestamp, page[^1].EventId));
            }
        }

        return new Page(page, null);
    }

    /// <summary>All events, the oldest first, a chunk after another. Each day is read from a snapshot of its own.</summary>
    public async IAsyncEnumerable<IReadOnlyList<ArchivedEvent>> StreamAsync(
        EnterpriseInfo enterprise,
        EventFilter filter,
        [EnumeratorCancellation] CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        List<DateOnly> days;
        await using (
            ScopedTransaction own = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken)
        )
        {
            days = await ReadDaysAsync(own, enterprise, local, filter, cancellationToken);
        }

        using var duck = new Duck(opened, settings);
        foreach (DateOnly day in days)
        {
            (ScopedTransaction snapshot, OpenedFiles.Lease? lease) = await AgainAsync(() =>
                OpenDayAsync(enterprise, filter, day, cancellationToken)
            );
            await using ScopedTransaction own = snapshot;
            using OpenedFiles.Lease? file = lease;
            var live = new LiveEvents(database, own, enterprise, filter);
            await using IAsyncEnumerator<ArchivedEvent[]> batches = live.ReadAllAsync(
                    local.DayStart(day),
                    local.DayStart(day.AddDays(1)),
                    inOrder: true,
                    cancellationToken
                )
                .GetAsyncEnumerator(cancellationToken);
            using DuckDBCommand? command = file is null ? null : Archived(duck, file.Path, filter, ParquetFile.Columns);
            if (command is not null)
            {
                command.CommandText += " ORDER BY event_timestamp, event_id";
            }

            await foreach (
                IReadOnlyList<ArchivedEvent> chunk in MergeAsync(
                    batches,
                    command is null ? [] : ParquetFile.Read(command, cancellationToken),
                    cancellationToken
                )
            )
            {
                yield return chunk;
            }
        }
    }

    // Two sequences in order become one.
    private static async IAsyncEnumerable<IReadOnlyList<ArchivedEvent>> MergeAsync(
        IAsyncEnumerator<ArchivedEvent[]> live,
        IEnumerable<ArchivedEvent> archived,
        [EnumeratorCancellation] CancellationToken cancellationToken
    )
    {
        var waiting = new Queue<ArchivedEvent>(await live.MoveNextAsync() ? live.Current : []);
        var chunk = new List<ArchivedEvent>(RowsOfChunk);
        foreach (ArchivedEvent one in archived)
        {
            while (waiting.TryPeek(out ArchivedEvent next) && IsBefore(next, one))
            {
                chunk.Add(waiting.Dequeue());
                if (waiting.Count == 0 && await live.MoveNextAsync())
                {
                    waiting = new Queue<ArchivedEvent>(live.Current);
                }
            }

            chunk.Add(one);
            if (chunk.Count >= RowsOfChunk)
            {
                yield return chunk;
                chunk = new List<ArchivedEvent>(RowsOfChunk);
            }
        }

        if (chunk.Count > 0)
        {
            yield return chunk;
        }

        while (waiting.Count > 0)
        {
            cancellationToken.ThrowIfCancellationRequested();
            yield return [.. waiting];
            waiting = new Queue<ArchivedEvent>(await live.MoveNextAsync() ? live.Current : []);
        }
    }

    private static bool IsBefore(in ArchivedEvent one, in ArchivedEvent other) =>
        one.Timestamp < other.Timestamp
        || (one.Timestamp == other.Timestamp && one.EventId.CompareTo(other.EventId) < 0);

    private async Task<(ScopedTransaction, OpenedFiles.Lease?)> OpenDayAsync(
        EnterpriseInfo enterprise,
        EventFilter filter,
        DateOnly day,
        CancellationToken cancellationToken
    )
    {
        ScopedTransaction own = await database.OpenEnterpriseSnapshotAsync(enterprise.EnterpriseId, cancellationToken);
        try
        {
            Dictionary<DateOnly, ArchiveFile> found = await ReadFilesAsync(
                own,
                enterprise,
                filter with
                {
                    From = day,
                    To = day.AddDays(1),
                },
                cancellationToken
            );
            return (
                own,
                found.TryGetValue(day, out ArchiveFile? file)
                    ? await files.OpenAsync(enterprise, file, withProperties: true, cancellationToken)
                    : null
            );
        }
        catch
        {
            await own.DisposeAsync();
            throw;
        }
    }

    private const string ReadFiles = $"""
        SELECT {ArchiveFile.Columns} FROM archive_files
         WHERE enterprise_id = $1 AND archived_day >= $2 AND archived_day < $3 ORDER BY archived_day
        """;

    internal static async Task<Dictionary<DateOnly, ArchiveFile>> ReadFilesAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        EventFilter filter,
        CancellationToken cancellationToken
    )
    {
        var found = new Dictionary<DateOnly, ArchiveFile>();
        await using NpgsqlCommand command = own.Command(ReadFiles, enterprise.EnterpriseId, filter.From, filter.To);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            ArchiveFile file = ArchiveFile.Read(reader);
            found[file.Day] = file;
        }

        return found;
    }

    private const string ReadDays = """
        SELECT time_bucket FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'day' AND feature_name = $2
           AND time_bucket >= $3 AND time_bucket < $4
        UNION
        SELECT day_start FROM archive_files WHERE enterprise_id = $1 AND day_start >= $3 AND day_start < $4
         ORDER BY 1
        """;

    /// <summary>The days that have events at all: only they are looked into.</summary>
    private static async Task<List<DateOnly>> ReadDaysAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        LocalTime local,
        EventFilter filter,
        CancellationToken cancellationToken
    )
    {
        var days = new List<DateOnly>();
        await using NpgsqlCommand command = own.Command(
            ReadDays,
            enterprise.EnterpriseId,
            filter.FeatureName ?? "",
            local.DayStart(filter.From),
            local.DayStart(filter.To)
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            days.Add(local.DateOf(reader.GetDateTime(0)));
        }

        return days;
    }

    private static List<ArchivedEvent> ReadPage(
        Duck duck,
        string path,
        EventFilter filter,
        EventCursor? before,
        int limit,
        CancellationToken cancellationToken
    )
    {
        using DuckDBCommand command = Archived(duck, path, filter, ParquetFile.Columns);
        if (before is { } cursor)
        {
            command.CommandText +=
                " AND (event_timestamp < $before OR (event_timestamp = $before AND event_id < $beforeId))";
            command.Parameters.Add(new DuckDBParameter("before", new DateTimeOffset(cursor.At)));
            command.Parameters.Add(new DuckDBParameter("beforeId", cursor.EventId));
        }

        command.CommandText += " ORDER BY event_timestamp DESC, event_id DESC LIMIT $limit";
        command.Parameters.Add(new DuckDBParameter("limit", limit));
        return [.. ParquetFile.Read(command, cancellationToken, isFew: true)];
    }

    /// <summary>A query of opened files under the filter, which more can be added to.</summary>
    internal static DuckDBCommand Archived(Duck duck, string path, EventFilter filter, string columns) =>
        Archived(duck, [path], filter, columns);

    /// <inheritdoc cref="Archived(Duck, string, EventFilter, string)"/>
    internal static DuckDBCommand Archived(Duck duck, IReadOnlyList<string> paths, EventFilter filter, string columns)
    {
        DuckDBCommand command = duck.Command($"SELECT {columns} FROM {ParquetFile.From(paths)} WHERE true");
        Add(" AND user_id = $user", "user", filter.UserId);
        Add(" AND feature_name = $feature", "feature", filter.FeatureName);
        Add(" AND event_type = $type", "type", filter.EventType);
        return command;

        void Add(string condition, string name, object? value)
        {
            if (value is not null)
            {
                command.CommandText += condition;
                command.Parameters.Add(new DuckDBParameter(name, value));
            }
        }
    }

    internal static async Task<T> AgainAsync<T>(Func<Task<T>> readAsync)
    {
        try
        {
            return await readAsync();
        }
        catch (FileNotFoundException)
        {
            return await readAsync();
        }
    }
}
