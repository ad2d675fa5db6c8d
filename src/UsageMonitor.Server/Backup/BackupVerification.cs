namespace UsageMonitor.Server.Backup;

/// <summary>Whether a backup is whole, and what WAL goes with it.</summary>
internal static class BackupVerification
{
    /// <summary>Holds every file to the manifest, and looks whether the WAL is there without which it cannot be restored.</summary>
    /// <exception cref="BackupException">Names the first file that is not what it was.</exception>
    public static void Check(BackupFolder folder, BackupManifest manifest)
    {
        string cluster = Path.Combine(folder.FolderOf(manifest.Id), "cluster");
        foreach (BackedUpFile file in manifest.Files)
        {
            string path = Path.Combine(cluster, file.Path);
            if (!File.Exists(path))
            {
                throw new BackupException($"{path}: is not there.");
            }

            if (new FileInfo(path).Length != file.Bytes || BackupFolder.HashOf(path) != file.Sha256)
            {
                throw new BackupException($"{path}: is not what was backed up.");
            }
        }

        WalFor(folder, manifest);
    }

    /// <summary>The segments from a backup's first on, as far as there is none missing, and the histories of timelines.</summary>
    /// <exception cref="BackupException">One is missing that the backup cannot do without.</exception>
    public static IReadOnlyList<string> WalFor(BackupFolder folder, BackupManifest manifest)
    {
        IReadOnlyList<string> names = folder.WalNames();
        string first = BackupNames.WithoutTimeline(manifest.FirstWal);
        List<string> wanted =
        [
            .. names.Where(name =>
                !BackupNames.IsSegment(name) || string.CompareOrdinal(BackupNames.WithoutTimeline(name), first) >= 0
            ),
        ];
        foreach (string needed in new[] { manifest.FirstWal, manifest.LastWal })
        {
            if (!wanted.Contains(needed))
            {
                throw new BackupException($"{folder.WalFile(needed)}: is not there; backup {manifest.Id} needs it.");
            }
        }

        return wanted;
    }
}
