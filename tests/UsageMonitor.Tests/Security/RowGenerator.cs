using System.Globalization;
using System.Text.RegularExpressions;
using Npgsql;

namespace UsageMonitor.Tests.Security;

/// <summary>
/// Makes a row of an enterprise in every table that has <c>enterprise_id</c>, from what the catalog says of its columns: types,
/// NOT NULL, CHECKs and foreign keys. A new table is filled by itself.
/// </summary>
/// <remarks>
/// When a test says "RowGenerator cannot make a row of …", the table has a rule that types and lists of words do not tell: add a
/// line to <see cref="s_samples"/>, as <c>["policies.conditions"] = "'{}'::jsonb"</c>. Rows are inserted by the database's owner,
/// a superuser in tests, whom row-level security does not bind.
/// </remarks>
internal sealed partial class RowGenerator
{
    private const string Document =
        "'{\"principals\":{\"users\":[],\"roles\":[],\"groups\":[],\"apiKeys\":[]},\"features\":[],\"actions\":[],"
        + "\"conditions\":{\"weekdays\":[],\"networks\":[],\"eventTypes\":[]}}'";

    /// <summary>Values that the catalog does not tell, as SQL; <c>$1</c> is the enterprise, <c>$2</c> a number that grows.</summary>
    private static readonly Dictionary<string, string> s_samples = new()
    {
        ["enterprises.time_zone"] = "'Asia/Kolkata'",
        ["policies.document"] = Document,
        ["policy_versions.document"] = Document,
        ["identity_providers.role_mapping"] = "'[]'",
        // Sealed to their rows, which the generator cannot.
        ["anomalies.note"] = "NULL::bytea",
        // Nothing that the background would go on with while a test looks.
        ["alert_events.window_end"] = "'2126-03-10 12:00:00Z'",
        ["usage_reservations.state"] = "'RELEASED'",
        ["alert_deliveries.next_attempt_at"] = "NULL::timestamptz",
        ["anomaly_positions.next_look_at"] = "'2126-03-10 12:00:00Z'",
        ["limit_usage.window_end"] = "'2126-03-10 12:00:00Z'",
        // Exactly one threshold.
        ["usage_alerts.threshold_pct"] = "80",
        ["usage_alerts.threshold_value"] = "NULL::bigint",
        // A receipt's id is a UUIDv7 of the instant, to the millisecond.
        ["decisions.decided_at"] = "'2026-03-10 12:00:00Z'",
        ["decisions.receipt_id"] =
            "(lpad(to_hex(1773144000000), 12, '0') || '7' || substr(md5($2::text), 1, 3) || '8' || substr(md5($1::text), 1, 15))::uuid",
    };

    private readonly string _connectionString;
    private readonly IReadOnlyList<Table> _tables;
    private int _number = 1_000;

    private RowGenerator(string connectionString, IReadOnlyList<Table> tables)
    {
        (_connectionString, _tables) = (connectionString, tables);
    }

    /// <summary>Those that have <c>enterprise_id</c>, partitions left out, referenced ones first.</summary>
    public IEnumerable<string> Tables => _tables.Select(table => table.Name);

    private sealed record Column(string Name, string Type, bool IsRequired, IReadOnlyList<string> Words);

    private sealed record Reference(string Table, string[] Columns, string[] Referenced);

    private sealed record Table(string Name, string[] Key)
    {
        public List<Column> Columns { get; } = [];

        public List<Reference> References { get; } = [];
    }

    private const string ReadTables = """
        SELECT c.relname, coalesce((SELECT array_agg(a.attname ORDER BY k.at) FROM pg_constraint p,
                   unnest(p.conkey) WITH ORDINALITY AS k(attnum, at), pg_attribute a
                   WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attrelid = c.oid AND a.attnum = k.attnum), '{}')::text[]
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND EXISTS (SELECT FROM pg_attribute e WHERE e.attrelid = c.oid AND e.attname = 'enterprise_id')
        ORDER BY c.relname
        """;

    private const string ReadColumns = """
        SELECT c.relname, a.attname, format_type(a.atttypid, NULL), a.attnotnull,
               (SELECT string_agg(pg_get_constraintdef(p.oid), ' ') FROM pg_constraint p
                WHERE p.conrelid = c.oid AND p.contype = 'c' AND p.conkey = ARRAY[a.attnum])
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity = ''
        ORDER BY a.attnum
        """;

    private const string ReadReferences = """
        SELECT p.conrelid::regclass::text, p.confrelid::regclass::text,
               (SELECT array_agg(a.attname ORDER BY k.at) FROM unnest(p.conkey) WITH ORDINALITY AS k(attnum, at)
                JOIN pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = k.attnum)::text[],
               (SELECT array_agg(a.attname ORDER BY k.at) FROM unnest(p.confkey) WITH ORDINALITY AS k(attnum, at)
                JOIN pg_attribute a ON a.attrelid = p.confrelid AND a.attnum = k.attnum)::text[]
        FROM pg_constraint p WHERE p.contype = 'f' AND p.connamespace = 'public'::regnamespace AND p.conparentid = 0
        """;

