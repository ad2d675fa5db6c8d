using Npgsql;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Archive;

/// <summary>What a pass writes of each day, in its transaction.</summary>
internal static class ArchiveStatements
{
    /// <summary>A day as a pass has read it.</summary>
    /// <param name="Generation">Of the file there was; 0 when there was none.</param>
    public sealed record FileRow(
        Guid EnterpriseId,
        DateOnly Day,
        DateTime Start,
        DateTime End,
        int Generation,
        long Watermark,
        long Counted,
        DateTime Now
    );

    /// <summary>The file that takes its place.</summary>
    public sealed record NewFile(
        int Generation,
        string Path,
        Content Content,
        long Bytes,
        byte[] Sha256,
        DateTime FirstAt,
        DateTime LastAt,
        ulong[] Keys
    );

    // The generation that was read must still be the one there is: two writers of a day cannot both come through.
    private const string Touch = """
        UPDATE archive_files SET counted = $4, watermark = $5 WHERE enterprise_id = $1 AND archived_day = $2 AND generation = $3
        """;

    private const string Replace = """
        UPDATE archive_files
           SET generation = $3, path = $4, event_count = $5, file_bytes = $6, file_sha256 = $7, content_hash = $8, first_at = $9,
               last_at = $10, watermark = $11, key_bits = $12, counted = $13, archived_at = $14
         WHERE enterprise_id = $1 AND archived_day = $2 AND generation = $15
        """;

    private const string Insert = """
        INSERT INTO archive_files (enterprise_id, archived_day, generation, path, event_count, file_bytes, file_sha256, content_hash,
            first_at, last_at, watermark, key_bits, counted, archived_at, day_start, day_end)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        """;

    private const string DeleteKeys = "DELETE FROM archived_event_keys WHERE enterprise_id = $1 AND archived_day = $2";

    private const string InsertKeys = """
        INSERT INTO archived_event_keys (enterprise_id, archived_day, bucket, keys)
        SELECT $1, $2, bucket, keys FROM unnest($3, $4) AS row (bucket, keys)
        """;

    /// <exception cref="InvalidOperationException">Another writer was there.</exception>
    public static async Task WriteFileAsync(
        NpgsqlConnection connection,
        FileRow row,
        NewFile? file,
        CancellationToken cancellationToken
    )
    {
        if (file is null)
        {
            await ExecuteAsync(
                connection,
                Touch,
                [row.EnterpriseId, row.Day, row.Generation, row.Counted, row.Watermark],
                cancellationToken
            );
            return;
        }

        int bits = ArchivedKeys.BitsFor(file.Keys.Length);
        List<object> values =
        [
            row.EnterpriseId,
            row.Day,
            file.Generation,
            file.Path,
            file.Content.Events,
            file.Bytes,
            file.Sha256,
            unchecked((long)file.Content.Hash),
            file.FirstAt,
            file.LastAt,
            row.Watermark,
            bits,
            row.Counted,
            row.Now,
        ];
        bool isFirst = row.Generation == 0;
        values.AddRange(isFirst ? [row.Start, row.End] : [row.Generation]);
        if (await ExecuteAsync(connection, isFirst ? Insert : Replace, values, cancellationToken) != 1)
        {
            throw new InvalidOperationException($"The archive's day {row.Day} was rewritten by another instance.");
        }

        (int Bucket, byte[] Keys)[] rows = [.. ArchivedKeys.Encode(file.Keys, bits)];
        await ExecuteAsync(connection, DeleteKeys, [row.EnterpriseId, row.Day], cancellationToken);
        await using var insert = new NpgsqlCommand(InsertKeys, connection);
        insert.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = row.EnterpriseId });
        insert.Parameters.Add(new NpgsqlParameter<DateOnly> { TypedValue = row.Day });
        insert.Parameters.Add(new NpgsqlParameter<int[]> { TypedValue = [.. rows.Select(one => one.Bucket)] });
        insert.Parameters.Add(new NpgsqlParameter<byte[][]> { TypedValue = [.. rows.Select(one => one.Keys)] });
        await insert.ExecuteNonQueryAsync(cancellationToken);
    }

    private static async Task<int> ExecuteAsync(
        NpgsqlConnection connection,
        string sql,
        IEnumerable<object> values,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(sql, connection);
        foreach (object value in values)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = value });
        }

        return await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
