using System.Text.RegularExpressions;

namespace UsageMonitor.Server.Backup;

/// <summary>The names of PostgreSQL's log.</summary>
internal static partial class BackupNames
{
    private const int TimelineDigits = 8;

    /// <summary>A segment, the history of a timeline, or the note of a backup.</summary>
    public static bool IsWal(string name) => Archived().IsMatch(name);

    public static bool IsSegment(string name) => Segment().IsMatch(name);

    /// <summary>Segments of one timeline compare by this, and those before it are older, whatever their timeline.</summary>
    public static string WithoutTimeline(string segment) => segment[TimelineDigits..];

    [GeneratedRegex("^[0-9A-F]{24}$")]
    private static partial Regex Segment();

    [GeneratedRegex(@"^([0-9A-F]{24}(\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history)$")]
    private static partial Regex Archived();
}
