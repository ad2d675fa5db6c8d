using System.Buffers;
using System.Data;
using System.Security.Cryptography;
using DuckDB.NET.Data;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive;

/// <summary>How far a pass has come, for tests that end it there.</summary>
internal enum ArchiveStage
{
    Read,
    Reserved,
    Sealed,
    Verified,
    Switching,
    Switched,
    Done,
}

/// <summary>Moves finished days from <c>usage_events</c> and the log into sealed Parquet files.</summary>
/// <remarks>
/// <para>
/// Invariant: at every moment, in every snapshot of the database, an event of an archived day is either a live row or in the file
/// that the row of <c>archive_files</c> names, never in both and never in neither; and it is a duplicate when it is sent again.
/// </para>
/// <para>It is kept like this; a crash at a step leaves what stands there, and the next run does the pass anew.</para>
/// <list type="number">
/// <item><see cref="ArchiveStage.Read"/>: a repeatable-read transaction that holds the partition's advisory lock has read the live
/// rows, the file there may be, and the partition's position (the watermark). A crash leaves nothing but opened files in the
/// private folder, which the next process removes.</item>
/// <item><see cref="ArchiveStage.Reserved"/>: the next generation's name is taken by an empty file that no row names.
/// Nobody ever takes that name again, so no two writers write one file.</item>
/// <item><see cref="ArchiveStage.Sealed"/>: old file and live rows together stand sealed under that name, durable with their folder.
/// No row names it.</item>
/// <item><see cref="ArchiveStage.Verified"/>: the sealed file was read back and opened; number and hashes of its events are those of the old
/// file and the live rows that were read.</item>
/// <item><see cref="ArchiveStage.Switching"/>: one transaction deletes the live rows up to the watermark, as many as were read or
/// nothing, names the file in <c>archive_files</c>, and keeps the ids' keys. Before its commit all is as before; rows that processing has
/// stored meanwhile are beyond the watermark and stay.</item>
/// <item><see cref="ArchiveStage.Switched"/>: the commit is durable. The old generation, and what stopped runs have left of the day, lies there
/// unnamed.</item>
/// <item><see cref="ArchiveStage.Done"/>: that is removed. A reader that still has the old name finds no file, and asks once more for the
/// name. What a crash before this leaves is removed by <see cref="ArchiveSweep"/>.</item>
/// </list>
/// </remarks>
internal sealed class Archiver(
    Database database,
    ArchiveFolder archive,
    OpenedFolder opened,
    ArchiveSettings settings,
    TimeProvider time
)
{
    /// <summary>Live rows read before their properties are looked up.</summary>
    private const int RowsOfBatch = 10_000;

    /// <summary>Of the memory: writing a part needs room for what is put in order and for the row groups being made.</summary>
    private const int StagedShare = 8;

    private const int LockClass = 0x41524348;
    private const int CommandSeconds = 1_800;

    /// <summary>Called at each stage; a test ends a pass by throwing.</summary>
    public Action<ArchiveStage>? Reached { get; init; }

    /// <summary>A day's way through a pass.</summary>
    private sealed class Work(DueDay due)
    {
        public DueDay Due { get; } = due;
        public Guid Id => Due.Enterprise.EnterpriseId;
        public ArchiveFile? Before { get; set; }
        public long Counted { get; set; }
        public Content Live { get; set; }
        public Written? Written { get; set; }
    }

    /// <summary>A new file, verified.</summary>
    private sealed record Written(
        int Generation,
        string Path,
        Content Content,
        long Bytes,
        byte[] Sha256,
        DateTime FirstAt,
        DateTime LastAt,
        ulong[] Keys
    );

    /// <summary>What a pass did.</summary>
    /// <param name="Files">Written.</param>
    /// <param name="Events">Moved.</param>
    /// <param name="IsBusy">Another instance is at this partition.</param>
    public sealed record Outcome(int Files, long Events, bool IsBusy = false);

    public async Task<Outcome> RunAsync(ArchivePass pass, CancellationToken cancellationToken)
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction snapshot = await connection.BeginTransactionAsync(
            IsolationLevel.RepeatableRead,
            cancellationToken
        );
        if (!await TryLockAsync(connection, pass.LogPartition, cancellationToken))
        {
            return new Outcome(0, 0, IsBusy: true);
        }

        List<Work> days = [.. pass.Days.Select(due => new Work(due))];
        long watermark = await ReadStateAsync(connection, pass, days, cancellationToken);
        using var duck = new Duck(opened, settings);
        using var staged = new StagedEvents(
            duck,
            opened,
            days.Count,
            ((long)settings.MemoryMegabytes << 20) / StagedShare
        );
        await StageAsync(connection, pass, days, staged, cancellationToken);
        Reached?.Invoke(ArchiveStage.Read);
        for (int place = 0; place < days.Count; place++)
        {
            days[place].Live = staged.ContentOf(place);
            if (days[place].Live.Events > 0)
            {
                days[place].Written = Write(duck, staged, days[place], place, cancellationToken);
            }
        }

        await SwitchAsync(pass, days, watermark, cancellationToken);
        Reached?.Invoke(ArchiveStage.Switched);
        foreach (Work day in days.Where(day => day.Written is not null))
        {
            archive.RemoveOthers(day.Id, day.Due.Day, day.Written!.Path);
        }

        Reached?.Invoke(ArchiveStage.Done);
        return new Outcome(days.Count(day => day.Written is not null), days.Sum(day => day.Live.Events));
    }

    // Until the end of the transaction, which is the end of the pass. The login's plans are for single keys, this reads a day.
    private const string Lock = """
        SELECT pg_try_advisory_xact_lock($1, $2), set_config('plan_cache_mode', 'force_custom_plan', true),
               set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true)
        """;

    private static async Task<bool> TryLockAsync(
        NpgsqlConnection connection,
        short partition,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(Lock, connection);
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = LockClass });
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = partition });
        return await command.ExecuteScalarAsync(cancellationToken) is true;
    }

    private const string ReadFiles = $"""
        SELECT enterprise_id, {ArchiveFile.Columns} FROM archive_files WHERE enterprise_id = ANY ($1) AND day_start = $2
        """;

    private const string ReadCounted = """
        SELECT enterprise_id, value FROM usage_aggregates
         WHERE enterprise_id = ANY ($1) AND metric_type = 'usage_count' AND granularity = 'day' AND feature_name = ''
           AND time_bucket = $2
        """;

    /// <returns>The position: every event of the days from segments up to it is stored, and seen by this transaction.</returns>
    private static async Task<long> ReadStateAsync(
        NpgsqlConnection connection,
        ArchivePass pass,
        List<Work> days,
        CancellationToken cancellationToken
    )
    {
        Dictionary<Guid, Work> byId = days.ToDictionary(day => day.Id);
        await using var batch = new NpgsqlBatch(connection);
        foreach (string sql in new[] { ReadFiles, ReadCounted })
        {
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(sql)
                {
                    Parameters =
                    {
                        new NpgsqlParameter<Guid[]> { TypedValue = [.. byId.Keys] },
                        Columns.Value(pass.Start),
                    },
                }
            );
        }

        batch.BatchCommands.Add(
            new NpgsqlBatchCommand("SELECT segment_offset FROM log_positions WHERE log_partition = $1")
            {
                Parameters = { new NpgsqlParameter<short> { TypedValue = pass.LogPartition } },
            }
        );
        await using NpgsqlDataReader reader = await batch.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            byId[reader.GetGuid(0)].Before = ArchiveFile.Read(reader, first: 1);
        }

        await reader.NextResultAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            byId[reader.GetGuid(0)].Counted = reader.GetInt64(1);
        }

        await reader.NextResultAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? reader.GetInt64(0) : 0;
    }

    // In the order of the log, so that a segment is opened once.
    private const string ReadEvents = """
        SELECT enterprise_id, event_id, user_id, feature_name, event_type, event_timestamp, received_at, segment_offset, segment_slot
          FROM usage_events
         WHERE event_timestamp >= $1 AND event_timestamp < $2 AND log_partition = $3 AND enterprise_id = ANY ($4)
         ORDER BY segment_offset, enterprise_id, segment_slot
        """;

    private async Task StageAsync(
        NpgsqlConnection connection,
        ArchivePass pass,
        List<Work> days,
        StagedEvents staged,
        CancellationToken cancellationToken
    )
    {
        var places = new Dictionary<Guid, int>();
        for (int place = 0; place < days.Count; place++)
        {
            places[days[place].Id] = place;
        }

        await using var command = new NpgsqlCommand(ReadEvents, connection) { CommandTimeout = CommandSeconds };
        command.Parameters.Add(Columns.Value(pass.Start));
        command.Parameters.Add(Columns.Value(pass.End));
        command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = pass.LogPartition });
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. places.Keys] });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        var batch = new List<(int Day, Place Where, ArchivedEvent Event)>(RowsOfBatch);
        while (await reader.ReadAsync(cancellationToken))
        {
            batch.Add(
                (
                    places[reader.GetGuid(0)],
                    new Place(reader.GetInt64(7), reader.GetInt32(8), reader.GetDateTime(6)),
                    new ArchivedEvent(
                        reader.GetGuid(1),
                        reader.GetGuid(2),
                        reader.GetString(3),
                        reader.GetString(4),
                        reader.GetDateTime(5),
                        reader.GetDateTime(6),
                        null
                    )
                )
            );
            if (batch.Count == RowsOfBatch)
            {
                await AddAsync();
            }
        }

        await AddAsync();

        async Task AddAsync()
        {
            await LiveProperties.OpenAsync(
                database,
                pass.LogPartition,
                batch,
                one => one.Where,
                one => days[one.Day].Due.Enterprise,
                (one, properties) => staged.Add(one.Day, one.Event with { Properties = properties }, cancellationToken),
                cancellationToken
            );
            batch.Clear();
        }
    }

    private Written Write(Duck duck, StagedEvents staged, Work day, int place, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = day.Due.Enterprise;
        string? before = null;
        string? plain = null;
        string? again = null;
        try
        {
            if (day.Before is { } old)
            {
                before = opened.NewPath(".parquet");
                using FileStream source = archive.OpenRead(old.Path);
                using FileStream destination = File.Create(before);
                SealedFile.Open(
                    source,
                    destination,
                    enterprise.DataKey,
                    old.Identity(day.Id),
                    withProperties: true,
                    cancellationToken
                );
            }

            Content expected = day.Live + (day.Before?.Content ?? default);
            plain = staged.Write(place, before, expected.Events, cancellationToken);
            (int generation, string path) = archive.Reserve(day.Id, day.Due.Day, day.Before?.Generation ?? 0);
            Reached?.Invoke(ArchiveStage.Reserved);
            var identity = new SealedIdentity(day.Id, day.Due.Day, generation);
            List<ByteRange> properties = ParquetFile.FindProperties(duck, plain);
            byte[] sha256 = archive.Write(
                path,
                stream =>
                {
                    using FileStream source = File.OpenRead(plain);
                    return SealedFile.Seal(source, stream, enterprise.DataKey, identity, properties, cancellationToken);
                }
            );
            Reached?.Invoke(ArchiveStage.Sealed);
            again = opened.NewPath(".parquet");
            Written written = Verify(duck, day, identity, path, again, sha256, expected, cancellationToken);
            Reached?.Invoke(ArchiveStage.Verified);
            return written;
        }
        finally
        {
            foreach (string file in new[] { before, plain, again }.OfType<string>())
            {
                OpenedFolder.Remove(file);
            }
        }
    }

    // Nothing of what the file was written from is used: what is on the disk is opened and read.
    private Written Verify(
        Duck duck,
        Work day,
        SealedIdentity identity,
        string path,
        string again,
        byte[] sha256,
        Content expected,
        CancellationToken cancellationToken
    )
    {
        long bytes;
        using (FileStream source = archive.OpenRead(path))
        {
            bytes = source.Length;
            if (!SHA256.HashData(source).AsSpan().SequenceEqual(sha256))
            {
                throw new InvalidDataException($"The file '{path}' is not what was written.");
            }

            using FileStream destination = File.Create(again);
            SealedFile.Open(
                source,
                destination,
                day.Due.Enterprise.DataKey,
                identity,
                withProperties: true,
                cancellationToken
            );
        }

        var content = default(Content);
        var keys = new List<ulong>((int)Math.Min(int.MaxValue / 2, expected.Events));
        (DateTime first, DateTime last) = (DateTime.MaxValue, DateTime.MinValue);
        var scratch = new ArrayBufferWriter<byte>(4_096);
        using DuckDBCommand command = duck.Command($"SELECT {ParquetFile.Columns} FROM {ParquetFile.From(again)}");
        foreach (ArchivedEvent one in ParquetFile.Read(command, cancellationToken))
        {
            content = content.With(one.Hash(scratch));
            keys.Add(ArchivedKeys.KeyOf(one.EventId));
            first = one.Timestamp < first ? one.Timestamp : first;
            last = one.Timestamp > last ? one.Timestamp : last;
        }

        return content == expected
            ? new Written(identity.Generation, path, content, bytes, sha256, first, last, [.. keys])
            : throw new InvalidDataException(
                $"The file '{path}' has {content.Events} events of {expected.Events}, or others."
            );
    }

    private const string Delete = """
        WITH gone AS (
            DELETE FROM usage_events
             WHERE enterprise_id = ANY ($1) AND event_timestamp >= $2 AND event_timestamp < $3 AND log_partition = $4
               AND segment_offset <= $5
            RETURNING enterprise_id)
        SELECT enterprise_id, count(*) FROM gone GROUP BY enterprise_id
        """;

    private const string Plans = """
        SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'on', true)
        """;

    private async Task SwitchAsync(
        ArchivePass pass,
        List<Work> days,
        long watermark,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using (var plans = new NpgsqlCommand(Plans, connection, transaction))
        {
            await plans.ExecuteNonQueryAsync(cancellationToken);
        }

        foreach (Work day in days)
        {
            await ArchiveStatements.WriteFileAsync(
                connection,
                new ArchiveStatements.FileRow(
                    day.Id,
                    day.Due.Day,
                    pass.Start,
                    pass.End,
                    day.Before?.Generation ?? 0,
                    watermark,
                    day.Counted,
                    time.GetUtcNow().UtcDateTime
                ),
                day.Written is { } written
                    ? new ArchiveStatements.NewFile(
                        written.Generation,
                        written.Path,
                        written.Content,
                        written.Bytes,
                        written.Sha256,
                        written.FirstAt,
                        written.LastAt,
                        written.Keys
                    )
                    : null,
                cancellationToken
            );
        }

        List<Work> moved = [.. days.Where(day => day.Live.Events > 0)];
        var gone = new Dictionary<Guid, long>();
        if (moved.Count > 0)
        {
            await using var command = new NpgsqlCommand(Delete, connection, transaction)
            {
                CommandTimeout = CommandSeconds,
            };
            command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. moved.Select(day => day.Id)] });
            command.Parameters.Add(Columns.Value(pass.Start));
            command.Parameters.Add(Columns.Value(pass.End));
            command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = pass.LogPartition });
            command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = watermark });
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                gone[reader.GetGuid(0)] = reader.GetInt64(1);
            }
        }

        if (moved.Find(day => gone.GetValueOrDefault(day.Id) != day.Live.Events) is { } other)
        {
            throw new InvalidDataException(
                $"{other.Live.Events} live events of {other.Due.Day} were archived, but {gone.GetValueOrDefault(other.Id)} are there."
            );
        }

        Reached?.Invoke(ArchiveStage.Switching);
        await transaction.CommitAsync(cancellationToken);
    }
}
