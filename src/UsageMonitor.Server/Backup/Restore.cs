using System.Globalization;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;

namespace UsageMonitor.Server.Backup;

/// <summary>Makes a data folder of a backup and the WAL since, up to its end or to a moment.</summary>
/// <remarks>
/// Nothing is written before the backup's files, the WAL and the master key have been looked at. A folder that a restore did not finish
/// has no <c>postgres/PG_VERSION</c> in its place until the end of copying, and is refused by the next restore because it is not empty.
/// </remarks>
internal sealed class Restore(BackupFolder from, string dataFolder, ILoggerFactory loggers)
{
    private const string RestoredWal = "restored_wal";

    /// <summary>What was restored.</summary>
    /// <param name="Manifest">Of the base backup.</param>
    /// <param name="Segments">WAL that was given to PostgreSQL.</param>
    /// <param name="LastWal">The newest of it.</param>
    public sealed record Restored(BackupManifest Manifest, int Segments, string LastWal);

    /// <param name="backupId">The base backup, or null: the newest that fits.</param>
    /// <param name="toTime">Restores to this moment, or null: to the end of the WAL.</param>
    /// <param name="keys">The master key.</param>
    /// <param name="options">How PostgreSQL is run.</param>
    /// <param name="check">Looks at what was restored while its PostgreSQL runs.</param>
    /// <param name="cancellationToken">Ends it; what was written is no data folder.</param>
    /// <exception cref="BackupException">It cannot be done.</exception>
    public async Task<Restored> RunAsync(
        string? backupId,
        DateTimeOffset? toTime,
        WrappingKeys keys,
        PostgresOptions options,
        Func<string, Task> check,
        CancellationToken cancellationToken
    )
    {
        BackupManifest manifest = Choose(backupId, toTime);
        if (!keys.Ids.Contains(manifest.MasterKeyId))
        {
            throw new BackupException(
                $"This master key does not open the backup: its key's id is {manifest.MasterKeyId}, this one's {keys.FirstId}."
            );
        }

        if (Directory.Exists(dataFolder) && Directory.EnumerateFileSystemEntries(dataFolder).Any())
        {
            throw new BackupException($"{dataFolder} is not empty.");
        }

        BackupVerification.Check(from, manifest);
        IReadOnlyList<string> wal = BackupVerification.WalFor(from, manifest);
        string cluster = Path.Combine(dataFolder, "postgres");
        CopyFiles(manifest, cluster, cancellationToken);
        Directory.CreateDirectory(Path.Combine(cluster, RestoredWal));
        foreach (string name in wal)
        {
            await File.WriteAllBytesAsync(
                Path.Combine(cluster, RestoredWal, name),
                from.ReadWal(name),
                cancellationToken
            );
        }

        await File.WriteAllTextAsync(Path.Combine(cluster, "recovery.signal"), "", cancellationToken);
        var settings = new Dictionary<string, string>(options.Settings, StringComparer.Ordinal)
        {
            ["restore_command"] = $"cp {RestoredWal}/%f %p",
            ["recovery_target_action"] = "promote",
            ["hot_standby"] = "off", // ready means that it is restored
        };
        if (toTime is { } moment)
        {
            settings["recovery_target_time"] = moment.UtcDateTime.ToString(
                "yyyy-MM-dd HH:mm:ss.ffffff'+00'",
                CultureInfo.InvariantCulture
            );
        }

        try
        {
            await using EmbeddedPostgres postgres = await EmbeddedPostgres.StartAsync(
                dataFolder,
                options with
                {
                    Settings = settings,
                    ArchivesWalSeconds = null,
                },
                loggers,
                cancellationToken
            );
            await check(postgres.OwnerConnectionString);
        }
        catch (InvalidOperationException exception)
        {
            throw new BackupException(
                "PostgreSQL did not replay the WAL: "
                    + exception.Message
                    + (toTime is null ? "" : " A moment after the last change that was kept cannot be restored to."),
                exception
            );
        }

        Directory.Delete(Path.Combine(cluster, RestoredWal), recursive: true);
        return new Restored(manifest, wal.Count(BackupNames.IsSegment), wal.Last(BackupNames.IsSegment));
    }

    private BackupManifest Choose(string? backupId, DateTimeOffset? toTime)
    {
        IReadOnlyList<BackupManifest> backups = from.Backups();
        BackupManifest? chosen = backups.LastOrDefault(backup =>
            (backupId is null || backup.Id == backupId) && (toTime is null || backup.StoppedAt <= toTime)
        );
        return chosen
            ?? throw new BackupException(
                backups.Count == 0 ? $"{from.Root} holds no backup."
                : backupId is not null && !backups.Any(backup => backup.Id == backupId)
                    ? $"{from.Root} holds no backup {backupId}; there are {string.Join(", ", backups.Select(backup => backup.Id))}."
                : $"No backup is old enough: the oldest can be restored to {backups[0].StoppedAt:O} and later."
            );
    }

    private void CopyFiles(BackupManifest manifest, string cluster, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(cluster);
        string source = Path.Combine(from.FolderOf(manifest.Id), "cluster");
        foreach (string folder in manifest.Folders)
        {
            Directory.CreateDirectory(Path.Combine(cluster, folder));
        }

        // The version makes it a cluster: it comes last.
        foreach (BackedUpFile file in manifest.Files.OrderBy(file => file.Path == "PG_VERSION"))
        {
            cancellationToken.ThrowIfCancellationRequested();
            BackupFolder.Copy(Path.Combine(source, file.Path), Path.Combine(cluster, file.Path));
        }

        BackupFolder.Copy(
            Path.Combine(from.FolderOf(manifest.Id), PostgresFolder.PasswordFile),
            Path.Combine(dataFolder, PostgresFolder.PasswordFile)
        );
        if (Directory.Exists(from.Archive))
        {
            foreach (string file in Directory.EnumerateFiles(from.Archive, "*.sealed", SearchOption.AllDirectories))
            {
                BackupFolder.CopyWhole(
                    file,
                    Path.Combine(dataFolder, "archive", Path.GetRelativePath(from.Archive, file))
                );
            }
        }
    }
}
