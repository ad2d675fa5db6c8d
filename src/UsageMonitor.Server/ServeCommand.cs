using System.CommandLine;

namespace UsageMonitor.Server;

/// <summary><c>usage-monitor serve</c>.</summary>
internal static class ServeCommand
{
    public static Command Create()
    {
        var command = new Command("serve", "Runs the platform, or some of its roles.");
        command.SetAction((_, _) => Task.FromResult(0));
        return command;
    }
}
