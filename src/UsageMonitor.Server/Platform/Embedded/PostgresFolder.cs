using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>The private server's files: the cluster in the data folder, its owner's password, its socket.</summary>
/// <remarks>
/// The cluster's processes cannot walk to a data folder below, say, <c>/root</c>, and giving them that right is not ours
/// to decide. They need not walk: a process enters the folder as root before it changes its account, keeps it as its
/// working folder, and Linux resolves <see cref="WorkingFolderAsPath"/> without asking for a right on any parent. So that is the
/// data directory PostgreSQL is told. See docs/decisions/0002-embedded-postgres.md.
/// </remarks>
internal sealed class PostgresFolder
{
    public const string OwnerLogin = "usage_monitor";
    public const int Port = 5432;

    /// <summary>The folder a process is in, as a path that needs no right on the folders above it (Linux).</summary>
    public const string WorkingFolderAsPath = "/proc/self/cwd";

    /// <summary>Where finished segments of WAL are put, below the cluster: the account can walk nowhere else.</summary>
    public const string ArchivedWal = "archived_wal";

    /// <summary>The owner's password, in the data folder.</summary>
    public const string PasswordFile = "postgres.password";

    private const string RunFolder = "/run/usage-monitor";
    private const int PasswordBytes = 32;
    private const int SocketPathBytesMax = 107;
    private readonly PostgresAccount _account;

    public PostgresFolder(string dataFolder, PostgresAccount account)
    {
        DataFolder = dataFolder;
        _account = account;
        Cluster = Path.Combine(dataFolder, "postgres");
        SocketFolder = SocketFolderFor(dataFolder, account);
    }

    public string DataFolder { get; }

    /// <summary>PostgreSQL's data directory.</summary>
    public string Cluster { get; }

    /// <summary>Where its socket is: a folder that only we and its account may enter.</summary>
    public string SocketFolder { get; }

    /// <summary>The data directory as PostgreSQL's programs are told, started inside of it.</summary>
    public string ClusterAsTold => OperatingSystem.IsLinux() ? WorkingFolderAsPath : Cluster;

    public bool IsInitialised => File.Exists(Path.Combine(Cluster, "PG_VERSION"));

    private static string SocketName => FormattableString.Invariant($".s.PGSQL.{Port}");

    private string PasswordPath => Path.Combine(DataFolder, PasswordFile);

    /// <summary>The owner's password, which never leaves this machine: read from its file, or made.</summary>
    public string OwnerPassword()
    {
        if (!File.Exists(PasswordPath))
        {
            if (IsInitialised)
            {
                throw new InvalidOperationException(
                    $"{PasswordPath} is missing; restore it with the rest of the data folder."
                );
            }

            string partial = PasswordPath + ".partial";
            WritePrivate(partial, Convert.ToHexString(RandomNumberGenerator.GetBytes(PasswordBytes)));
            File.Move(partial, PasswordPath);
        }

        return File.ReadAllText(PasswordPath).Trim();
    }

    /// <summary>Makes the cluster. It gets its name when it is complete, so a crash on the way leaves nothing half made.</summary>
    public async Task InitialiseAsync(PostgresBinaries binaries, CancellationToken cancellationToken)
    {
        string partial = Cluster + ".partial";
        if (Directory.Exists(partial))
        {
            Directory.Delete(partial, recursive: true);
        }

        Directory.CreateDirectory(partial, OwnerOnly);
        _account.Own(partial);
        string passwordFile = Path.Combine(SocketFolder, "initial-password");
        try
        {
            WritePrivate(passwordFile, OwnerPassword());
            _account.Own(passwordFile);
            // The built-in locale is the same on every machine and needs none installed; checksums are on by default.
            (int exitCode, string output) = await _account.RunAsync(
                binaries.InitDb,
                partial,
                [
                    "--pgdata=" + (OperatingSystem.IsLinux() ? ClusterAsTold : partial),
                    "--username=" + OwnerLogin,
                    "--pwfile=" + passwordFile,
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                ],
                cancellationToken
            );
            if (exitCode != 0)
            {
                throw new InvalidOperationException($"initdb ended with {exitCode}: {output}");
            }
        }
        finally
        {
            File.Delete(passwordFile);
        }

        Directory.Move(partial, Cluster);
    }

