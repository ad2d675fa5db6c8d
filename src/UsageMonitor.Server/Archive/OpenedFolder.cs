namespace UsageMonitor.Server.Archive;

/// <summary>
/// A private folder (mode 0700) in memory or on a disk, in which archive files lie in the clear while they are used. It is
/// emptied when this ends, and by the next process when this one could not.
/// </summary>
/// <remarks>A process holds a lock on a file of its folder as long as it lives; a folder whose lock can be had is of one that has ended.</remarks>
internal sealed class OpenedFolder : IDisposable
{
    private const string Prefix = "usage-monitor-archive-";
    private const string LockName = "lock";
    private readonly FileStream _lock;
    private long _last;

    public OpenedFolder(string parent)
    {
        Directory.CreateDirectory(parent);
        RemoveAbandoned(parent);
        Path = System.IO.Path.Combine(parent, Prefix + Guid.NewGuid().ToString("N"));
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(Path);
        }
        else
        {
            Directory.CreateDirectory(Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        _lock = new FileStream(
            System.IO.Path.Combine(Path, LockName),
            FileMode.Create,
            FileAccess.ReadWrite,
            FileShare.None
        );
    }

    public string Path { get; }

    /// <summary>A name in the folder that nobody has used.</summary>
    public string NewPath(string extension) =>
        System.IO.Path.Combine(Path, $"{Interlocked.Increment(ref _last)}{extension}");

    public static void Remove(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (DirectoryNotFoundException)
        {
            // The folder went first.
        }
    }

    public void Dispose()
    {
        _lock.Dispose();
        if (Directory.Exists(Path))
        {
            Directory.Delete(Path, recursive: true);
        }
    }

    private static void RemoveAbandoned(string parent)
    {
        foreach (string folder in Directory.EnumerateDirectories(parent, Prefix + "*"))
        {
            try
            {
                string mark = System.IO.Path.Combine(folder, LockName);
                if (File.Exists(mark))
                {
                    using (new FileStream(mark, FileMode.Open, FileAccess.ReadWrite, FileShare.None))
                    {
                        // It could be had: nobody lives there.
                    }

                    Directory.Delete(folder, recursive: true);
                }
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
            {
                // Somebody lives there, or it is another user's.
            }
        }
    }
}
