using Npgsql;

namespace UsageMonitor.Server.Archive;

/// <summary>A row of <c>archive_files</c>: what makes a file part of the archive.</summary>
/// <param name="Day">The local day.</param>
/// <param name="Start">When it begins, UTC.</param>
/// <param name="End">When it ends, UTC, exclusive.</param>
/// <param name="Generation">Rewrites so far, from 1.</param>
/// <param name="Path">Below the archive's folder.</param>
/// <param name="Content">What is in it.</param>
internal sealed record ArchiveFile(
    DateOnly Day,
    DateTime Start,
    DateTime End,
    int Generation,
    string Path,
    Content Content
)
{
    public const string Columns = "archived_day, day_start, day_end, generation, path, event_count, content_hash";

    /// <param name="reader">With <see cref="Columns"/>.</param>
    /// <param name="first">The place of the first of them.</param>
    public static ArchiveFile Read(NpgsqlDataReader reader, int first = 0) =>
        new(
            reader.GetFieldValue<DateOnly>(first),
            reader.GetDateTime(first + 1),
            reader.GetDateTime(first + 2),
            reader.GetInt32(first + 3),
            reader.GetString(first + 4),
            new Content(reader.GetInt64(first + 5), unchecked((ulong)reader.GetInt64(first + 6)))
        );

    public SealedIdentity Identity(Guid enterpriseId) => new(enterpriseId, Day, Generation);
}
