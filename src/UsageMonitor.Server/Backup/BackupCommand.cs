using System.CommandLine;
using System.Globalization;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;

namespace UsageMonitor.Server.Backup;

/// <summary><c>usage-monitor backup</c> and <c>usage-monitor restore</c>, of the embedded PostgreSQL and the archive.</summary>
internal static class BackupCommand
{
    private const int Failed = 1;
    private const int KeepDefault = 7;

    public static Command CreateBackup()
    {
        Option<string> data = DataOption();
        var to = new Option<string>("--to")
        {
            Description = "The backup folder; a running server's Backup:Folder.",
            Required = true,
        };
        var keep = new Option<int>("--keep")
        {
            Description = "How many base backups stay; older ones go, and WAL that only they need.",
            DefaultValueFactory = _ => KeepDefault,
        };
        var command = new Command(
            "backup",
            "Copies a data folder while its server runs, or while none does. With the WAL that a server with Backup:Folder keeps, any "
                + "moment since can be restored. The master key is never in it: keep it elsewhere."
        )
        {
            data,
            to,
            keep,
        };
        command.SetAction(
            (parsed, cancel) =>
                GuardAsync(() =>
                    BackUpAsync(
                        parsed.GetRequiredValue(data),
                        parsed.GetRequiredValue(to),
                        parsed.GetValue(keep),
                        cancel
                    )
                )
        );
        var from = new Option<string>("--from") { Description = "The backup folder.", Required = true };
        var verify = new Command("verify", "Holds every file of every backup to its manifest.") { from };
        verify.SetAction((parsed, _) => GuardAsync(() => VerifyAsync(parsed.GetRequiredValue(from))));
        command.Subcommands.Add(verify);
        return command;
    }

    public static Command CreateRestore()
    {
        var data = new Option<string>("--data")
        {
            Description = "The new data folder; it must not exist or be empty.",
            Required = true,
        };
        var from = new Option<string>("--from") { Description = "The backup folder.", Required = true };
        var backup = new Option<string?>("--backup")
        {
            Description = "The base backup; the newest that fits unless told.",
        };
        var toTime = new Option<DateTimeOffset?>("--to-time")
        {
            Description = "The moment to restore to, such as 2026-11-24T12:00:00Z; the end of the WAL unless told.",
        };
        var keyFile = new Option<string?>("--master-key-file")
        {
            Description =
                "The master key as the file master.key has it; it is put into the new data folder. Else MasterKey or MasterKeyCommand.",
        };
        var command = new Command(
            "restore",
            "Makes a data folder of a backup, and checks ledger, event log, archive and audit chains. Exit code 0: all is whole."
        )
        {
            data,
            from,
            backup,
            toTime,
            keyFile,
        };
        command.SetAction(
            (parsed, cancel) =>
                GuardAsync(() =>
                    RestoreAsync(
                        parsed.GetRequiredValue(from),
                        Path.GetFullPath(parsed.GetRequiredValue(data)),
                        parsed.GetValue(backup),
                        parsed.GetValue(toTime),
                        parsed.GetValue(keyFile),
                        cancel
                    )
                )
        );
        return command;
    }

    private static Option<string> DataOption() =>
        new("--data") { Description = "The data folder.", DefaultValueFactory = _ => "./data" };

    private static async Task<int> GuardAsync(Func<Task<int>> run)
    {
        try
        {
            return await run();
        }
        catch (Exception exception)
            when (exception
                    is BackupException
                        or SettingsException
                        or MasterKeyException
                        or NpgsqlException
                        or IOException
                        or UnauthorizedAccessException
                        or FormatException
            )
        {
            await Console.Error.WriteLineAsync(exception.Message);
            return Failed;
        }
    }

