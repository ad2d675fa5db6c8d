using System.Buffers.Binary;
using System.IO.Hashing;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>
/// What is kept in <c>archived_event_keys</c> of the events whose rows are gone: eight bytes of each, so that an event that is
/// sent again is a duplicate also when the first has been archived.
/// </summary>
/// <remarks>
/// <para>
/// A key is XXH3-64 of the event's id. Of an enterprise with a million events a day, one backfilled event in a hundred thousand
/// million would be taken for another one. A day's keys are ascending and cut by their leading bits into rows of about
/// <see cref="KeysOfRow"/>, so that a lookup reads a few kilobytes. Days are whole: an id that is used again counts as the
/// same event when the first is of a day that touches the window of 32 days.
/// </para>
/// <para>
/// Archiving moves rows from <c>usage_events</c> to the keys in one transaction. So whoever looks into <c>usage_events</c> first and
/// here afterwards finds an event in one of the two, whenever that transaction commits.
/// </para>
/// </remarks>
internal static class ArchivedKeys
{
    public const int KeysOfRow = 512;
    private const int BitsMax = 24;
    private const int RowsOfQueryMax = 2_000;

    /// <summary>Younger events than this are never looked up: whatever they could repeat is not archived yet.</summary>
    private static readonly TimeSpan s_neverBefore =
        TimeSpan.FromDays(ArchiveSettings.AfterDaysMin) - StepEvents.DeduplicationWindow;

    public static ulong KeyOf(Guid eventId)
    {
        Span<byte> bytes = stackalloc byte[16];
        eventId.TryWriteBytes(bytes, bigEndian: true, out _);
        return XxHash3.HashToUInt64(bytes);
    }

    /// <summary>The leading bits by which so many keys are cut into rows.</summary>
    public static int BitsFor(long keys)
    {
        int bits = 0;
        while (bits < BitsMax && (keys >> bits) > KeysOfRow)
        {
            bits++;
        }

        return bits;
    }

    public static int BucketOf(ulong key, int bits) => bits == 0 ? 0 : (int)(key >> (64 - bits));

    /// <summary>The rows of a day.</summary>
    /// <param name="keys">Is put in order.</param>
    /// <param name="bits">As of <see cref="BitsFor"/>.</param>
    public static IEnumerable<(int Bucket, byte[] Keys)> Encode(ulong[] keys, int bits)
    {
        Array.Sort(keys);
        int start = 0;
        while (start < keys.Length)
        {
            int bucket = BucketOf(keys[start], bits);
            int end = start;
            while (end < keys.Length && BucketOf(keys[end], bits) == bucket)
            {
                end++;
            }

            byte[] row = new byte[(end - start) * sizeof(ulong)];
            for (int i = start; i < end; i++)
            {
                BinaryPrimitives.WriteUInt64BigEndian(row.AsSpan((i - start) * sizeof(ulong)), keys[i]);
            }

            yield return (bucket, row);
            start = end;
        }
    }

    /// <summary>Whether a row has a key.</summary>
    public static bool Has(ReadOnlySpan<byte> row, ulong key)
    {
        int low = 0;
        int high = row.Length / sizeof(ulong);
        while (low < high)
        {
            int middle = (low + high) / 2;
            ulong found = BinaryPrimitives.ReadUInt64BigEndian(row[(middle * sizeof(ulong))..]);
            if (found == key)
            {
                return true;
            }

            (low, high) = found < key ? (middle + 1, high) : (low, middle);
        }

        return false;
    }

    private readonly record struct Probe(StepEnterprise Enterprise, int Index, ulong Key);

    private readonly record struct Row(Guid EnterpriseId, DateOnly Day, int Bucket);

    /// <summary>Marks the events that are archived already. To be called after <see cref="StoreWriter.FindStoredAsync"/>.</summary>
    public static async Task FindAsync(
        NpgsqlConnection connection,
        StepEvents step,
        DateTimeOffset at,
        CancellationToken cancellationToken
    )
    {
        var probes = new Dictionary<Guid, List<Probe>>();
        (DateTime oldest, DateTime newest) = (DateTime.MaxValue, DateTime.MinValue);
        DateTime youngest = at.UtcDateTime - s_neverBefore;
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            for (int index = 0; index < enterprise.Events.Count; index++)
            {
                StepEvent current = enterprise.Events[index];
                if (current.IsDuplicate || current.Timestamp >= youngest)
                {
                    continue;
                }

                if (!probes.TryGetValue(enterprise.Id, out List<Probe>? own))
                {
                    probes[enterprise.Id] = own = [];
                }

                own.Add(new Probe(enterprise, index, KeyOf(current.EventId)));
                oldest = current.Timestamp < oldest ? current.Timestamp : oldest;
                newest = current.Timestamp > newest ? current.Timestamp : newest;
            }
        }

