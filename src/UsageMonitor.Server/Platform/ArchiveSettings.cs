namespace UsageMonitor.Server.Platform;

/// <summary>Where the archive is and what it may use; <c>Archive</c> in the configuration.</summary>
internal sealed record ArchiveSettings
{
    /// <summary>
    /// A day ends this long before it is archived, at least. An event is the same as a stored one when their times are within
    /// 32 days, and only a backfill may be older than 7: so whoever does not backfill never repeats an archived event.
    /// Windows of limits, a month at most, are live then as well.
    /// </summary>
    public const int AfterDaysMin = 40;

    private const int AfterDaysMax = 3_650;
    private const int MemoryMegabytesDefault = 1_024;
    private const int MegabytesMin = 256;
    private const int MegabytesMax = 1_048_576;

    /// <summary><c>Archive:Folder</c>: the archive, <c>archive</c> in the data folder unless told; every role that reads it needs the same.</summary>
    public required string Folder { get; init; }

    /// <summary><c>Archive:Temporary</c>: where opened files lie for a while, in the clear; memory (<c>/dev/shm</c>) unless told.</summary>
    public required string TemporaryFolder { get; init; }

    /// <summary><c>Archive:AfterDays</c>: how long after its end a day is archived.</summary>
    public int AfterDays { get; init; } = AfterDaysMin;

    /// <summary><c>Archive:MemoryMegabytes</c>: what one reading or writing may use.</summary>
    public int MemoryMegabytes { get; init; } = MemoryMegabytesDefault;

    /// <summary><c>Archive:CacheMegabytes</c>: opened files kept for the next who asks.</summary>
    public int CacheMegabytes { get; init; } = MemoryMegabytesDefault;

    public static ArchiveSettings Load(IConfiguration configuration, string dataFolder, List<string> errors) =>
        new()
        {
            Folder = Path.GetFullPath(Text(configuration["Archive:Folder"]) ?? Path.Combine(dataFolder, "archive")),
            TemporaryFolder = Path.GetFullPath(
                Text(configuration["Archive:Temporary"])
                    ?? (Directory.Exists("/dev/shm") ? "/dev/shm" : Path.Combine(dataFolder, "archive-opened"))
            ),
            AfterDays = ServerSettings.Number(
                configuration,
                "Archive:AfterDays",
                AfterDaysMin,
                AfterDaysMin,
                AfterDaysMax,
                errors
            ),
            MemoryMegabytes = Megabytes(configuration, "Archive:MemoryMegabytes", MemoryMegabytesDefault, errors),
            CacheMegabytes = Megabytes(configuration, "Archive:CacheMegabytes", MemoryMegabytesDefault, errors),
        };

    private static int Megabytes(IConfiguration configuration, string key, int fallback, List<string> errors) =>
        ServerSettings.Number(configuration, key, fallback, MegabytesMin, MegabytesMax, errors);

    private static string? Text(string? value) => string.IsNullOrWhiteSpace(value) ? null : value;
}