    /// <summary>
    /// Makes the cluster the account's own and private again, as after a backup was restored by root or the account changed.
    /// </summary>
    public void OwnCluster()
    {
        if (_account.ChangeTo is not var (user, group))
        {
            return;
        }

        File.SetUnixFileMode(Cluster, OwnerOnly);
        if (Unix.OwnerOfFolder(Cluster)?.User == user)
        {
            return;
        }

        foreach (
            string path in Directory.EnumerateFileSystemEntries(
                Cluster,
                "*",
                new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.None }
            )
        )
        {
            Unix.ChangeOwner(path, user, group);
        }

        Unix.ChangeOwner(Cluster, user, group); // last: while it is not done, the next start does it again
    }

    /// <summary>
    /// Makes the socket's folder, private and without a killed predecessor's socket; a folder that somebody else put there
    /// is refused.
    /// </summary>
    public void PrepareSocketFolder()
    {
        if (Encoding.UTF8.GetByteCount(Path.Combine(SocketFolder, SocketName)) > SocketPathBytesMax)
        {
            throw new InvalidOperationException($"the path of the socket's folder is too long: {SocketFolder}");
        }

        if (Path.GetDirectoryName(SocketFolder) == RunFolder)
        {
            Directory.CreateDirectory(RunFolder);
            File.SetUnixFileMode(RunFolder, PostgresBinaries.ReadableByAll); // whatever the umask: the account walks here
        }

        Directory.CreateDirectory(SocketFolder, OwnerOnly);
        if (OperatingSystem.IsLinux())
        {
            uint ours = Unix.EffectiveUser();
            if (
                Unix.OwnerOfFolder(SocketFolder) is not var (user, mode)
                || (user != ours && user != _account.ChangeTo?.User)
                || (mode & ~OwnerOnly) != 0
            )
            {
                throw new InvalidOperationException(
                    $"{SocketFolder} belongs to somebody else or is open to others; remove it."
                );
            }
        }

        _account.Own(SocketFolder);
        RemoveSocket();
    }

    /// <summary>
    /// Removes what a killed postmaster left of its socket. Its lock file would stop the next one for as long as any process
    /// of the same account has the number in it, if only a dead one that nobody has waited for.
    /// </summary>
    public void RemoveSocket()
    {
        string socket = Path.Combine(SocketFolder, SocketName);
        File.Delete(socket);
        File.Delete(socket + ".lock");
    }

    /// <summary>Makes the folder into which finished segments go.</summary>
    public void PrepareArchivedWal()
    {
        string folder = Path.Combine(Cluster, ArchivedWal);
        Directory.CreateDirectory(folder, OwnerOnly);
        _account.Own(folder);
    }

    /// <summary>Writes PostgreSQL's settings anew.</summary>
    /// <remarks>The folder is the account's: a link it may have put there is replaced by the rename, never followed.</remarks>
    public void WriteSettings(IReadOnlyDictionary<string, string> overrides)
    {
        string partial = Path.Combine(Cluster, "postgresql.conf.partial");
        File.Delete(partial);
        WritePrivate(partial, PostgresSettings.Render(overrides, SocketFolder, Port));
        _account.Own(partial);
        File.Move(partial, Path.Combine(Cluster, "postgresql.conf"), overwrite: true);
    }

    /// <summary>True when this postmaster has written that it takes connections.</summary>
    public bool IsReady(int processId)
    {
        try
        {
            // The format is that of src/include/utils/pidfile.h: line 1 the process id, line 8 the status.
            string[] lines = File.ReadAllLines(Path.Combine(Cluster, "postmaster.pid"));
            return lines.Length >= 8
                && lines[0] == processId.ToString(CultureInfo.InvariantCulture)
                && lines[7].TrimEnd() == "ready";
        }
        catch (IOException)
        {
            return false;
        }
    }

    public void RemoveSocketFolder()
    {
        try
        {
            Directory.Delete(SocketFolder, recursive: true);
        }
        catch (DirectoryNotFoundException)
        {
            // whoever cleans temporary folders was here first
        }
    }

    private static string SocketFolderFor(string dataFolder, PostgresAccount account)
    {
        string name = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(dataFolder)).AsSpan(0, 8));
        if (account.ChangeTo is not null && Directory.Exists("/run"))
        {
            return Path.Combine(RunFolder, name); // root's alone, so nobody can take the name before us
        }

        // Right below /tmp, whose sticky bit keeps others from renaming it.
        return FormattableString.Invariant($"/tmp/usage-monitor-{Unix.EffectiveUser()}-{name}");
    }

    // CreateNew: never through a link that is there already.
    private static void WritePrivate(string path, string text)
    {
        File.Delete(path);
        using var file = new FileStream(
            path,
            new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            }
        );
        file.Write(Encoding.UTF8.GetBytes(text));
        file.Flush(flushToDisk: true);
    }

    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
}
