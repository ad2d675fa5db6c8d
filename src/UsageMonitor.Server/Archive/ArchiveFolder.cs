using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>The archive's files: <c>enterprise=&lt;uuid&gt;/day=YYYY-MM-DD/&lt;generation&gt;.parquet.sealed</c>.</summary>
internal sealed class ArchiveFolder(ArchiveSettings settings)
{
    private const string Extension = ".parquet.sealed";
    private const string WritingExtension = ".writing";

    public string FullPath(string path) => Path.Combine(settings.Folder, path);

    /// <summary>Takes the next name of a day that nobody else has or had: an empty file, made in one act.</summary>
    /// <returns>The generation and the path below the folder.</returns>
    public (int Generation, string Path) Reserve(Guid enterpriseId, DateOnly day, int after)
    {
        string folder = Path.Combine(EnterpriseFolder(enterpriseId), $"day={Text(day)}");
        Directory.CreateDirectory(FullPath(folder));
        for (int generation = after + 1; ; generation++)
        {
            string path = Path.Combine(folder, generation.ToString(CultureInfo.InvariantCulture) + Extension);
            try
            {
                using (new FileStream(FullPath(path), FileMode.CreateNew, FileAccess.Write))
                {
                    return (generation, path);
                }
            }
            catch (IOException) when (File.Exists(FullPath(path)))
            {
                // A writer that was stopped has left it, or one that is about to be: the next is free.
            }
        }
    }

    /// <summary>Writes a file beside its place, makes it durable, and puts it there in one act.</summary>
    public T Write<T>(string path, Func<FileStream, T> write)
    {
        string place = FullPath(path);
        string writing = place + WritingExtension;
        T result;
        using (var stream = new FileStream(writing, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 20))
        {
            result = write(stream);
            stream.Flush(flushToDisk: true);
        }

        File.Move(writing, place, overwrite: true);

        // The folder, and those above that may be new.
        string day = Path.GetDirectoryName(place)!;
        SyncFolder(day);
        SyncFolder(Path.GetDirectoryName(day)!);
        SyncFolder(settings.Folder);
        return result;
    }

    public FileStream OpenRead(string path) =>
        new(FullPath(path), FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1 << 16);

    public void Delete(string path)
    {
        string place = FullPath(path);
        OpenedFolder.Remove(place);
        OpenedFolder.Remove(place + WritingExtension);
        string day = Path.GetDirectoryName(place)!;
        if (Directory.Exists(day) && !Directory.EnumerateFileSystemEntries(day).Any())
        {
            Directory.Delete(day);
        }
    }

    /// <summary>Removes what a stopped writer has left of a day: everything but the file that the row names.</summary>
    public void RemoveOthers(Guid enterpriseId, DateOnly day, string? kept)
    {
        string folder = FullPath(Path.Combine(EnterpriseFolder(enterpriseId), $"day={Text(day)}"));
        if (!Directory.Exists(folder))
        {
            return;
        }

        foreach (string file in Directory.EnumerateFiles(folder))
        {
            if (kept is null || Path.GetFullPath(file) != Path.GetFullPath(FullPath(kept)))
            {
                OpenedFolder.Remove(file);
            }
        }
    }

    private static string EnterpriseFolder(Guid enterpriseId) => $"enterprise={enterpriseId}";

    private static string Text(DateOnly day) => day.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);

    // A name is durable when its folder has been synced. .NET opens no folders; where that cannot be done, the file system
    // keeps the order of names itself (NTFS), or is remote and durable when the call returns.
    internal static void SyncFolder(string path)
    {
        if (!OperatingSystem.IsLinux() && !OperatingSystem.IsMacOS())
        {
            return;
        }

        int descriptor = Native.Open(path, 0);
        if (descriptor < 0)
        {
            throw new IOException($"The folder '{path}' cannot be opened to be synced.");
        }

        using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        if (Native.Fsync(descriptor) != 0 && Marshal.GetLastPInvokeError() != Native.NotSupported)
        {
            throw new IOException($"The folder '{path}' cannot be synced.");
        }
    }

    private static class Native
    {
        /// <summary>EINVAL: this file system does not sync folders.</summary>
        public const int NotSupported = 22;

        [DllImport("libc", EntryPoint = "open", SetLastError = true, CharSet = CharSet.Ansi, BestFitMapping = false)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern int Open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags);

        [DllImport("libc", EntryPoint = "fsync", SetLastError = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern int Fsync(int descriptor);
    }
}
