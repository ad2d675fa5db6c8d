using System.Diagnostics;
using System.IO.Compression;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Archive.Retention;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench archive</c>: what an event of 1 KB costs to keep, hot and archived, how fast days are archived, and how fast archived
/// events are counted. Ten enterprises in the mission's mix; their 28,500 users make 1.14 million events a day.
/// </summary>
internal sealed class ArchiveBench(Options options, string dataFolder, TextWriter progress)
{
    private const int Enterprises = 10;
    private const int EventsOfBatch = 500;
    private const int BatchesOfAppend = 8;
    private const int EventsOfDay = 1_140_000;
    private const int AgeDays = 60;
    private const double HotBytesTarget = 400;
    private const double ArchivedBytesTarget = 90;
    private const double SecondsPerMillionTarget = 60;
    private const double QuerySecondsTarget = 1;
    private const int QueryTargetEvents = 10_000_000;
    private readonly Report _report = new();

    public async Task<Report> RunAsync()
    {
        progress.WriteLine("starting the platform");
        await using ServerHost platform = await ServerHost.StartAsync(
            new Dictionary<string, string?>
            {
                ["Port"] = "0",
                ["Data"] = Path.Combine(dataFolder, "platform"),
                ["USAGEMONITOR_OPERATOR_EMAIL"] = ServerProcess.OperatorEmail,
                ["USAGEMONITOR_OPERATOR_PASSWORD"] = ServerProcess.OperatorPassword,
                ["Logging:LogLevel:Default"] = options.LogLevel,
            },
            CancellationToken.None
        );
        Ending.Add(platform);
        using var client = new PlatformClient(platform.Address.Port, () => "");
        await client.CreateEnterprisesAsync(Enterprises);
        Database database = platform.Services.GetRequiredService<Database>();
        EnterpriseInfo[] enterprises = await FindAsync(platform.Services, database);
        long stored = await FillAsync(platform.Services, database, enterprises);
        await MeasureHotAsync(database, stored);
        await ArchiveAsync(platform.Services, database, stored);
        await CompareAsync(platform.Services, enterprises, stored);
        await QueryAsync(platform.Services, enterprises, stored);
        Ending.Remove(platform);
        _report.Note(
            $"{stored:N0} events of {EventBodies.EventBytes} bytes, {EventBodies.PropertiesBytes} of them properties, of {Enterprises} enterprises, "
                + $"{AgeDays} days old, over the day they are of. Their ids, sessions, traces and words are random: see EventProperties."
        );
        return _report;
    }

    private static async Task<EnterpriseInfo[]> FindAsync(IServiceProvider services, Database database)
    {
        var directory = services.GetRequiredService<EnterpriseDirectory>();
        var found = new List<EnterpriseInfo>();
        foreach (
            Guid id in await ReadAsync(
                database,
                "SELECT enterprise_id FROM enterprises WHERE enterprise_id <> '00000000-0000-0000-0000-000000000000' ORDER BY name",
                reader => reader.GetGuid(0)
            )
        )
        {
            found.Add((await directory.FindAsync(id, CancellationToken.None))!);
        }

        return [.. found];
    }

