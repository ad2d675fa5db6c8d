using System.Security.Cryptography;
using UsageMonitor.Server.Archive;
using ZstdSharp;

namespace UsageMonitor.Server.Backup;

/// <summary>
/// Where backups are: <c>base/&lt;id&gt;</c> with a manifest each, <c>wal/&lt;segment&gt;.zst</c>, <c>archive</c> as the archive's own
/// folder, and <c>SYSTEM</c>, which names the cluster that all of it is of.
/// </summary>
/// <remarks>
/// Invariant: under its name a file is whole and on disk. It is written under another, made durable and renamed, and what has a name is
/// never written over; so a crash at any line leaves what there was, and something that nobody takes for a backup.
/// </remarks>
internal sealed class BackupFolder(string root)
{
    private const string WalExtension = ".zst";
    private const string PartialExtension = ".partial";
    private const int BufferBytes = 1 << 20;

    public string Root { get; } = Path.GetFullPath(root);

    public string Base => Path.Combine(Root, "base");

    public string Wal => Path.Combine(Root, "wal");

    public string Archive => Path.Combine(Root, "archive");

    public void Create()
    {
        foreach (string folder in new[] { Root, Base, Wal, Archive })
        {
            CreatePrivate(folder);
        }
    }

    /// <summary>Makes the folder this cluster's, or sees that it is.</summary>
    /// <exception cref="BackupException">It is another's.</exception>
    public void Claim(string systemIdentifier)
    {
        Create();
        string file = Path.Combine(Root, "SYSTEM");
        if (!File.Exists(file))
        {
            Write(file, System.Text.Encoding.UTF8.GetBytes(systemIdentifier));
        }

        if (File.ReadAllText(file).Trim() is var known && known != systemIdentifier)
        {
            throw new BackupException($"{Root} holds the backups of another cluster ({known}); choose another folder.");
        }
    }

    /// <summary>The complete backups, oldest first.</summary>
    public IReadOnlyList<BackupManifest> Backups() =>
        !Directory.Exists(Base)
            ? []
            :
            [
                .. Directory
                    .EnumerateDirectories(Base)
                    .Where(folder =>
                        !folder.EndsWith(PartialExtension, StringComparison.Ordinal)
                        && File.Exists(Path.Combine(folder, BackupManifest.FileName))
                    )
                    .Select(folder => BackupManifest.Read(Path.Combine(folder, BackupManifest.FileName)))
                    .OrderBy(manifest => manifest.StartedAt),
            ];

    public string FolderOf(string id) => Path.Combine(Base, id);

    /// <summary>Where a backup is written until it is complete; emptied of what an interrupted one has left.</summary>
    public string Begin(string id)
    {
        foreach (string left in Directory.EnumerateDirectories(Base, "*" + PartialExtension))
        {
            Directory.Delete(left, recursive: true);
        }

        string folder = FolderOf(id) + PartialExtension;
        CreatePrivate(folder);
        return folder;
    }

    /// <summary>From here on it is a backup.</summary>
    public void Complete(string id)
    {
        Directory.Move(FolderOf(id) + PartialExtension, FolderOf(id));
        Sync(Base);
    }

    public string WalFile(string segment) => Path.Combine(Wal, segment + WalExtension);

    public bool HasWal(string segment) => File.Exists(WalFile(segment));

    /// <summary>The names of all segments and histories, in their order.</summary>
    public IReadOnlyList<string> WalNames() =>
        Directory.Exists(Wal)
            ?
            [
                .. Directory
                    .EnumerateFiles(Wal, "*" + WalExtension)
                    .Select(file => Path.GetFileName(file)[..^WalExtension.Length])
                    .Order(StringComparer.Ordinal),
            ]
            : [];

    /// <summary>Keeps a segment, compressed. One of this name that is there already must be the same.</summary>
    /// <exception cref="BackupException">Another one is there.</exception>
    public void AddWal(string segment, string source)
    {
        byte[] plain = File.ReadAllBytes(source);
        if (HasWal(segment))
        {
            if (!ReadWal(segment).AsSpan().SequenceEqual(plain))
            {
                throw new BackupException($"{WalFile(segment)}: another segment of this name is there.");
            }

            return;
        }

        using var compressor = new Compressor(1);
        Write(WalFile(segment), compressor.Wrap(plain).ToArray());
    }

    /// <exception cref="BackupException">It is damaged.</exception>
    public byte[] ReadWal(string segment)
    {
        try
        {
            using var decompressor = new Decompressor();
            return decompressor.Unwrap(File.ReadAllBytes(WalFile(segment))).ToArray();
        }
        catch (ZstdException exception)
        {
            throw new BackupException($"{WalFile(segment)}: is damaged ({exception.Message}).", exception);
        }
    }

    /// <summary>Copies a file, makes the copy durable, and tells what was copied.</summary>
    public static (long Bytes, string Sha256) Copy(string source, string target)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var from = new FileStream(source, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using FileStream to = CreateNew(target);
        byte[] buffer = new byte[BufferBytes];
        long bytes = 0;
        for (int read; (read = from.Read(buffer)) > 0; bytes += read)
        {
            hash.AppendData(buffer, 0, read);
            to.Write(buffer, 0, read);
        }

        to.Flush(flushToDisk: true);
        return (bytes, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    /// <summary>Copies a file that does not change to a name that is not taken, whole or not at all.</summary>
    public static void CopyWhole(string source, string target)
    {
        CreatePrivate(Path.GetDirectoryName(target)!);
        string partial = target + PartialExtension;
        File.Delete(partial);
        Copy(source, partial);
        File.Move(partial, target, overwrite: true);
        Sync(Path.GetDirectoryName(target)!);
    }

    public static string HashOf(string file)
    {
        using FileStream stream = File.OpenRead(file);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }

    /// <summary>Writes a file, whole or not at all.</summary>
    public static void Write(string file, byte[] content)
    {
        string partial = file + PartialExtension;
        File.Delete(partial);
        using (FileStream stream = CreateNew(partial))
        {
            stream.Write(content);
            stream.Flush(flushToDisk: true);
        }

        File.Move(partial, file, overwrite: true);
        Sync(Path.GetDirectoryName(file)!);
    }

    /// <summary>Makes a folder's names durable (Linux).</summary>
    public static void Sync(string folder) => ArchiveFolder.SyncFolder(folder);

    // Who may read a backup can read everything that is not sealed.
    private static FileStream CreateNew(string file)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        return new FileStream(file, options);
    }

    private static void CreatePrivate(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(folder);
        }
        else
        {
            Directory.CreateDirectory(
                folder,
                UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute
            );
        }
    }
}
