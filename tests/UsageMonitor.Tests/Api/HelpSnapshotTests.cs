using System.Diagnostics;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Api;

/// <summary>The command line explains itself, and changes only on purpose.</summary>
public sealed class HelpSnapshotTests
{
    [Theory]
    [InlineData("")]
    [InlineData("serve")]
    [InlineData("import")]
    public async Task Help_WhenAsked_ShouldMatchTheSnapshot(string command)
    {
        string program = typeof(UsageMonitor.Server.ServerHost).Assembly.Location;
        string[] arguments = command.Length == 0 ? [program, "--help"] : [program, command, "--help"];
        using Process process = Process.Start(
            new ProcessStartInfo("dotnet", arguments) { RedirectStandardOutput = true }
        )!;
        string help = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(0, process.ExitCode);
        string name = command.Length == 0 ? "usage-monitor" : command;
        Snapshot.AssertMatches(
            $"tests/UsageMonitor.Tests/Api/help-{name}.snapshot.txt",
            string.Join('\n', help.Split('\n').Select(line => line.TrimEnd()))
        );
    }
}
