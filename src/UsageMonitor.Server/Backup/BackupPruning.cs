namespace UsageMonitor.Server.Backup;

/// <summary>Removes backups beyond a number, and WAL that none of those that stay needs.</summary>
internal static class BackupPruning
{
    /// <param name="folder">Where they are.</param>
    /// <param name="keep">At least 1.</param>
    /// <returns>Backups removed.</returns>
    public static int Run(BackupFolder folder, int keep)
    {
        IReadOnlyList<BackupManifest> backups = folder.Backups();
        BackupManifest[] gone = [.. backups.SkipLast(keep)];
        foreach (BackupManifest manifest in gone)
        {
            // Without its manifest it is none, however far the rest gets.
            File.Delete(Path.Combine(folder.FolderOf(manifest.Id), BackupManifest.FileName));
            Directory.Delete(folder.FolderOf(manifest.Id), recursive: true);
        }

        if (gone.Length > 0)
        {
            string first = backups
                .Skip(gone.Length)
                .Select(manifest => BackupNames.WithoutTimeline(manifest.FirstWal))
                .Min(StringComparer.Ordinal)!;
            foreach (
                string segment in folder
                    .WalNames()
                    .Where(BackupNames.IsSegment)
                    .Where(name => string.CompareOrdinal(BackupNames.WithoutTimeline(name), first) < 0)
            )
            {
                File.Delete(folder.WalFile(segment));
            }
        }

        return gone.Length;
    }
}
