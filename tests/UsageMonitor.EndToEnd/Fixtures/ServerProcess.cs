using System.Globalization;
using Npgsql;
using Xunit;

namespace UsageMonitor.EndToEnd.Fixtures;

/// <summary>How a server is started.</summary>
/// <param name="DataFolder">Its <c>--data</c>.</param>
/// <param name="Port">Its <c>--port</c>.</param>
internal sealed record ServerOptions(string DataFolder, int Port)
{
    /// <summary>Its <c>--roles</c>; all unless told.</summary>
    public string? Roles { get; init; }

    /// <summary>The operator's password; null for the server to make one up.</summary>
    public string? OperatorPassword { get; init; } = ServerProcess.OperatorPassword;

    /// <summary>Further settings, as variables of the environment.</summary>
    public IReadOnlyDictionary<string, string> Settings { get; init; } = new Dictionary<string, string>();
}

/// <summary><c>usage-monitor serve</c>, the real binary in a process of its own.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    public const string OperatorEmail = "operator@e2e.example";
    public const string OperatorPassword = "operator-of-the-end-to-end-tests";
    private const string ReadyMark = "Usage Monitor is ready: ";
    private static readonly TimeSpan StartMax = TimeSpan.FromSeconds(120);
    private readonly ServerOptions _options;
    private readonly ChildProcess _process;

    private ServerProcess(ServerOptions options, ChildProcess process) => (_options, _process) = (options, process);

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    public string Output => _process.Output;

    public Uri Address => new($"http://127.0.0.1:{_options.Port}");

    public bool IsReady => Output.Contains(ReadyMark, StringComparison.Ordinal);

    /// <summary>Starts it and does not wait.</summary>
    public static ServerProcess Start(ServerOptions options)
    {
        var environment = new Dictionary<string, string>(options.Settings);
        if (options.OperatorPassword is not null)
        {
            environment["USAGEMONITOR_OPERATOR_EMAIL"] = OperatorEmail;
            environment["USAGEMONITOR_OPERATOR_PASSWORD"] = options.OperatorPassword;
        }

        string port = options.Port.ToString(CultureInfo.InvariantCulture);
        string[] roles = options.Roles is null ? [] : ["--roles", options.Roles];
        string[] arguments = [Repository.Server, "serve", "--port", port, "--data", options.DataFolder, .. roles];
        return new ServerProcess(options, ChildProcess.Start("dotnet", arguments, environment));
    }

    /// <summary>Starts it and waits until it says that it is ready.</summary>
    public static async Task<ServerProcess> StartReadyAsync(ServerOptions options)
    {
        ServerProcess server = Start(options);
        try
        {
            await server.WaitUntilReadyAsync();
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    public async Task WaitUntilReadyAsync()
    {
        await Eventually.TrueAsync(
            () => Task.FromResult(IsReady || HasExited),
            () => $"the server is ready. It said:\n{Output}",
            StartMax
        );
        if (!IsReady)
        {
            Assert.Fail($"The server ended with {await _process.WaitForExitAsync()}. It said:\n{Output}");
        }
    }

    /// <inheritdoc cref="ChildProcess.Kill"/>
    public void Kill() => _process.Kill();

    /// <inheritdoc cref="ChildProcess.StopAsync"/>
    public Task<int> StopAsync() => _process.StopAsync();

    /// <inheritdoc cref="ChildProcess.WaitForExitAsync"/>
    public Task<int> WaitForExitAsync() => _process.WaitForExitAsync();

    public ValueTask DisposeAsync() => _process.DisposeAsync();
}

/// <summary>The embedded PostgreSQL of a data folder, as its files tell.</summary>
internal sealed class PostgresOf(string dataFolder)
{
    private const int SocketFolderLine = 4;
    private const int StatusLine = 7;

    /// <summary>The postmaster's process id, or null when none has written its file.</summary>
    public int? Postmaster =>
        Lines() is [var first, ..] && int.TryParse(first, CultureInfo.InvariantCulture, out int id) ? id : null;

    /// <summary>True when the postmaster has written that it takes connections.</summary>
    public bool IsReady => Lines() is { Length: > StatusLine } lines && lines[StatusLine].Trim() == "ready";

    /// <summary>The postmaster's children: backends, checkpointer, writers.</summary>
    public int[] Backends =>
        Postmaster is { } id && File.Exists($"/proc/{id}/task/{id}/children")
            ?
            [
                .. Read($"/proc/{id}/task/{id}/children")
                    .Split(' ', StringSplitOptions.RemoveEmptyEntries)
                    .Select(int.Parse),
            ]
            : [];

    /// <summary>The owner's connection, whom no row-level security binds.</summary>
    public NpgsqlDataSource OpenAsOwner() =>
        NpgsqlDataSource.Create(
            new NpgsqlConnectionStringBuilder
            {
                Host = Lines()[SocketFolderLine],
                Username = "usage_monitor",
                Password = File.ReadAllText(Path.Combine(dataFolder, "postgres.password")).Trim(),
                Database = "usage_monitor",
            }
        );

    private string[] Lines() => Read(Path.Combine(dataFolder, "postgres", "postmaster.pid")).Split('\n');

    private static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (IOException)
        {
            return ""; // it, or its process, has just gone
        }
    }
}
