namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>What an operator may say about the embedded PostgreSQL: the configuration section <c>Postgres</c>.</summary>
internal sealed record PostgresOptions
{
    /// <summary><c>Postgres:Binaries</c>: the folder with <c>bin</c>, <c>lib</c> and <c>share</c>; null to search for it.</summary>
    public string? Binaries { get; init; }

    /// <summary><c>Postgres:User</c>: the account it runs as when we are root; null for the first known one.</summary>
    public string? User { get; init; }

    /// <summary><c>Postgres:Settings:*</c>: PostgreSQL's own settings, over the platform's.</summary>
    public IReadOnlyDictionary<string, string> Settings { get; init; } = new Dictionary<string, string>();

    /// <summary><c>Backup:Folder</c> is set: finished segments of WAL are kept until they are taken away.</summary>
    public int? ArchivesWalSeconds { get; init; }

    /// <summary>The operator's settings and those that keep the WAL.</summary>
    public IReadOnlyDictionary<string, string> AllSettings =>
        ArchivesWalSeconds is not { } seconds
            ? Settings
            : new Dictionary<string, string>(Settings, StringComparer.Ordinal)
            {
                ["archive_mode"] = "on",
                ["archive_library"] = "basic_archive",
                ["basic_archive.archive_directory"] = PostgresFolder.ArchivedWal,
                ["archive_timeout"] = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture),
            };

    public static PostgresOptions From(IConfiguration configuration)
    {
        IConfigurationSection section = configuration.GetSection("Postgres");
        return new PostgresOptions
        {
            Binaries = section["Binaries"],
            User = section["User"],
            Settings = section
                .GetSection("Settings")
                .GetChildren()
                .Where(setting => setting.Value is not null)
                .ToDictionary(setting => setting.Key, setting => setting.Value!, StringComparer.Ordinal),
        };
    }
}
