using System.Runtime.InteropServices;

namespace UsageMonitor.EndToEnd.Fixtures;

/// <summary>Signals to processes that the tests have started.</summary>
internal static class Signals
{
    public const int Kill = 9;
    public const int Terminate = 15;

    /// <summary>Sends a signal. False: there is no such process any more.</summary>
    public static bool Send(int processId, int signal) => KillProcess(processId, signal) == 0;

    public static bool IsAlive(int processId) => KillProcess(processId, 0) == 0;

    [DllImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int KillProcess(int processId, int signal);
}
