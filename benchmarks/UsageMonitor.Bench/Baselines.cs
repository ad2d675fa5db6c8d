using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using Npgsql;
using NpgsqlTypes;

namespace UsageMonitor.Bench;

/// <summary>
/// What the same PostgreSQL with the same settings does without the platform: the limit (<c>COPY</c>), and what a team
/// would write first (an <c>INSERT</c> per event). The table is a new one in every round, which flatters both.
/// </summary>
internal sealed class Baselines(string connectionString, IReadOnlyList<EventBatch> batches) : IAsyncDisposable
{
    private const int CopyRows = 10_000;
    private const int InsertConnections = 8;
    private const int ConnectionsMax = 16;
    private const int Columns = 7;

    private const string CreateTable = """
        DROP TABLE IF EXISTS bench_events;
        CREATE TABLE bench_events (
            enterprise_id   uuid        NOT NULL,
            event_id        uuid        NOT NULL,
            user_id         text        NOT NULL,
            feature_name    text        NOT NULL,
            event_type      text        NOT NULL,
            event_timestamp timestamptz NOT NULL,
            properties      PROPERTIES  NOT NULL,
            PRIMARY KEY (enterprise_id, event_id)
        );
        CHECKPOINT;
        """;

    private const string Copy = "COPY bench_events FROM STDIN (FORMAT BINARY)";
    private const string Insert = "INSERT INTO bench_events VALUES ($1, $2, $3, $4, $5, $6, $7)";

    private static readonly byte[] Signature = [.. "PGCOPY\n"u8, 0xff, .. "\r\n\0"u8];

    private static readonly long PostgresEpochMicroseconds =
        new DateTime(2000, 1, 1, 0, 0, 0, DateTimeKind.Utc).Ticks / TimeSpan.TicksPerMicrosecond;

    private readonly UniqueIds _ids = new();
    private readonly NpgsqlDataSource _source = NpgsqlDataSource.Create(
        new NpgsqlConnectionStringBuilder(connectionString) { MaxPoolSize = ConnectionsMax }
    );

    public ValueTask DisposeAsync() => _source.DisposeAsync();

    /// <summary>Rows a second of all events in <c>COPY</c>s of 10,000 rows, encoded beforehand, over so many connections.</summary>
    /// <param name="streams">Connections side by side.</param>
    /// <param name="asJson">The properties as <c>jsonb</c>, parsed by PostgreSQL; otherwise as <c>text</c>, which nobody reads.</param>
    public async Task<double> CopyAsync(int streams, bool asJson = false)
    {
        List<(byte[] Bytes, int Rows)> copies = Encode(asJson);
        await CreateTableAsync(asJson);
        var connections = new List<NpgsqlConnection>();
        for (int stream = 0; stream < streams; stream++)
        {
            connections.Add(await _source.OpenConnectionAsync());
        }

        int next = -1;
        long started = Stopwatch.GetTimestamp();
        await Task.WhenAll(
            connections.Select(connection =>
                Task.Run(async () =>
                {
                    for (int at; (at = Interlocked.Increment(ref next)) < copies.Count; )
                    {
                        await using NpgsqlRawCopyStream copy = await connection.BeginRawBinaryCopyAsync(Copy);
                        await copy.WriteAsync(copies[at].Bytes);
                    }
                })
            )
        );
        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        foreach (NpgsqlConnection connection in connections)
        {
            await connection.DisposeAsync();
        }

        int rows = copies.Sum(copy => copy.Rows);
        await using NpgsqlCommand count = _source.CreateCommand("SELECT count(*) FROM bench_events");
        return await count.ExecuteScalarAsync() is long there && there == rows
            ? rows / seconds
            : throw new BenchException($"COPY did not leave its {rows} rows.");
    }

