using System.CommandLine;
using UsageMonitor.Server.Import;

namespace UsageMonitor.Server;

/// <summary>The command line: <c>usage-monitor serve</c> and the tools beside it.</summary>
internal static class Program
{
    public static Task<int> Main(string[] args)
    {
        var root = new RootCommand("Usage Monitor: enterprise usage monitoring and administration.");
        root.Subcommands.Add(ServeCommand.Create());
        root.Subcommands.Add(ImportCommand.Create());
        return root.Parse(args).InvokeAsync();
    }
}
