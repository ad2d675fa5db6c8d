using System.Runtime.InteropServices;

namespace UsageMonitor.Bench;

/// <summary>What must not stay behind when the bench is told to end by a signal: its servers, then its folder.</summary>
internal sealed class Ending : IDisposable
{
    private const int SignalExitBase = 128;
    private static readonly Lock s_lock = new();
    private static readonly List<IAsyncDisposable> s_servers = [];
    private readonly PosixSignalRegistration[] _signals;
    private readonly Action _last;
    private int _ending;

    /// <param name="last">Done when every server has ended.</param>
    public Ending(Action last)
    {
        _last = last;
        _signals =
        [
            PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => End(signal, 2)),
            PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal => End(signal, 15)),
            PosixSignalRegistration.Create(PosixSignal.SIGHUP, signal => End(signal, 1)),
        ];
    }

    /// <summary>The bench has been told to end.</summary>
    public bool HasBegun => Volatile.Read(ref _ending) != 0;

    /// <summary>Is to be ended with the bench, until <see cref="Remove"/>.</summary>
    public static void Add(IAsyncDisposable server)
    {
        lock (s_lock)
        {
            s_servers.Add(server);
        }
    }

    public static void Remove(IAsyncDisposable server)
    {
        lock (s_lock)
        {
            s_servers.Remove(server);
        }
    }

    public void Dispose()
    {
        foreach (PosixSignalRegistration signal in _signals)
        {
            signal.Dispose();
        }
    }

    private void End(PosixSignalContext context, int number)
    {
        context.Cancel = true; // or the runtime ends the process before the servers have
        if (Interlocked.Exchange(ref _ending, 1) == 0)
        {
            _ = Task.Run(() => EndAsync(SignalExitBase + number));
        }
    }

    private async Task EndAsync(int exitCode)
    {
        IAsyncDisposable[] servers;
        lock (s_lock)
        {
            servers = [.. s_servers];
        }

        try
        {
            await Task.WhenAll(servers.Select(server => server.DisposeAsync().AsTask()));
            _last();
        }
        finally
        {
            Environment.Exit(exitCode);
        }
    }
}
