using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Npgsql;

namespace UsageMonitor.Bench;

/// <summary>A child of the bench: the platform under test, or the PostgreSQL of the baselines.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    public const string OperatorEmail = "operator@bench.example";
    public const string OperatorPassword = "operator-of-the-bench-1";
    private const int StartSecondsMax = 120;
    private const int StopSecondsMax = 60;
    private const int PollMilliseconds = 100;
    private const int TailLines = 30;
    private const int SignalTerminate = 15;
    private const string ConnectionStringMark = "Host=";

    private readonly Process _process;
    private readonly Queue<string> _tail = [];
    private readonly TaskCompletionSource<string> _connectionString = new();
    private int _disposed;

    private ServerProcess(Process process, string dataFolder, int port)
    {
        (_process, DataFolder, Port) = (process, dataFolder, port);
        process.OutputDataReceived += (_, line) => Heard(line.Data);
        process.ErrorDataReceived += (_, line) => Heard(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        Ending.Add(this);
    }

    public int Id => _process.Id;

    public string DataFolder { get; }

    public int Port { get; }

    /// <summary>Of the owner; only of <see cref="StartPostgresAsync"/>.</summary>
    public string ConnectionString => _connectionString.Task.Result;

    /// <summary>A checkpoint of the platform's PostgreSQL, as it makes one itself every five minutes: WAL files to reuse are left by it.</summary>
    public async Task CheckpointAsync()
    {
        const int SocketFolderLine = 4;
        string postgres = Path.Combine(DataFolder, "postgres");
        var owner = new NpgsqlConnectionStringBuilder
        {
            Host = (await File.ReadAllLinesAsync(Path.Combine(postgres, "postmaster.pid")))[SocketFolderLine],
            Username = "usage_monitor",
            Password = (await File.ReadAllTextAsync(postgres + ".password")).Trim(),
            Database = "usage_monitor",
            Pooling = false,
        };
        await using var source = NpgsqlDataSource.Create(owner);
        await using NpgsqlCommand checkpoint = source.CreateCommand("CHECKPOINT");
        await checkpoint.ExecuteNonQueryAsync();
    }

    /// <summary>Starts <c>usage-monitor serve</c> and waits until it is ready.</summary>
    /// <param name="program">The server.</param>
    /// <param name="dataFolder">Its data.</param>
    /// <param name="logLevel">What it says.</param>
    /// <param name="settings">Further settings, as variables of the environment.</param>
    public static async Task<ServerProcess> ServeAsync(
        string program,
        string dataFolder,
        string logLevel,
        IReadOnlyDictionary<string, string>? settings = null
    )
    {
        int port = FreePort();
        var environment = new Dictionary<string, string>(settings ?? new Dictionary<string, string>())
        {
            ["USAGEMONITOR_OPERATOR_EMAIL"] = OperatorEmail,
            ["USAGEMONITOR_OPERATOR_PASSWORD"] = OperatorPassword,
            ["Logging__LogLevel__Default"] = logLevel,
            ["Logging__LogLevel__Microsoft.AspNetCore"] = logLevel,
        };
        ServerProcess server = Start(
            program,
            ["serve", "--port", $"{port}", "--data", dataFolder],
            environment,
            dataFolder,
            port
        );
        using var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}") };
        await server.WaitUntilAsync(
            "ready",
            async () =>
            {
                try
                {
                    using HttpResponseMessage answer = await http.GetAsync(new Uri("/health/ready", UriKind.Relative));
                    return answer.StatusCode == HttpStatusCode.OK;
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            }
        );
        return server;
    }

    /// <summary>Starts <c>usage-monitor postgres</c>: the same PostgreSQL with the same settings, and nothing else.</summary>
    public static async Task<ServerProcess> StartPostgresAsync(string program, string dataFolder)
    {
        ServerProcess server = Start(program, ["postgres", "--data", dataFolder], [], dataFolder, 0);
        await server.WaitUntilAsync("ready", () => Task.FromResult(server._connectionString.Task.IsCompleted));
        return server;
    }

    public async ValueTask DisposeAsync()
    {
        Ending.Remove(this);
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        AskToStop();

        // Not WaitForExitAsync: that also waits for the end of what the process printed, which a grandchild may hold open.
        long asked = Stopwatch.GetTimestamp();
        while (!_process.HasExited)
        {
            if (Stopwatch.GetElapsedTime(asked).TotalSeconds > StopSecondsMax)
            {
                await Console.Error.WriteLineAsync($"Process {Id} did not stop in {StopSecondsMax} s and is killed.");
                _process.Kill(entireProcessTree: true);
            }

            await Task.Delay(PollMilliseconds);
        }

        _process.Dispose();
    }

    /// <summary>What it printed last, for an error.</summary>
    public string Tail()
    {
        lock (_tail)
        {
            return string.Join(Environment.NewLine, _tail);
        }
    }

    private static ServerProcess Start(
        string program,
        string[] arguments,
        Dictionary<string, string> environment,
        string dataFolder,
        int port
    )
    {
        var start = new ProcessStartInfo("dotnet", [program, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        return new ServerProcess(Process.Start(start)!, dataFolder, port);
    }

    private async Task WaitUntilAsync(string what, Func<Task<bool>> reached)
    {
        long started = Stopwatch.GetTimestamp();
        while (!await reached())
        {
            if (_process.HasExited || Stopwatch.GetElapsedTime(started).TotalSeconds > StartSecondsMax)
            {
                string end = _process.HasExited ? $"ended with {_process.ExitCode}" : $"took over {StartSecondsMax} s";
                string tail = Tail();
                await DisposeAsync();
                throw new BenchException($"{_process.StartInfo.FileName} {what}? It {end}. It said:\n{tail}");
            }

            await Task.Delay(PollMilliseconds);
        }
    }

    private void AskToStop()
    {
        if (!_process.HasExited)
        {
            // `serve` stops at the signal, `postgres` at either.
            _process.StandardInput.Close();
            _ = Kill(_process.Id, SignalTerminate);
        }
    }

    private void Heard(string? line)
    {
        if (line is null)
        {
            return;
        }

        if (line.StartsWith(ConnectionStringMark, StringComparison.Ordinal))
        {
            _connectionString.TrySetResult(line.Trim());
            return;
        }

        lock (_tail)
        {
            _tail.Enqueue(line);
            if (_tail.Count > TailLines)
            {
                _tail.Dequeue();
            }
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    [DllImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Kill(int process, int signal);
}

/// <summary>The measurement can't be made; the message says why.</summary>
internal sealed class BenchException(string message) : Exception(message);