        if (probes.Count == 0)
        {
            return;
        }

        // A day that is rewritten meanwhile may be cut otherwise: then it is looked at again, as it is now.
        List<Day> days = await FindDaysAsync(connection, probes.Keys, oldest, newest, cancellationToken);
        while (true)
        {
            Dictionary<Row, List<Probe>> rows = Place(probes, days);
            foreach (
                Row[] some in rows.Keys.OrderBy(row => row.EnterpriseId).ThenBy(row => row.Day).Chunk(RowsOfQueryMax)
            )
            {
                await LookAsync(connection, some, rows, cancellationToken);
            }

            if (rows.Count == 0)
            {
                return;
            }

            List<Day> now = await FindDaysAsync(connection, probes.Keys, oldest, newest, cancellationToken);
            if (now.SequenceEqual(days))
            {
                return;
            }

            days = now;
        }
    }

    private readonly record struct Day(
        Guid EnterpriseId,
        DateOnly Date,
        DateTime Start,
        DateTime End,
        int Bits,
        int Generation
    );

    private const string FindDays = """
        SELECT enterprise_id, archived_day, day_start, day_end, key_bits, generation FROM archive_files
         WHERE enterprise_id = ANY ($1) AND day_end > $2 AND day_start <= $3
         ORDER BY enterprise_id, archived_day
        """;

    private static async Task<List<Day>> FindDaysAsync(
        NpgsqlConnection connection,
        IReadOnlyCollection<Guid> enterprises,
        DateTime oldest,
        DateTime newest,
        CancellationToken cancellationToken
    )
    {
        var days = new List<Day>();
        await using var command = new NpgsqlCommand(FindDays, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. enterprises] });
        command.Parameters.Add(Columns.Value(oldest - StepEvents.DeduplicationWindow));
        command.Parameters.Add(Columns.Value(newest + StepEvents.DeduplicationWindow));
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            days.Add(
                new Day(
                    reader.GetGuid(0),
                    reader.GetFieldValue<DateOnly>(1),
                    reader.GetDateTime(2),
                    reader.GetDateTime(3),
                    reader.GetInt32(4),
                    reader.GetInt32(5)
                )
            );
        }

        return days;
    }

    private static Dictionary<Row, List<Probe>> Place(Dictionary<Guid, List<Probe>> probes, List<Day> days)
    {
        var rows = new Dictionary<Row, List<Probe>>();
        foreach (Day day in days)
        {
            foreach (Probe probe in probes[day.EnterpriseId])
            {
                DateTime at = probe.Enterprise.Events[probe.Index].Timestamp;
                if (at + StepEvents.DeduplicationWindow < day.Start || at - StepEvents.DeduplicationWindow >= day.End)
                {
                    continue;
                }

                var row = new Row(day.EnterpriseId, day.Date, BucketOf(probe.Key, day.Bits));
                if (!rows.TryGetValue(row, out List<Probe>? asked))
                {
                    rows[row] = asked = [];
                }

                asked.Add(probe);
            }
        }

        return rows;
    }

    private const string ReadRows = """
        SELECT kept.enterprise_id, kept.archived_day, kept.bucket, kept.keys
          FROM unnest($1, $2, $3) AS asked (enterprise_id, archived_day, bucket)
          JOIN archived_event_keys AS kept
            ON kept.enterprise_id = asked.enterprise_id AND kept.archived_day = asked.archived_day AND kept.bucket = asked.bucket
        """;

    private static async Task LookAsync(
        NpgsqlConnection connection,
        Row[] some,
        Dictionary<Row, List<Probe>> rows,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(ReadRows, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. some.Select(row => row.EnterpriseId)] });
        command.Parameters.Add(new NpgsqlParameter<DateOnly[]> { TypedValue = [.. some.Select(row => row.Day)] });
        command.Parameters.Add(new NpgsqlParameter<int[]> { TypedValue = [.. some.Select(row => row.Bucket)] });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            var row = new Row(reader.GetGuid(0), reader.GetFieldValue<DateOnly>(1), reader.GetInt32(2));
            byte[] keys = reader.GetFieldValue<byte[]>(3);
            foreach (Probe probe in rows[row].Where(probe => Has(keys, probe.Key)))
            {
                probe.Enterprise.EventSpan[probe.Index].IsDuplicate = true;
            }
        }
    }
}
