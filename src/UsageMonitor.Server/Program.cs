using System.CommandLine;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Backup;
using UsageMonitor.Server.Import;
using UsageMonitor.Server.Platform.Embedded;

namespace UsageMonitor.Server;

/// <summary>The command line: <c>usage-monitor serve</c> and the tools beside it.</summary>
internal static class Program
{
    public static Task<int> Main(string[] args)
    {
        var root = new RootCommand("Usage Monitor: enterprise usage monitoring and administration.");
        root.Subcommands.Add(ServeCommand.Create());
        root.Subcommands.Add(ImportCommand.Create());
        root.Subcommands.Add(AuditCommand.Create());
        root.Subcommands.Add(PostgresCommand.Create());
        root.Subcommands.Add(ArchiveCommand.Create());
        root.Subcommands.Add(BackupCommand.CreateBackup());
        root.Subcommands.Add(BackupCommand.CreateRestore());
        // Null: commands handle signals themselves; the library would end the process two seconds after one.
        return root.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
    }
}
