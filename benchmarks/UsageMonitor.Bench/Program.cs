namespace UsageMonitor.Bench;

internal static class Program
{
    private const int ExitTargetsMissed = 1;
    private const int ExitFailed = 2;

    public static async Task<int> Main(string[] args)
    {
        if (args.Contains("--help") || args.Contains("-h"))
        {
            Console.WriteLine(Options.Usage);
            return 0;
        }

        Options options;
        try
        {
            options = Options.Parse(args);
        }
        catch (FormatException error)
        {
            await Console.Error.WriteLineAsync($"bench: {error.Message}\n\n{Options.Usage}");
            return ExitFailed;
        }

        string root = RepositoryRoot();
        string program =
            options.ServerPath
            ?? Path.Combine(root, "artifacts", "bin", "UsageMonitor.Server", "release", "usage-monitor.dll");
        if (!File.Exists(program))
        {
            await Console.Error.WriteLineAsync($"bench: {program} is missing; ./bench builds it first.");
            return ExitFailed;
        }

        // PostgreSQL runs as another user when the bench is root, so the folder must let others through.
        string dataFolder = options.DataFolder is { } given
            ? Directory.CreateDirectory(Path.GetFullPath(given)).FullName
            : Directory.CreateTempSubdirectory("usage-monitor-bench-").FullName;
        bool isOurs = options.DataFolder is null;
        if (isOurs && !OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(
                dataFolder,
                File.GetUnixFileMode(dataFolder) | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute
            );
        }

        using var ending = new Ending(() => Clean(dataFolder, isOurs));
        try
        {
            Report report = options.What switch
            {
                Options.ActiveUsers => await new ActiveUsersBench(
                    options,
                    program,
                    dataFolder,
                    Console.Error
                ).RunAsync(),
                Options.Policies => new PoliciesBench(options, Console.Error).Run(),
                Options.Limits => await new LimitsBench(options, program, dataFolder, Console.Error).RunAsync(),
                Options.Alerts => await new AlertsBench(options, program, dataFolder, Console.Error).RunAsync(),
                Options.Archive => await new ArchiveBench(options, dataFolder, Console.Error).RunAsync(),
                Options.Anomaly => new AnomalyBench(options, Console.Error).Run(),
                Options.Audit => await new AuditBench(options, dataFolder, Console.Error).RunAsync(),
                Options.Auth => await new AuthBench(options, dataFolder, Console.Error).RunAsync(),
                _ => await new Bench(options, program, dataFolder, Console.Error).RunAsync(),
            };
            report.Print(Console.Out);
            Console.WriteLine($"\n{report.Save(Path.Combine(root, "artifacts", "bench"), options)}");
            if (options.Quick)
            {
                Console.WriteLine("--quick shows that the bench works; its numbers are not to be quoted.");
            }

            return report.IsSpoilt ? ExitFailed
                : report.AllMet || options.Quick ? 0
                : ExitTargetsMissed;
        }
#pragma warning disable CA1031 // Whatever a measurement says whose servers are being ended, the process ends soon.
        catch (Exception) when (ending.HasBegun)
#pragma warning restore CA1031
        {
            await Task.Delay(Timeout.Infinite);
            return ExitFailed;
        }
        catch (BenchException error)
        {
            await Console.Error.WriteLineAsync($"bench: {error.Message}");
            return ExitFailed;
        }
        finally
        {
            Clean(dataFolder, isOurs);
        }
    }

    private static void Clean(string dataFolder, bool isOurs)
    {
        if (isOurs && Directory.Exists(dataFolder))
        {
            Directory.Delete(dataFolder, recursive: true);
        }
    }

    private static string RepositoryRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "UsageMonitor.slnx")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? Environment.CurrentDirectory;
    }
}