    public static async Task<RowGenerator> LoadAsync(string connectionString, CancellationToken cancellationToken)
    {
        var tables = new Dictionary<string, Table>(StringComparer.Ordinal);
        await using var connection = new NpgsqlConnection(connectionString);
        await connection.OpenAsync(cancellationToken);
        await ReadAsync(
            ReadTables,
            row => tables.Add(row.GetString(0), new Table(row.GetString(0), row.GetFieldValue<string[]>(1)))
        );
        await ReadAsync(
            ReadColumns,
            row =>
                tables
                    .GetValueOrDefault(row.GetString(0))
                    ?.Columns.Add(
                        new Column(
                            row.GetString(1),
                            row.GetString(2),
                            row.GetBoolean(3),
                            WordsOf(row.IsDBNull(4) ? "" : row.GetString(4))
                        )
                    )
        );
        await ReadAsync(
            ReadReferences,
            row =>
                tables
                    .GetValueOrDefault(row.GetString(0))
                    ?.References.Add(
                        new Reference(row.GetString(1), row.GetFieldValue<string[]>(2), row.GetFieldValue<string[]>(3))
                    )
        );
        return new RowGenerator(connectionString, InOrder(tables));

        async Task ReadAsync(string sql, Action<NpgsqlDataReader> each)
        {
            await using var command = new NpgsqlCommand(sql, connection);
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                each(reader);
            }
        }
    }

    /// <summary>Gives the enterprise a row in each table in which it has none.</summary>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="marker">In every text that is free.</param>
    /// <param name="optional">Whether to fill columns that may be null, too.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The last column of each table's key, by its name: what an address would name the row by.</returns>
    public async Task<IReadOnlyDictionary<string, string>> FillAsync(
        Guid enterpriseId,
        string marker,
        bool optional,
        CancellationToken cancellationToken
    )
    {
        var ids = new Dictionary<string, string>(StringComparer.Ordinal);
        await using var connection = new NpgsqlConnection(_connectionString);
        await connection.OpenAsync(cancellationToken);
        foreach (Table table in _tables)
        {
            await using (
                var exists = new NpgsqlCommand(
                    $"SELECT 1 FROM {table.Name} WHERE enterprise_id = $1 LIMIT 1",
                    connection
                )
            )
            {
                exists.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
                if (await exists.ExecuteScalarAsync(cancellationToken) is null)
                {
                    await InsertAsync(connection, table, enterpriseId, marker, optional, cancellationToken);
                }
            }

            if (table.Key is [_, .., var last] && IsName(table, last))
            {
                await using var id = new NpgsqlCommand(
                    $"SELECT {last}::text FROM {table.Name} WHERE enterprise_id = $1 LIMIT 1",
                    connection
                );
                id.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
                ids.TryAdd(last, (string)(await id.ExecuteScalarAsync(cancellationToken))!);
            }
        }

        return ids;
    }

    /// <summary>A digest of every row of the enterprise in every table.</summary>
    public async Task<string> ChecksumAsync(Guid enterpriseId, CancellationToken cancellationToken)
    {
        var checksums = new List<string>();
        await using var connection = new NpgsqlConnection(_connectionString);
        await connection.OpenAsync(cancellationToken);
        foreach (Table table in _tables)
        {
            await using var command = new NpgsqlCommand(
                $"SELECT count(*) || ' ' || md5(string_agg(row::text, '|' ORDER BY row::text)) FROM {table.Name} AS row WHERE enterprise_id = $1",
                connection
            );
            command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
            checksums.Add($"{table.Name}: {await command.ExecuteScalarAsync(cancellationToken)}");
        }

        return string.Join('\n', checksums);
    }

    // What the catalog allows but a CHECK over several columns does not is found by trying: sums hold of zeros, order of what grows.
    private async Task InsertAsync(
        NpgsqlConnection connection,
        Table table,
        Guid enterpriseId,
        string marker,
        bool optional,
        CancellationToken cancellationToken
    )
    {
        PostgresException? last = null;
        foreach (bool everything in optional ? new[] { true, false } : [false, true])
        {
            foreach (string number in new[] { "$2::int", "0", "1" })
            {
                int row = Interlocked.Increment(ref _number);
                List<Column> columns =
                [
                    .. table.Columns.Where(column =>
                        everything || column.IsRequired || s_samples.ContainsKey($"{table.Name}.{column.Name}")
                    ),
                ];
                IEnumerable<string> values = columns.Select(
                    (column, at) => Value(table, column, number, marker, row, at)
                );
                string sql =
                    $"INSERT INTO {table.Name} ({string.Join(", ", columns.Select(column => column.Name))}) "
                    + $"SELECT {string.Join(", ", values)} WHERE $1::uuid IS NOT NULL AND $2::int IS NOT NULL";
                await using var insert = new NpgsqlCommand(sql, connection);
                insert.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
                insert.Parameters.Add(new NpgsqlParameter<int> { TypedValue = row });
                try
                {
                    if (await insert.ExecuteNonQueryAsync(cancellationToken) == 1)
                    {
                        return;
                    }
                }
                catch (PostgresException exception)
                    when (table.Name == "anomaly_positions" && exception.SqlState == PostgresErrorCodes.UniqueViolation)
                {
                    return; // the running server was here first: it makes this row of every enterprise
                }
                catch (PostgresException exception)
                    when (exception.SqlState.StartsWith("23", StringComparison.Ordinal)
                        || exception.SqlState.StartsWith("22", StringComparison.Ordinal)
                    )
                {
                    last = exception;
                }
            }
        }

        throw new InvalidOperationException(
            $"RowGenerator cannot make a row of {table.Name}: {last?.MessageText}. "
                + $"Add the value that its rule wants to s_samples in {nameof(RowGenerator)}.cs.",
            last
        );
    }

    private string Value(Table table, Column column, string number, string marker, int row, int at)
    {
        if (column.Name == "enterprise_id")
        {
            return "$1";
        }

        if (s_samples.TryGetValue($"{table.Name}.{column.Name}", out string? sample))
        {
            return sample;
        }

        foreach (Reference reference in table.References)
        {
            int place = Array.IndexOf(reference.Columns, column.Name);
            if (place >= 0)
            {
                string scope = _tables.Any(known => known.Name == reference.Table) ? " WHERE enterprise_id = $1" : "";
                string order = string.Join(", ", reference.Referenced);
                return $"(SELECT {reference.Referenced[place]} FROM {reference.Table}{scope} ORDER BY {order} LIMIT 1)";
            }
        }

        // Whoever it is about is a person of the enterprise: the first there was.
        if (column is { Name: "user_id", Type: "uuid" } && table.Name is not "users" and not "usage_events")
        {
            return "coalesce((SELECT user_id FROM users WHERE enterprise_id = $1 ORDER BY created_at LIMIT 1), gen_random_uuid())";
        }

        if (column.Words is [var word, ..])
        {
            return column.Type.EndsWith("[]", StringComparison.Ordinal)
                ? $"ARRAY['{word}']::{column.Type}"
                : $"'{word}'";
        }

        string later = string.Create(CultureInfo.InvariantCulture, $"interval '{at} seconds'");
        return column.Type switch
        {
            "uuid" => "gen_random_uuid()",
            "text" or "character varying" => $"'{marker}-{table.Name}-{column.Name}-{row}'",
            "bytea" => "decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')",
            "boolean" => "false",
            "smallint" => $"({number} % 1000)::smallint",
            "integer" or "bigint" or "numeric" or "double precision" or "real" => number,
            // In a month that has partitions, and in the order of the columns.
            "timestamp with time zone" or "timestamp without time zone" or "date" =>
                $"('2026-03-10 12:00Z'::timestamptz + {later})",
            "time without time zone" => "'12:00'",
            "interval" => "'1 hour'",
            "inet" or "cidr" => "'192.0.2.0/24'",
            "jsonb" or "json" => "'{}'",
            "inet[]" or "cidr[]" => "'{192.0.2.0/24}'",
            _ when column.Type.EndsWith("[]", StringComparison.Ordinal) => $"'{{}}'::{column.Type}",
            _ => throw new InvalidOperationException(
                $"{table.Name}.{column.Name} is of a type that RowGenerator has not met, {column.Type}: add it there."
            ),
        };
    }

    private static bool IsName(Table table, string column) =>
        table.Columns.First(each => each.Name == column).Type is "uuid" or "text";

    // CHECK ((status = ANY (ARRAY['ACTIVE'::text, 'SUSPENDED'::text])))
    private static string[] WordsOf(string check) => [.. Words().Matches(check).Select(match => match.Groups[1].Value)];

    [GeneratedRegex("'([^']*)'::text")]
    private static partial Regex Words();

    private static List<Table> InOrder(Dictionary<string, Table> tables)
    {
        var ordered = new List<Table>();
        foreach (Table table in tables.Values)
        {
            Visit(table);
        }

        return ordered;

        void Visit(Table table)
        {
            if (ordered.Contains(table))
            {
                return;
            }

            foreach (Reference reference in table.References.Where(each => each.Table != table.Name))
            {
                if (tables.TryGetValue(reference.Table, out Table? first))
                {
                    Visit(first);
                }
            }

            ordered.Add(table);
        }
    }
}
