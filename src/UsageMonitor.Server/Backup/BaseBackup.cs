using System.Globalization;
using Npgsql;
using UsageMonitor.Server.Platform.Embedded;

namespace UsageMonitor.Server.Backup;

/// <summary>
/// Copies the cluster's files while it runs, by PostgreSQL's low-level API: between <c>pg_backup_start</c> and <c>pg_backup_stop</c> of one
/// session, so that a restore replays what changed meanwhile (PostgreSQL 18, chapter 25.3.4).
/// </summary>
internal sealed class BaseBackup(BackupFolder to, PostgresFolder from)
{
    private const string TimeFormat = "yyyyMMdd'T'HHmmss'Z'";
    private static readonly TimeSpan WalPatience = TimeSpan.FromMinutes(2);

    // Made anew by the server, or of no use to another: chapter 25.3.4.3.
    private static readonly string[] s_emptied =
    [
        "pg_wal",
        "pg_replslot",
        "pg_dynshmem",
        "pg_notify",
        "pg_serial",
        "pg_snapshots",
        "pg_stat_tmp",
        "pg_subtrans",
        PostgresFolder.ArchivedWal,
    ];

    private static readonly string[] s_left =
    [
        "postmaster.pid",
        "postmaster.opts",
        "postgresql.conf",
        "backup_label",
        "tablespace_map",
        "recovery.signal",
        "standby.signal",
    ];

    /// <param name="connectionString">The owner's.</param>
    /// <param name="masterKeyId">Of the key that opens what is kept.</param>
    /// <param name="ship">Called while WAL is waited for, by whoever ships it himself.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellationToken">Ends it; what was written is no backup.</param>
    /// <exception cref="BackupException">It cannot be done.</exception>
    public async Task<BackupManifest> RunAsync(
        string connectionString,
        string masterKeyId,
        Action ship,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        await using var connection = new NpgsqlConnection(
            new NpgsqlConnectionStringBuilder(connectionString) { Pooling = false, CommandTimeout = 0 }.ConnectionString
        );
        await connection.OpenAsync(cancellationToken);
        if (await AskAsync(connection, "SHOW archive_mode", cancellationToken) != "on")
        {
            throw new BackupException(
                "The server does not keep its WAL: start it with Backup:Folder, or stop it and run this command again."
            );
        }

        string system = await AskAsync(
            connection,
            "SELECT system_identifier::text FROM pg_control_system()",
            cancellationToken
        );
        int version =
            int.Parse(
                await AskAsync(connection, "SHOW server_version_num", cancellationToken),
                CultureInfo.InvariantCulture
            ) / 10_000;
        to.Claim(system);
        DateTimeOffset startedAt = time.GetUtcNow();
        string id = startedAt.UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture);
        string folder = to.Begin(id);
        string firstWal = await AskAsync(
            connection,
            $"SELECT pg_walfile_name(pg_backup_start('usage-monitor {id}', fast => true))",
            cancellationToken
        );
        string cluster = Path.Combine(folder, "cluster");
        (List<string> folders, List<BackedUpFile> files) = Copy(cluster, cancellationToken);

        // The label comes from the server, and belongs to the copy only.
        string lastWal;
        await using (
            var stop = new NpgsqlCommand(
                "SELECT pg_walfile_name(lsn), labelfile, spcmapfile FROM pg_backup_stop(wait_for_archive => false)",
                connection
            )
        )
        {
            await using NpgsqlDataReader reader = await stop.ExecuteReaderAsync(cancellationToken);
            await reader.ReadAsync(cancellationToken);
            lastWal = reader.GetString(0);
            files.Add(Add(cluster, "backup_label", reader.GetString(1)));
            if (reader.GetString(2).Length > 0)
            {
                throw new BackupException("Tablespaces outside of the data folder are not backed up.");
            }
        }

        DateTimeOffset stoppedAt = time.GetUtcNow();
        await WaitForWalAsync(lastWal, ship, time, cancellationToken);
        BackupFolder.Copy(
            Path.Combine(from.DataFolder, PostgresFolder.PasswordFile),
            Path.Combine(folder, PostgresFolder.PasswordFile)
        );
        var manifest = new BackupManifest(
            id,
            startedAt,
            stoppedAt,
            firstWal,
            lastWal,
            version,
            system,
            masterKeyId,
            folders,
            files
        );
        BackupFolder.Write(Path.Combine(folder, BackupManifest.FileName), manifest.ToJson());
        to.Complete(id);
        return manifest;
    }

    private (List<string> Folders, List<BackedUpFile> Files) Copy(string target, CancellationToken cancellationToken)
    {
        var folders = new List<string>();
        var files = new List<BackedUpFile>();
        Directory.CreateDirectory(target);
        var left = new Stack<string>([""]);
        while (left.TryPop(out string? at))
        {
            foreach (
                FileSystemInfo entry in new DirectoryInfo(Path.Combine(from.Cluster, at)).EnumerateFileSystemInfos()
            )
            {
                cancellationToken.ThrowIfCancellationRequested();
                string path = at.Length == 0 ? entry.Name : at + "/" + entry.Name;
                if (entry.LinkTarget is not null)
                {
                    throw new BackupException($"{path} is a link; a cluster with links is not backed up.");
                }

                if (IsLeft(path, entry.Name))
                {
                    continue;
                }

                if (entry is DirectoryInfo)
                {
                    folders.Add(path);
                    Directory.CreateDirectory(Path.Combine(target, path));
                    if (!s_emptied.Contains(path))
                    {
                        left.Push(path);
                    }

                    continue;
                }

                try
                {
                    (long bytes, string hash) = BackupFolder.Copy(entry.FullName, Path.Combine(target, path));
                    files.Add(new BackedUpFile(path, bytes, hash));
                }
                catch (FileNotFoundException)
                {
                    // Removed meanwhile; the WAL says so.
                }
            }
        }

        folders.Add("pg_wal/archive_status");
        return (folders, files);
    }

    private static bool IsLeft(string path, string name) =>
        s_left.Contains(path)
        || name.StartsWith("pgsql_tmp", StringComparison.Ordinal)
        || name.StartsWith("pg_internal.init", StringComparison.Ordinal)
        || name.EndsWith(".partial", StringComparison.Ordinal);

    private static BackedUpFile Add(string cluster, string name, string text)
    {
        string file = Path.Combine(cluster, name);
        BackupFolder.Write(file, System.Text.Encoding.UTF8.GetBytes(text));
        return new BackedUpFile(name, new FileInfo(file).Length, BackupFolder.HashOf(file));
    }

    private async Task WaitForWalAsync(
        string segment,
        Action ship,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        DateTimeOffset until = time.GetUtcNow() + WalPatience;
        while (true)
        {
            ship();
            if (to.HasWal(segment))
            {
                return;
            }

            if (time.GetUtcNow() > until)
            {
                throw new BackupException(
                    $"The WAL up to {segment} did not reach {to.Root}; the running server's Backup:Folder must be this folder."
                );
            }

            await Task.Delay(TimeSpan.FromMilliseconds(100), time, cancellationToken);
        }
    }

    private static async Task<string> AskAsync(
        NpgsqlConnection connection,
        string sql,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(sql, connection);
        return (string)(await command.ExecuteScalarAsync(cancellationToken))!;
    }
}
