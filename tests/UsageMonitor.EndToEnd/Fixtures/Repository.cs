namespace UsageMonitor.EndToEnd.Fixtures;

/// <summary>Where things are: the repository around the test's own binary, and the server built beside it.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>The server of the same configuration as the tests.</summary>
    public static string Server { get; } = FindServer();

    /// <summary>Real activity, beside the repository where there is any.</summary>
    public static string ActivityFolder { get; } =
        Environment.GetEnvironmentVariable("ACTIVITY_DATA")
        ?? Path.GetFullPath(Path.Combine(Root, "..", "shared", "data", "activity"));

    private static string FindRoot()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (File.Exists(Path.Combine(folder, "UsageMonitor.slnx")))
            {
                return folder;
            }
        }

        throw new InvalidOperationException($"{AppContext.BaseDirectory} is not inside the repository.");
    }

    private static string FindServer()
    {
        string configuration = Path.GetFileName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        string server = Path.Combine(
            Root,
            "artifacts",
            "bin",
            "UsageMonitor.Server",
            configuration,
            "usage-monitor.dll"
        );
        return File.Exists(server) ? server : throw new FileNotFoundException("Build the server first.", server);
    }
}
