using System.Data.Common;
using System.Globalization;
using DuckDB.NET.Data;

namespace UsageMonitor.Server.Archive;

/// <summary>What a file of the archive looks like once it is opened: plain Parquet, which any engine reads.</summary>
internal static class ParquetFile
{
    public const string Columns =
        "event_id, user_id, feature_name, event_type, event_timestamp, received_at, properties";

    /// <summary>The columns as DuckDB makes them.</summary>
    public const string Schema =
        "event_id UUID NOT NULL, user_id UUID NOT NULL, feature_name VARCHAR NOT NULL, event_type VARCHAR NOT NULL, "
        + "event_timestamp TIMESTAMPTZ NOT NULL, received_at TIMESTAMPTZ NOT NULL, properties VARCHAR";

    /// <summary>
    /// Users' events stand together, so that ids and names cost next to nothing, and a reader of one feature or user passes over
    /// the row groups of the others by their statistics.
    /// </summary>
    public const string Order = "feature_name, user_id, event_timestamp, event_id";

    /// <summary>Rows of a row group: what a reader passes over or reads.</summary>
    private const int RowGroupRows = 61_440;

    private const int CompressionLevel = 9;

    /// <summary>Of what is soon read again and removed.</summary>
    public const int PartCompressionLevel = 1;

    public static void Write(
        Duck duck,
        string select,
        string path,
        CancellationToken cancellationToken,
        int level = CompressionLevel
    ) =>
        duck.Execute(
            string.Create(
                CultureInfo.InvariantCulture,
                $"""
                COPY ({select}) TO {Duck.Quote(
                    path
                )} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {level},
                    ROW_GROUP_SIZE {RowGroupRows}, PARQUET_VERSION v2)
                """
            ),
            cancellationToken
        );

    public static string From(params IEnumerable<string> paths) =>
        $"read_parquet([{string.Join(", ", paths.Select(Duck.Quote))}])";

    /// <summary>Where the properties stand.</summary>
    public static List<ByteRange> FindProperties(Duck duck, string path)
    {
        const string Sql = """
            SELECT least(data_page_offset, CASE WHEN dictionary_page_offset > 0 THEN dictionary_page_offset ELSE data_page_offset END),
                   total_compressed_size
              FROM parquet_metadata($1) WHERE path_in_schema = 'properties' ORDER BY 1
            """;
        var ranges = new List<ByteRange>();
        using DuckDBCommand command = duck.Command(Sql, path);
        using DuckDBDataReader reader = command.ExecuteReader();
        while (reader.Read())
        {
            ranges.Add(new ByteRange(reader.GetInt64(0), reader.GetInt64(1)));
        }

        return ranges;
    }

    /// <summary>Rows one after another.</summary>
    /// <param name="command">Selects <see cref="Columns"/>.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <param name="isFew">All of them are held at once; else a little at a time.</param>
    public static IEnumerable<ArchivedEvent> Read(
        DuckDBCommand command,
        CancellationToken cancellationToken,
        bool isFew = false
    )
    {
        command.UseStreamingMode = !isFew;
        using CancellationTokenRegistration registration = cancellationToken.Register(command.Cancel);
        using DbDataReader reader = command.ExecuteReader();
        while (reader.Read())
        {
            cancellationToken.ThrowIfCancellationRequested();
            yield return new ArchivedEvent(
                reader.GetGuid(0),
                reader.GetGuid(1),
                reader.GetString(2),
                reader.GetString(3),
                Utc(reader.GetDateTime(4)),
                Utc(reader.GetDateTime(5)),
                reader.IsDBNull(6) ? null : reader.GetString(6)
            );
        }
    }

    private static DateTime Utc(DateTime read) => DateTime.SpecifyKind(read, DateTimeKind.Utc);
}