    private static async Task<int> BackUpAsync(
        string dataFolder,
        string to,
        int keep,
        CancellationToken cancellationToken
    )
    {
        dataFolder = Path.GetFullPath(dataFolder);
        IConfiguration configuration = Configuration(dataFolder);
        var settings = ServerSettings.Load(configuration);
        if (settings.Postgres is not null)
        {
            throw new BackupException(
                "ConnectionStrings:Postgres names a PostgreSQL of your own: back it up with its own tools (pg_basebackup, your provider's), "
                    + "and the archive's folder with the tool of your files."
            );
        }

        if (keep < 1)
        {
            throw new BackupException("--keep: must be 1 at least.");
        }

        WrappingKeys keys = await MasterKeySource.LoadAsync(settings, cancellationToken);
        var options = PostgresOptions.From(configuration);
        var from = new PostgresFolder(dataFolder, PostgresAccount.Choose(options.User));
        if (!from.IsInitialised)
        {
            throw new BackupException($"{dataFolder} holds no data.");
        }

        var folder = new BackupFolder(to);
        folder.Create();
        var backup = new BaseBackup(folder, from);
        using ILoggerFactory loggers = Loggers();
        BackupManifest manifest;
        try
        {
            // Nobody runs it: we do, for as long as it takes.
            await using EmbeddedPostgres own = await EmbeddedPostgres.StartAsync(
                dataFolder,
                options with
                {
                    ArchivesWalSeconds = BackupSettings.WalSecondsDefault,
                },
                loggers,
                cancellationToken
            );
            var route = new WalRoute(
                Path.Combine(from.Cluster, PostgresFolder.ArchivedWal),
                settings.Archive.Folder,
                folder
            );
            manifest = await backup.RunAsync(
                own.OwnerConnectionString,
                keys.FirstId,
                () => WalShipping.Ship(route),
                TimeProvider.System,
                cancellationToken
            );
        }
        catch (DataFolderInUseException)
        {
            manifest = await backup.RunAsync(
                EmbeddedPostgres.ConnectionStringOf(from),
                keys.FirstId,
                () => { },
                TimeProvider.System,
                cancellationToken
            );
        }

        int removed = BackupPruning.Run(folder, keep);
        await Console.Out.WriteLineAsync(
            string.Create(
                CultureInfo.InvariantCulture,
                $"Backup {manifest.Id}: {manifest.Files.Count} files, {manifest.Files.Sum(file => file.Bytes) / 1e6:N1} MB, can be restored to {manifest.StoppedAt:O} and later. {removed} older ones removed."
            )
        );
        return 0;
    }

    private static async Task<int> VerifyAsync(string from)
    {
        var folder = new BackupFolder(from);
        IReadOnlyList<BackupManifest> backups = folder.Backups();
        if (backups.Count == 0)
        {
            throw new BackupException($"{folder.Root} holds no backup.");
        }

        foreach (BackupManifest manifest in backups)
        {
            BackupVerification.Check(folder, manifest);
            await Console.Out.WriteLineAsync($"ok      {manifest.Id}: {manifest.Files.Count} files");
        }

        foreach (string name in folder.WalNames())
        {
            folder.ReadWal(name);
        }

        return 0;
    }

    private static async Task<int> RestoreAsync(
        string from,
        string dataFolder,
        string? backup,
        DateTimeOffset? toTime,
        string? keyFile,
        CancellationToken cancellationToken
    )
    {
        IConfiguration configuration = Configuration(dataFolder);
        WrappingKeys keys;
        if (keyFile is not null)
        {
            keys = WrappingKeys.Parse(await File.ReadAllTextAsync(keyFile, cancellationToken));
        }
        else
        {
            var settings = ServerSettings.Load(configuration);
            if (settings is { MasterKey: null, MasterKeyCommand: null })
            {
                throw new BackupException(
                    "The master key is needed: --master-key-file, MasterKey or MasterKeyCommand."
                );
            }

            keys = await MasterKeySource.LoadAsync(settings, cancellationToken);
        }

        using ILoggerFactory loggers = Loggers();
        bool isWhole = false;
        Restore.Restored restored = await new Restore(new BackupFolder(from), dataFolder, loggers).RunAsync(
            backup,
            toTime,
            keys,
            PostgresOptions.From(configuration),
            async connectionString =>
                isWhole = await RestoreChecks.RunAsync(
                    connectionString,
                    Path.Combine(dataFolder, "archive"),
                    Console.Out.WriteLine,
                    cancellationToken
                ),
            cancellationToken
        );
        if (keyFile is not null)
        {
            BackupFolder.Write(
                Path.Combine(dataFolder, MasterKeySource.FileName),
                await File.ReadAllBytesAsync(keyFile, cancellationToken)
            );
        }

        await Console.Out.WriteLineAsync(
            $"Restored backup {restored.Manifest.Id} with {restored.Segments} segments of WAL, up to {restored.LastWal}, into {dataFolder}."
        );
        return isWhole ? 0 : Failed;
    }

    private static IConfiguration Configuration(string dataFolder) =>
        new ConfigurationBuilder()
            .AddEnvironmentVariables()
            .AddInMemoryCollection(new Dictionary<string, string?> { ["Data"] = dataFolder })
            .Build();

    private static ILoggerFactory Loggers() =>
        LoggerFactory.Create(logging =>
            logging
                .SetMinimumLevel(LogLevel.Warning)
                .AddSimpleConsole()
                .AddConsole(console => console.LogToStandardErrorThreshold = LogLevel.Trace)
        );
}
