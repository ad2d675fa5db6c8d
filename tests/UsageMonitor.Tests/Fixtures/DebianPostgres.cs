using System.Diagnostics;
using Npgsql;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>A PostgreSQL of the user's own: Debian's package of a version, on a private socket, as <c>./test</c> installs it.</summary>
internal sealed class DebianPostgres : IAsyncDisposable
{
    private const string Account = "postgres";
    private readonly string _folder;
    private readonly Process _server;

    private DebianPostgres(string folder, Process server)
    {
        (_folder, _server) = (folder, server);
        ConnectionString = $"Host={folder};Username=owner;Database=postgres;Pooling=False";
    }

    public string ConnectionString { get; }

    public static async Task<DebianPostgres> StartAsync(string version)
    {
        string binaries = $"/usr/lib/postgresql/{version}/bin";
        string folder = Directory.CreateTempSubdirectory("um-debian-").FullName;
        await RunAsync("chown", Account, folder);
        await RunAsync([.. AsAccount, $"{binaries}/initdb", "-D", $"{folder}/db", "-A", "trust", "-U", "owner", "-N"]);
        string[] serve =
        [
            $"{binaries}/postgres",
            "-D",
            $"{folder}/db",
            "-k",
            folder,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ];
        var postgres = new DebianPostgres(folder, Start([.. AsAccount, .. serve]));
        await Eventually.TrueAsync(
            async () =>
            {
                await using var connection = new NpgsqlConnection(postgres.ConnectionString);
                await connection.OpenAsync();
                return true;
            },
            "Debian's PostgreSQL takes connections"
        );
        return postgres;
    }

    public async ValueTask DisposeAsync()
    {
        await RunAsync("kill", "-INT", $"{_server.Id}");
        await _server.WaitForExitAsync();
        _server.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    // It refuses to run as root; setpriv replaces itself, so that the process is the postmaster's.
    private static string[] AsAccount =>
        Environment.IsPrivilegedProcess ? ["setpriv", "--reuid", Account, "--regid", Account, "--clear-groups"] : [];

    private static async Task RunAsync(params string[] command)
    {
        using Process process = Start(command);
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{string.Join(' ', command)} ended with {process.ExitCode}.");
        }
    }

    private static Process Start(string[] command) =>
        Process.Start(
            new ProcessStartInfo(command[0], command[1..]) { WorkingDirectory = "/", RedirectStandardOutput = true }
        )!;
}
