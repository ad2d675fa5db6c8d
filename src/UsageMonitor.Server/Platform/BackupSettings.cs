namespace UsageMonitor.Server.Platform;

/// <summary>Where the embedded PostgreSQL's WAL is kept; <c>Backup</c> in the configuration.</summary>
internal sealed record BackupSettings
{
    public const int WalSecondsDefault = 60;
    private const int WalSecondsMax = 3_600;

    /// <summary><c>Backup:Folder</c>: on another disk or machine than the data, or it is no backup.</summary>
    public required string Folder { get; init; }

    /// <summary><c>Backup:WalSeconds</c>: after so long a segment is ended although it is not full; at most that and a second is lost.</summary>
    public required int WalSeconds { get; init; }

    /// <returns>Null: nothing is backed up.</returns>
    public static BackupSettings? Load(IConfiguration configuration, List<string> errors)
    {
        string? folder = configuration["Backup:Folder"];
        int seconds = ServerSettings.Number(
            configuration,
            "Backup:WalSeconds",
            WalSecondsDefault,
            1,
            WalSecondsMax,
            errors
        );
        if (string.IsNullOrWhiteSpace(folder))
        {
            return null;
        }

        if (!string.IsNullOrWhiteSpace(configuration.GetConnectionString("Postgres")))
        {
            errors.Add(
                "Backup:Folder: is for the embedded PostgreSQL; back up a PostgreSQL of your own with its own tools."
            );
        }

        return new BackupSettings { Folder = Path.GetFullPath(folder), WalSeconds = seconds };
    }
}
