using System.Diagnostics;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>The postmaster: kept running until disposed.</summary>
/// <remarks>
/// Linux sends the death signal when the <em>thread</em> that started a child ends, so one thread starts it, waits for it
/// and starts it again, and lives as long as this object.
/// </remarks>
internal sealed partial class PostgresProcess : IAsyncDisposable
{
    private const int LinesKept = 20;
    private readonly PostgresFolder _folder;
    private readonly PostgresBinaries _binaries;
    private readonly PostgresAccount _account;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private readonly Queue<string> _lastLines = new();
    private readonly ManualResetEventSlim _stop = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Process? _process;

    private PostgresProcess(
        PostgresFolder folder,
        PostgresBinaries binaries,
        PostgresAccount account,
        TimeProvider clock,
        ILogger logger
    )
    {
        (_folder, _binaries, _account, _clock, _logger) = (folder, binaries, account, clock, logger);
    }

    /// <summary>The postmaster's process id at this moment, or null between two of them.</summary>
    public int? ProcessId
    {
        get
        {
            lock (_gate)
            {
                return _process?.Id;
            }
        }
    }

    /// <summary>Starts it, and returns when it takes connections; recovery after a crash may take its time before.</summary>
    /// <exception cref="InvalidOperationException">It ended instead; the message has what it said last.</exception>
    public static async Task<PostgresProcess> StartAsync(
        PostgresFolder folder,
        PostgresBinaries binaries,
        PostgresAccount account,
        TimeProvider clock,
        ILogger logger,
        CancellationToken cancellationToken
    )
    {
        var postgres = new PostgresProcess(folder, binaries, account, clock, logger);
        new Thread(postgres.Keep) { Name = "PostgreSQL", IsBackground = true }.Start();
        try
        {
            using var poll = new PeriodicTimer(PollInterval, clock);
            while (postgres.ProcessId is not { } id || !folder.IsReady(id))
            {
                if (postgres._ended.Task.IsCompleted)
                {
                    await postgres._ended.Task;
                }

                await poll.WaitForNextTickAsync(cancellationToken);
            }

            postgres._wasReady = true;
            return postgres;
        }
        catch
        {
            await postgres.DisposeAsync();
            throw;
        }
    }

    /// <summary>Stops it: a fast shutdown, which leaves nothing to recover; what does not end in time is ended.</summary>
    public async ValueTask DisposeAsync()
    {
        _stop.Set();
        foreach (
            (int signal, TimeSpan patience) in new[]
            {
                (Unix.SignalInterrupt, FastShutdownMax),
                (Unix.SignalQuit, ImmediateShutdownMax),
                (Unix.SignalKill, ImmediateShutdownMax),
            }
        )
        {
            lock (_gate)
            {
                if (_process is { HasExited: false } running)
                {
                    Unix.Signal(running.Id, signal);
                }
            }

            try
            {
                await _ended.Task.WaitAsync(patience, _clock);
                break;
            }
            catch (TimeoutException)
            {
                LogStopping(patience.TotalSeconds);
            }
            catch (Exception exception) when (exception is not TimeoutException)
            {
                break; // it never started, which StartAsync has told
            }
        }
    }

    private volatile bool _wasReady;

    private void Keep()
    {
        TimeSpan pause = RestartPauseMin;
        while (!_stop.IsSet)
        {
            long startedAt = _clock.GetTimestamp();
            try
            {
                int exitCode = RunOnce();
                if (_stop.IsSet)
                {
                    break;
                }

                if (!_wasReady)
                {
                    throw new InvalidOperationException($"PostgreSQL did not start ({exitCode}): {LastLines()}");
                }

                LogDied(exitCode);
                // Backends may outlive a killed postmaster for a moment, and the next one refuses to start beside them.
                PostgresLeftovers.EndAsync(_folder, _clock, _logger, CancellationToken.None).GetAwaiter().GetResult();
                _folder.RemoveSocket();
            }
            catch (Exception exception)
            {
                if (!_wasReady)
                {
                    _ended.SetException(exception);
                    return;
                }

                LogCannotStart(exception);
            }

            pause =
                _clock.GetElapsedTime(startedAt) > StableAfter ? RestartPauseMin
                : pause < RestartPauseMax / 2 ? pause * 2
                : RestartPauseMax;
            _stop.Wait(pause);
        }

        _ended.SetResult();
    }

    private int RunOnce()
    {
        // SIGINT is PostgreSQL's fast shutdown: if we are killed, it still ends cleanly.
        ProcessStartInfo start = _account.Program(_binaries.Server, _folder.Cluster, signalWhenParentDies: "INT");
        start.ArgumentList.Add("-D");
        start.ArgumentList.Add(_folder.ClusterAsTold);
        using var process = new Process { StartInfo = start };
        process.ErrorDataReceived += (_, line) => Report(line.Data);
        process.OutputDataReceived += (_, line) => Report(line.Data);
        lock (_gate)
        {
            if (_stop.IsSet)
            {
                return 0;
            }

            process.Start();
            _process = process;
        }

        try
        {
            process.StandardInput.Close();
            process.BeginErrorReadLine();
            process.BeginOutputReadLine();
            // Without a limit it would also wait for the pipes, which a backend that is left behind holds open.
            while (!process.WaitForExit(WaitSlice)) { }

            if (!_wasReady)
            {
                process.WaitForExit(); // then it does, and so we hear why it did not start
            }

            return process.ExitCode;
        }
        finally
        {
            lock (_gate)
            {
                _process = null;
            }
        }
    }

    private void Report(string? line)
    {
        if (string.IsNullOrEmpty(line))
        {
            return;
        }

        lock (_lastLines)
        {
            if (_lastLines.Count == LinesKept)
            {
                _lastLines.Dequeue();
            }

            _lastLines.Enqueue(line);
        }

        string kind = line.Split(':', 2)[0];
        LogLine(
            kind switch
            {
                "PANIC" => LogLevel.Critical,
                "WARNING" or "ERROR" or "FATAL" => LogLevel.Warning,
                _ => LogLevel.Debug,
            },
            line
        );
    }

    private string LastLines()
    {
        lock (_lastLines)
        {
            return string.Join(Environment.NewLine, _lastLines);
        }
    }

    [LoggerMessage(1, LogLevel.Error, "PostgreSQL ended by itself ({ExitCode}); it is started again")]
    private partial void LogDied(int exitCode);

    [LoggerMessage(4, LogLevel.Error, "PostgreSQL could not be started again; it is tried once more")]
    private partial void LogCannotStart(Exception exception);

    [LoggerMessage(2, LogLevel.Warning, "PostgreSQL did not stop within {Seconds} s")]
    private partial void LogStopping(double seconds);

    [LoggerMessage(EventId = 3, Message = "PostgreSQL: {Line}")]
    private partial void LogLine(LogLevel level, string line);

    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan WaitSlice = TimeSpan.FromHours(1);
    private static readonly TimeSpan StableAfter = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan RestartPauseMin = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan RestartPauseMax = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan FastShutdownMax = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan ImmediateShutdownMax = TimeSpan.FromSeconds(5);
}
