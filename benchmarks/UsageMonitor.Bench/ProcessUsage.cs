using System.Globalization;

namespace UsageMonitor.Bench;

/// <summary>Processor seconds used so far by the server, by its PostgreSQL with all its processes, and by this generator.</summary>
internal readonly record struct ProcessorSeconds(double Server, double Postgres, double Generator)
{
    public static ProcessorSeconds operator -(ProcessorSeconds now, ProcessorSeconds then) =>
        new(now.Server - then.Server, now.Postgres - then.Postgres, now.Generator - then.Generator);
}

/// <summary>Reads what processes use from <c>/proc</c> (proc(5)).</summary>
internal sealed class ProcessUsage
{
    private const double TicksPerSecond = 100;
    private const int ParentField = 1;
    private const int UserTicksField = 11;
    private const int ChildrenTicksLastField = 14;
    private readonly int _server;
    private readonly int? _postmaster;

    public ProcessUsage(ServerProcess server)
    {
        _server = server.Id;
        string? pidFile = Directory
            .EnumerateFiles(
                server.DataFolder,
                "postmaster.pid",
                new EnumerationOptions { RecurseSubdirectories = true, IgnoreInaccessible = true }
            )
            .FirstOrDefault();
        _postmaster = pidFile is null ? null : int.Parse(File.ReadLines(pidFile).First(), CultureInfo.InvariantCulture);
    }

    public ProcessorSeconds Read() =>
        new(
            Seconds(_server),
            // A backend that has ended counts in what the postmaster has of its children.
            PostgresProcesses().Sum(Seconds) + (_postmaster is { } parent ? Seconds(parent, ofChildren: true) : 0),
            Environment.CpuUsage.TotalTime.TotalSeconds
        );

    /// <summary>The server's resident memory at its highest, in MB.</summary>
    public double ServerPeakMegabytes() => StatusKilobytes(_server, "VmHWM:") / 1_024.0;

    public double ServerMegabytes() => StatusKilobytes(_server, "VmRSS:") / 1_024.0;

    /// <summary>PostgreSQL's memory in MB, what its processes share counted once (proportional set size).</summary>
    public double PostgresMegabytes() => PostgresProcesses().Sum(ProportionalKilobytes) / 1_024.0;

    private List<int> PostgresProcesses()
    {
        if (_postmaster is not { } postmaster)
        {
            return [];
        }

        // PostgreSQL's processes are all children of the postmaster.
        var found = new List<int> { postmaster };
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (
                int.TryParse(Path.GetFileName(folder), CultureInfo.InvariantCulture, out int process)
                && StatFields(process) is { } fields
                && fields[ParentField] == postmaster.ToString(CultureInfo.InvariantCulture)
            )
            {
                found.Add(process);
            }
        }

        return found;
    }

    private static double Seconds(int process) => Seconds(process, ofChildren: false);

    private static double Seconds(int process, bool ofChildren)
    {
        if (StatFields(process) is not { } fields)
        {
            return 0;
        }

        int first = ofChildren ? ChildrenTicksLastField - 1 : UserTicksField;
        return (Number(fields[first]) + Number(fields[first + 1])) / TicksPerSecond;
    }

    /// <summary>The fields of <c>stat</c> after the name, which may itself hold blanks: the first is the state.</summary>
    private static string[]? StatFields(int process)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{process}/stat");
            return stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static long StatusKilobytes(int process, string name) => Kilobytes($"/proc/{process}/status", name);

    private static long ProportionalKilobytes(int process) => Kilobytes($"/proc/{process}/smaps_rollup", "Pss:");

    private static long Kilobytes(string file, string name)
    {
        try
        {
            string? line = File.ReadLines(file).FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal));
            return line is null ? 0 : Number(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }

    private static long Number(string text) => long.Parse(text, CultureInfo.InvariantCulture);
}