    // As ingestion does it: requests of 500 events of one enterprise, several in an append.
    private async Task<long> FillAsync(IServiceProvider services, Database database, EnterpriseInfo[] enterprises)
    {
        progress.WriteLine($"storing {options.Events:N0} events");
        var log = services.GetRequiredService<IEventLog>();
        var random = new Random(11);
        var mix = new EnterpriseMix(Enterprises);
        var ids = new UniqueIds();
        DateTime now = DateTime.UtcNow;
        byte[] timestamp = new byte[EventBodies.TimestampLetters];
        long sent = 0;
        while (sent < options.Events)
        {
            EventBatch[] batches = EventBatch.Make(BatchesOfAppend, EventsOfBatch, mix, random);
            var blocks = new Dictionary<EnterpriseInfo, List<ParsedEvent>>();
            foreach (EventBatch batch in batches)
            {
                for (int index = 0; index < batch.Events; index++)
                {
                    // Events come about when they happened, so that a segment has events of a minute or so.
                    long place = sent++;
                    DateTime day = now.Date.AddDays(-AgeDays + (place / EventsOfDay));
                    double share = (double)(place % EventsOfDay) / Math.Min(EventsOfDay, options.Events);
                    EventBodies.FormatTimestamp(
                        day.AddSeconds(Math.Min(86_399, (share * 86_300) + (random.NextDouble() * 90))),
                        timestamp
                    );
                    EventBodies.Renew(batch.Event(index), ids.Next(), timestamp);
                }

                EnterpriseInfo enterprise = enterprises[batch.Enterprise];
                ParseOutcome parsed = EventParser.Parse(
                    batch.Body,
                    false,
                    enterprise.EnterpriseId,
                    now,
                    mayBackfill: true
                );
                if (!blocks.TryGetValue(enterprise, out List<ParsedEvent>? own))
                {
                    blocks[enterprise] = own = [];
                }

                own.AddRange(parsed.Batch!.Accepted);
            }

            await log.AppendAsync(
                [
                    .. blocks
                        .GroupBy(block => block.Key.LogPartition)
                        .Select(group =>
                            SegmentCodec.Encode(
                                group.Key,
                                [.. group.Select(block => new SegmentCodec.Block(block.Key, block.Value, 0))]
                            )
                        ),
                ],
                CancellationToken.None
            );
        }

        progress.WriteLine("processing them");
        while (
            (
                await ReadAsync(
                    database,
                    "SELECT count(*) FROM log_partitions JOIN log_positions USING (log_partition) WHERE next_offset - 1 > segment_offset",
                    reader => reader.GetInt64(0)
                )
            )[0] > 0
        )
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200));
        }

        long stored = (await ReadAsync(database, "SELECT count(*) FROM usage_events", reader => reader.GetInt64(0)))[0];
        if (stored != sent)
        {
            _report.Spoil($"{sent:N0} events were sent, {stored:N0} are stored.");
        }

        return stored;
    }

    private const string Sizes = """
        SELECT parent.relname::text, pg_table_size(leaf.oid), pg_indexes_size(leaf.oid)
          FROM pg_inherits JOIN pg_class AS leaf ON leaf.oid = inhrelid JOIN pg_class AS parent ON parent.oid = inhparent
         WHERE parent.relkind = 'p' AND parent.relname = ANY ('{usage_events,log_segments,user_usage_aggregates,usage_aggregates,active_user_sets,usage_ledger}')
        """;

    private async Task MeasureHotAsync(Database database, long events)
    {
        double all = 0;
        foreach (
            IGrouping<string, (string Name, long Table, long Indexes)> table in (
                await ReadAsync(
                    database,
                    Sizes,
                    reader => (reader.GetString(0), reader.GetInt64(1), reader.GetInt64(2))
                )
            ).GroupBy(row => row.Item1)
        )
        {
            (double rows, double indexes) = (
                (double)table.Sum(row => row.Table) / events,
                (double)table.Sum(row => row.Indexes) / events
            );
            _report.Add(new Measure($"hot: {table.Key}, rows (bytes/event)", [rows]));
            _report.Add(new Measure($"hot: {table.Key}, indexes (bytes/event)", [indexes]));
            all += table.Key is "usage_events" or "log_segments" ? rows + indexes : 0;
        }

        _report.Add(
            new Measure(
                "hot: an event, its segment, all indexes and dedupe keys (bytes)",
                [all],
                $"≤ {HotBytesTarget:N0}",
                bytes => bytes <= HotBytesTarget
            )
        );
    }

    private async Task ArchiveAsync(IServiceProvider services, Database database, long events)
    {
        progress.WriteLine("archiving");
        var plan = services.GetRequiredService<ArchivePlan>();
        var archiver = services.GetRequiredService<Archiver>();
        long started = Stopwatch.GetTimestamp();
        long moved = 0;
        foreach (ArchivePass pass in await plan.FindAsync(DateTimeOffset.UtcNow, CancellationToken.None))
        {
            moved += (await archiver.RunAsync(pass, CancellationToken.None)).Events;
        }

        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        var emptying = services.GetRequiredService<MonthEmptying>();
        foreach (int month in await emptying.FindMonthsAsync("usage_events", CancellationToken.None))
        {
            // As retention does; until then every question passes over the rows that were deleted.
            bool isEmptied = await emptying.TryIfNothingIsLeftAsync(
                "usage_events",
                "event_timestamp",
                month,
                CancellationToken.None
            );
            progress.WriteLine(isEmptied ? "a month is given back" : "a month cannot be given back yet");
        }

        if (moved != events)
        {
            _report.Spoil($"{events:N0} events were stored, {moved:N0} archived.");
        }

        _report.Add(
            new Measure(
                "archiving, verified and live rows deleted (s per million events)",
                [seconds / events * 1_000_000],
                $"≤ {SecondsPerMillionTarget:N0}",
                value => value <= SecondsPerMillionTarget
            )
        );
        (long files, long keys) = (
            await ReadAsync(
                database,
                "SELECT sum(file_bytes)::bigint, pg_total_relation_size('archived_event_keys') FROM archive_files",
                reader => (reader.GetInt64(0), reader.GetInt64(1))
            )
        )[0];
        _report.Add(new Measure("archived: sealed files (bytes/event)", [(double)files / events]));
        _report.Add(new Measure("archived: dedupe keys with their index (bytes/event)", [(double)keys / events]));
        _report.Add(
            new Measure(
                "archived: an event (bytes)",
                [(double)(files + keys) / events],
                $"≤ {ArchivedBytesTarget:N0}",
                bytes => bytes <= ArchivedBytesTarget
            )
        );
    }

    private async Task CompareAsync(IServiceProvider services, EnterpriseInfo[] enterprises, long events)
    {
        progress.WriteLine("writing the same as CSV and as plain Parquet");
        var reader = services.GetRequiredService<ArchiveReader>();
        string folder = Directory.CreateDirectory(Path.Combine(dataFolder, "compared")).FullName;
        long csv = 0;
        var sample = new Dictionary<Guid, string>();
        foreach (EnterpriseInfo enterprise in enterprises)
        {
            string path = Path.Combine(folder, $"{enterprise.EnterpriseId}.csv.gz");
            await using (var gzip = new GZipStream(File.Create(path), CompressionLevel.Optimal))
            await using (var export = new EventExport(gzip, isCsv: true, new LocalTime(enterprise.TimeZone)))
            {
                await foreach (
                    IReadOnlyList<ArchivedEvent> chunk in reader.StreamAsync(enterprise, All(), CancellationToken.None)
                )
                {
                    foreach (ArchivedEvent one in chunk)
                    {
                        sample.TryAdd(one.UserId, one.UserId.ToString());
                    }

                    await export.WriteAsync(chunk, sample, CancellationToken.None);
                }
            }

            csv += new FileInfo(path).Length;
        }

        // What lies open of the archive, written again as DuckDB does when it is told nothing.
        var opened = services.GetRequiredService<OpenedFolder>();
        using var duck = new Duck(opened, services.GetRequiredService<ArchiveSettings>());
        long plain = 0;
        foreach (string file in Directory.GetFiles(opened.Path, "*.parquet"))
        {
            string copy = opened.NewPath(".copy");
            duck.Execute(
                $"COPY (SELECT * FROM {ParquetFile.From(file)} ORDER BY received_at, event_timestamp) TO {Duck.Quote(copy)} (FORMAT parquet)"
            );
            plain += new FileInfo(copy).Length;
            OpenedFolder.Remove(copy);
        }

        _report.Add(new Measure("the same as CSV with gzip (bytes/event)", [(double)csv / events]));
        _report.Add(
            new Measure("the same as plain Parquet, in the order of receipt (bytes/event)", [(double)plain / events])
        );
    }

    private async Task QueryAsync(IServiceProvider services, EnterpriseInfo[] enterprises, long events)
    {
        progress.WriteLine("asking");
        var groups = services.GetRequiredService<EventGroups>();
        var files = services.GetRequiredService<OpenedFiles>();
        foreach (string by in new[] { "feature", "user", "hour", "property:plan" })
        {
            _ = GroupKey.TryParse(by, out GroupKey key);
            var cold = new List<double>();
            var warm = new List<double>();
            for (int round = 0; round < options.Rounds; round++)
            {
                foreach (EnterpriseInfo enterprise in enterprises)
                {
                    files.Forget(enterprise.EnterpriseId);
                }

                cold.Add(await AskAsync());
                warm.Add(await AskAsync());
            }

            // Only a run of the target's size may say whether it is met.
            bool isFull = events >= QueryTargetEvents && by == "feature";
            _report.Add(new Measure($"count by {by}, {events:N0} archived events, files opened first (s)", cold));
            _report.Add(
                new Measure(
                    $"count by {by}, {events:N0} archived events, files open (s)",
                    warm,
                    by == "feature" ? $"≤ {QuerySecondsTarget:N0} at {QueryTargetEvents:N0}" : null,
                    isFull ? seconds => seconds <= QuerySecondsTarget : null
                )
            );

            async Task<double> AskAsync()
            {
                long started = Stopwatch.GetTimestamp();
                long total = 0;
                foreach (EnterpriseInfo enterprise in enterprises)
                {
                    total += (await groups.CountAsync(enterprise, All(), key, 100, CancellationToken.None)).Total;
                }

                if (total != events)
                {
                    _report.Spoil($"{total:N0} of {events:N0} events were counted by {by}.");
                }

                return Stopwatch.GetElapsedTime(started).TotalSeconds;
            }
        }
    }

    private static EventFilter All()
    {
        var today = DateOnly.FromDateTime(DateTime.UtcNow);
        return new EventFilter(today.AddDays(-AgeDays - 2), today.AddDays(1), null, null, null);
    }

    private static async Task<List<T>> ReadAsync<T>(Database database, string sql, Func<NpgsqlDataReader, T> read)
    {
        var rows = new List<T>();
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(sql);
        command.CommandTimeout = 600;
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            rows.Add(read(reader));
        }

        return rows;
    }
}
