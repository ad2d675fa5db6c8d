using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Xunit;

namespace UsageMonitor.EndToEnd.Fixtures;

/// <summary>A process that a test has started, with what it said so far. It ends with the test at the latest.</summary>
internal sealed class ChildProcess : IAsyncDisposable
{
    private static readonly ConcurrentDictionary<int, ChildProcess> s_alive = new();
    private static readonly TimeSpan OutputDrainMax = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan StopMax = TimeSpan.FromSeconds(60);
    private readonly Process _process;
    private readonly StringBuilder _output = new();

    static ChildProcess() =>
        AppDomain.CurrentDomain.ProcessExit += (_, _) =>
        {
            foreach (ChildProcess child in s_alive.Values)
            {
                child.Kill();
            }
        };

    private ChildProcess(Process process)
    {
        _process = process;
        Id = process.Id;
        s_alive[Id] = this;
        process.OutputDataReceived += (_, line) => Heard(line.Data);
        process.ErrorDataReceived += (_, line) => Heard(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    public int Id { get; }

    public bool HasExited => _process.HasExited;

    /// <summary>Both outputs, in the order in which they were heard.</summary>
    public string Output
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    /// <summary>Starts a program; of our own environment it sees only what every program needs.</summary>
    public static ChildProcess Start(
        string program,
        IEnumerable<string> arguments,
        IReadOnlyDictionary<string, string>? environment = null
    )
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string name in start.Environment.Keys.ToList())
        {
            if (name is not ("PATH" or "HOME" or "TMPDIR" or "DOTNET_ROOT" or "LANG"))
            {
                start.Environment.Remove(name);
            }
        }

        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        Process process = Process.Start(start)!;
        process.StandardInput.Close();
        return new ChildProcess(process);
    }

    /// <summary>Runs <c>usage-monitor</c> to its end.</summary>
    public static async Task<(int ExitCode, string Output)> RunAsync(
        IEnumerable<string> arguments,
        IReadOnlyDictionary<string, string>? environment = null
    )
    {
        await using ChildProcess child = Start("dotnet", [Repository.Server, .. arguments], environment);
        int exitCode = await child.WaitForExitAsync();
        return (exitCode, child.Output);
    }

    /// <summary><c>kill -9</c> of this process alone.</summary>
    public void Kill()
    {
        if (!_process.HasExited)
        {
            Signals.Send(Id, Signals.Kill);
        }
    }

    /// <summary>Asks it to stop, as a service manager does, and waits until it has.</summary>
    public Task<int> StopAsync()
    {
        if (!_process.HasExited)
        {
            Signals.Send(Id, Signals.Terminate);
        }

        return WaitForExitAsync();
    }

    /// <returns>The exit code.</returns>
    public async Task<int> WaitForExitAsync()
    {
        await Eventually.TrueAsync(
            () => Task.FromResult(_process.HasExited),
            () => $"{Id} has ended. It said:\n{Output}",
            StopMax
        );
        using var drain = new CancellationTokenSource(OutputDrainMax);
        try
        {
            // Waits for the end of its output too, which a process that it started may hold open.
            await _process.WaitForExitAsync(drain.Token);
        }
        catch (OperationCanceledException)
        {
            TestContext.Current.SendDiagnosticMessage("{0} has ended, and something holds its output open", Id);
        }

        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (s_alive.TryRemove(Id, out _))
        {
            Kill();
            await WaitForExitAsync();
            _process.Dispose();
        }
    }

    private void Heard(string? line)
    {
        if (line is not null)
        {
            lock (_output)
            {
                _output.AppendLine(line);
            }
        }
    }
}
