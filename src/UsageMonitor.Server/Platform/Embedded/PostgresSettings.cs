using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>The private server's <c>postgresql.conf</c>.</summary>
internal static partial class PostgresSettings
{
    private static readonly (string Name, string Value)[] Defaults =
    [
        // Only the socket, whose folder is private; and there only with a password.
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("password_encryption", "scram-sha-256"),
        ("max_connections", "100"),
        // What is answered is durable: these four are the platform's promise, not tuning.
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("wal_level", "replica"),
        // Few and spread checkpoints: after one, every page is written whole once more.
        ("max_wal_size", "4GB"),
        ("checkpoint_timeout", "5min"),
        // A checkpoint leaves so much of old WAL to write over. To make and fill a new file takes tens of milliseconds,
        // and every commit that comes meanwhile waits: it is the tail of the acknowledgements.
        ("min_wal_size", "1GB"),
        ("checkpoint_completion_target", "0.9"),
        ("wal_compression", "off"), // this build has only pglz, and what is large comes compressed and sealed
        ("shared_buffers", SharedBuffers()),
        ("random_page_cost", "1.1"),
        ("effective_io_concurrency", "64"),
        ("jit", "off"), // statements are short; compiling them would take longer than running them
        ("autovacuum", "on"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("datestyle", "ISO, YMD"),
        ("default_text_search_config", "pg_catalog.simple"),
        ("lc_messages", "C"),
        // Messages come to us over stderr. Terse leaves out DETAIL, which quotes the rows' values.
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("log_line_prefix", ""),
        ("log_error_verbosity", "terse"),
        ("log_checkpoints", "off"),
    ];

    // A sixteenth of the memory: the machine is shared with the server, and the system caches files as well.
    private static string SharedBuffers()
    {
        const int MegabytesMin = 128;
        const int MegabytesMax = 1_024;
        long megabytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (16 * 1024 * 1024);
        return string.Create(CultureInfo.InvariantCulture, $"{Math.Clamp(megabytes, MegabytesMin, MegabytesMax)}MB");
    }

    /// <param name="overrides">The operator's settings, over ours.</param>
    /// <param name="socketFolder">Where the socket goes; cannot be overridden.</param>
    /// <param name="port">Part of the socket's name; cannot be overridden.</param>
    public static string Render(IReadOnlyDictionary<string, string> overrides, string socketFolder, int port)
    {
        var text = new StringBuilder("# Written anew at every start; change it with Postgres:Settings:<name>.\n");
        foreach (
            (string name, string value) in Defaults
                .Concat(overrides.Select(setting => (setting.Key, setting.Value)))
                .Append(("unix_socket_directories", socketFolder))
                .Append(("port", port.ToString(CultureInfo.InvariantCulture)))
        )
        {
            if (!SettingName().IsMatch(name) || value.AsSpan().ContainsAny('\n', '\r', '\0'))
            {
                throw new InvalidOperationException($"Postgres:Settings:{name} is not a setting of PostgreSQL.");
            }

            text.Append(
                CultureInfo.InvariantCulture,
                $"{name} = '{value.Replace("'", "''", StringComparison.Ordinal)}'\n"
            );
        }

        return text.ToString();
    }

    [GeneratedRegex("^[A-Za-z_][A-Za-z0-9_.]*$")]
    private static partial Regex SettingName();
}
