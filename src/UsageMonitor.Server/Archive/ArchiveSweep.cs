using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>Removes files that no row names: what writers have left that were stopped, and generations that were replaced.</summary>
/// <remarks>
/// A file is left alone for <see cref="AgeMin"/>: until its writer names it, it is not known from what is left of another. A restore
/// to a moment before finds the generation that its rows name as long as it is no older than that.
/// </remarks>
internal sealed class ArchiveSweep(
    Database database,
    ArchiveFolder archive,
    ArchiveSettings settings,
    TimeProvider time
)
{
    public static readonly TimeSpan AgeMin = TimeSpan.FromDays(1);

    private const string ReadPaths = "SELECT path FROM archive_files WHERE enterprise_id = $1";

    /// <returns>Files removed.</returns>
    public async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        if (!Directory.Exists(settings.Folder))
        {
            return 0;
        }

        int removed = 0;
        DateTime youngest = time.GetUtcNow().UtcDateTime - AgeMin;
        foreach (string folder in Directory.EnumerateDirectories(settings.Folder, "enterprise=*"))
        {
            if (!Guid.TryParse(Path.GetFileName(folder)["enterprise=".Length..], out Guid enterpriseId))
            {
                continue;
            }

            // Listed before the rows are read: a file that a row names afterwards is in neither list, and stays.
            string[] files =
            [
                .. Directory
                    .EnumerateFiles(folder, "*", SearchOption.AllDirectories)
                    .Where(file => File.GetLastWriteTimeUtc(file) < youngest),
            ];
            if (files.Length == 0)
            {
                continue;
            }

            HashSet<string> named = await ReadAsync(enterpriseId, cancellationToken);
            foreach (string file in files.Where(file => !named.Contains(Path.GetRelativePath(settings.Folder, file))))
            {
                archive.Delete(Path.GetRelativePath(settings.Folder, file));
                removed++;
            }
        }

        return removed;
    }

    private async Task<HashSet<string>> ReadAsync(Guid enterpriseId, CancellationToken cancellationToken)
    {
        var named = new HashSet<string>(StringComparer.Ordinal);
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(ReadPaths);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            named.Add(reader.GetString(0));
        }

        return named;
    }
}
