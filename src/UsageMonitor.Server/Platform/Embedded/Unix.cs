using System.Runtime.InteropServices;
using System.Text;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>The few system calls that .NET has no method for.</summary>
internal static class Unix
{
    public const int SignalInterrupt = 2;
    public const int SignalQuit = 3;
    public const int SignalKill = 9;

    private const int CurrentDirectory = -100; // AT_FDCWD
    private const int DoNotFollowLinks = 0x100; // AT_SYMLINK_NOFOLLOW
    private const uint BasicFields = 0x7ff; // STATX_BASIC_STATS
    private const int StatxBytes = 256;
    private const int UidOffset = 20;
    private const int ModeOffset = 28;
    private const int FileTypeMask = 0xF000;
    private const int DirectoryType = 0x4000;

    /// <summary>Sends a signal; a process that is gone already is no error.</summary>
    public static void Signal(int processId, int signal) => _ = Kill(processId, signal);

    public static uint EffectiveUser() => GetEffectiveUser();

    /// <summary>Gives a file or a folder, not what a link points to, to a user and group.</summary>
    public static void ChangeOwner(string path, uint user, uint group)
    {
        if (LinkChangeOwner(Terminated(path), user, group) != 0)
        {
            throw new IOException($"cannot give {path} to user {user}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    /// <summary>The owner of a folder, or null when there is none at the path (a link is none either).</summary>
    public static (uint User, UnixFileMode Mode)? OwnerOfFolder(string path)
    {
        byte[] buffer = new byte[StatxBytes];
        if (Statx(CurrentDirectory, Terminated(path), DoNotFollowLinks, BasicFields, buffer) != 0)
        {
            return null;
        }

        int mode = BitConverter.ToUInt16(buffer, ModeOffset);
        return (mode & FileTypeMask) == DirectoryType
            ? (BitConverter.ToUInt32(buffer, UidOffset), (UnixFileMode)(mode & 0xFFF))
            : null;
    }

    private static byte[] Terminated(string path) => Encoding.UTF8.GetBytes(path + '\0');

    [DllImport("libc", EntryPoint = "kill", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Kill(int processId, int signal);

    [DllImport("libc", EntryPoint = "geteuid")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern uint GetEffectiveUser();

    [DllImport("libc", EntryPoint = "lchown", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int LinkChangeOwner(byte[] path, uint user, uint group);

    [DllImport("libc", EntryPoint = "statx", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Statx(int folder, byte[] path, int flags, uint fields, byte[] buffer);
}