    /// <summary>Rows a second, each in its own transaction by a prepared statement.</summary>
    public async Task<double> InsertAsync(TimeSpan duration)
    {
        await CreateTableAsync(asJson: false);
        long inserted = 0;
        long started = Stopwatch.GetTimestamp();
        await Task.WhenAll(
            Enumerable
                .Range(0, InsertConnections)
                .Select(lane =>
                    Task.Run(async () =>
                    {
                        long rows = await InsertAsync(batches[lane % batches.Count], started, duration);
                        Interlocked.Add(ref inserted, rows);
                    })
                )
        );
        return inserted / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    private async Task<long> InsertAsync(EventBatch batch, long started, TimeSpan duration)
    {
        var ids = new UniqueIds();
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync();
        await using var command = new NpgsqlCommand(Insert, connection);
        var enterprise = new NpgsqlParameter<Guid> { TypedValue = EnterpriseId(batch.Enterprise) };
        var id = new NpgsqlParameter<Guid>();
        var user = new NpgsqlParameter<string>();
        var feature = new NpgsqlParameter<string>();
        var type = new NpgsqlParameter<string> { TypedValue = "use" };
        var timestamp = new NpgsqlParameter<DateTime> { NpgsqlDbType = NpgsqlDbType.TimestampTz };
        var properties = new NpgsqlParameter<string>();
        command.Parameters.AddRange(
            new NpgsqlParameter[] { enterprise, id, user, feature, type, timestamp, properties }
        );
        string[] users = [.. Texts(batch, EventBodies.UserIdAt, EventBodies.IdLetters)];
        string[] features = [.. Texts(batch, EventBodies.FeatureAt, EventBodies.FeatureLetters)];
        string[] texts = [.. Texts(batch, EventBodies.PropertiesAt, EventBodies.PropertiesBytes)];
        long rows = 0;
        for (; Stopwatch.GetElapsedTime(started) < duration; rows++)
        {
            int at = (int)(rows % batch.Events);
            id.TypedValue = ids.Next();
            (user.TypedValue, feature.TypedValue, properties.TypedValue) = (users[at], features[at], texts[at]);
            timestamp.TypedValue = DateTime.UtcNow;
            if (rows == 0)
            {
                await command.PrepareAsync();
            }

            await command.ExecuteNonQueryAsync();
        }

        return rows;
    }

    private static IEnumerable<string> Texts(EventBatch batch, int at, int length) =>
        Enumerable
            .Range(0, batch.Events)
            .Select(index => Encoding.ASCII.GetString(batch.Event(index).Slice(at, length)));

    private async Task CreateTableAsync(bool asJson)
    {
        string script = CreateTable.Replace("PROPERTIES", asJson ? "jsonb" : "text", StringComparison.Ordinal);
        foreach (
            string statement in script.Split(
                ';',
                StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries
            )
        )
        {
            await using NpgsqlCommand command = _source.CreateCommand(statement);
            await command.ExecuteNonQueryAsync();
        }
    }

    private static Guid EnterpriseId(int enterprise) => UniqueIds.From((ulong)enterprise);

    /// <summary>All events as binary <c>COPY</c> data (PostgreSQL manual, "COPY", Binary Format).</summary>
    private List<(byte[] Bytes, int Rows)> Encode(bool asJson)
    {
        const int HeaderBytes = 19;
        int rowBytes =
            2
            + (Columns * 4)
            + 16
            + 16
            + EventBodies.IdLetters
            + EventBodies.FeatureLetters
            + 3
            + 8
            + EventBodies.PropertiesBytes
            + (asJson ? 1 : 0);
        int batchEvents = batches[0].Events;
        int batchesInCopy = Math.Max(1, CopyRows / batchEvents);
        var copies = new List<(byte[], int)>();
        foreach (EventBatch[] part in batches.Chunk(batchesInCopy))
        {
            byte[] bytes = new byte[HeaderBytes + (part.Length * batchEvents * rowBytes) + 2];
            Signature.CopyTo(bytes);
            var row = new RowWriter(bytes, HeaderBytes);
            foreach (EventBatch batch in part)
            {
                for (int index = 0; index < batch.Events; index++)
                {
                    Write(ref row, batch.Enterprise, batch.Event(index), asJson);
                }
            }

            row.EndOfData();
            copies.Add((bytes, part.Length * batchEvents));
        }

        return copies;
    }

    private void Write(ref RowWriter row, int enterprise, ReadOnlySpan<byte> body, bool asJson)
    {
        long microseconds = (DateTime.UtcNow.Ticks / TimeSpan.TicksPerMicrosecond) - PostgresEpochMicroseconds;
        row.Columns(Columns);
        row.Field(EnterpriseId(enterprise));
        row.Field(_ids.Next());
        row.Field(body.Slice(EventBodies.UserIdAt, EventBodies.IdLetters));
        row.Field(body.Slice(EventBodies.FeatureAt, EventBodies.FeatureLetters));
        row.Field("use"u8);
        row.Field(microseconds);
        ReadOnlySpan<byte> properties = body.Slice(EventBodies.PropertiesAt, EventBodies.PropertiesBytes);
        if (asJson)
        {
            row.JsonField(properties);
        }
        else
        {
            row.Field(properties);
        }
    }

    private ref struct RowWriter(Span<byte> target, int at)
    {
        private readonly Span<byte> _target = target;
        private int _at = at;

        public void Columns(short count)
        {
            BinaryPrimitives.WriteInt16BigEndian(_target[_at..], count);
            _at += 2;
        }

        /// <summary>jsonb's binary form is a version and the text.</summary>
        public void JsonField(scoped ReadOnlySpan<byte> value)
        {
            BinaryPrimitives.WriteInt32BigEndian(_target[_at..], value.Length + 1);
            _target[_at + 4] = 1;
            value.CopyTo(_target[(_at + 5)..]);
            _at += 5 + value.Length;
        }

        public void Field(scoped ReadOnlySpan<byte> value)
        {
            BinaryPrimitives.WriteInt32BigEndian(_target[_at..], value.Length);
            value.CopyTo(_target[(_at + 4)..]);
            _at += 4 + value.Length;
        }

        public void Field(Guid value)
        {
            Span<byte> bytes = stackalloc byte[16];
            value.TryWriteBytes(bytes, bigEndian: true, out _);
            Field(bytes);
        }

        public void Field(long value)
        {
            Span<byte> bytes = stackalloc byte[8];
            BinaryPrimitives.WriteInt64BigEndian(bytes, value);
            Field(bytes);
        }

        public void EndOfData() => Columns(-1);
    }
}
