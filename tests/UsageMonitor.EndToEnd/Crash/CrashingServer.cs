using System.Globalization;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>What is killed.</summary>
internal enum Victim
{
    Server,
    Postmaster,
    Backend,

    /// <summary>The server, and again while it starts.</summary>
    StartingServer,

    /// <summary>The postmaster, and the server before there is another.</summary>
    PostmasterThenServer,
}

/// <summary>A server that is killed, and its PostgreSQL, and that goes on after each.</summary>
internal sealed class CrashingServer(ServerOptions options, Random random) : IAsyncDisposable
{
    /// <summary>How far a start has come when it is cut short.</summary>
    private enum Stage
    {
        ProcessStarted,
        PostmasterStarted,
        PostgresReady,
    }

    private readonly PostgresOf _postgres = new(options.DataFolder);
    private ServerProcess? _server;

    public PostgresOf Postgres => _postgres;

    public string Output => _server?.Output ?? "";

    public Uri Address => _server!.Address;

    public async Task StartAsync() => _server = await ServerProcess.StartReadyAsync(options);

    public Task<int> StopAsync() => _server!.StopAsync();

    /// <summary>Kills, and starts what nobody else starts again.</summary>
    /// <returns>What was done, for the test's output.</returns>
    public async Task<string> KillAsync(Victim victim)
    {
        switch (victim)
        {
            case Victim.Postmaster:
                return await KillPostmasterAsync();
            case Victim.Backend:
                return await KillBackendAsync();
            case Victim.StartingServer:
                await KillServerAsync();
                Stage stage = random.GetItems(Enum.GetValues<Stage>(), 1)[0];
                int? before = _postgres.Postmaster;
                _server = ServerProcess.Start(options);
                await Eventually.TrueAsync(() => HasReached(stage, before), $"a start has come to {stage}");
                await KillServerAsync();
                await StartAsync();
                return $"the server, and again when it had come to {stage}";
            case Victim.PostmasterThenServer:
                Signals.Send(_postgres.Postmaster ?? _server!.Id, Signals.Kill);
                await KillServerAsync();
                await StartAsync();
                return "the postmaster and then the server";
            default:
                int id = _server!.Id;
                await KillServerAsync();
                await StartAsync();
                return Text($"the server {id}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    private async Task KillServerAsync()
    {
        ServerProcess server = _server!;
        _server = null;
        await server.DisposeAsync(); // it kills
    }

    private async Task<string> KillPostmasterAsync()
    {
        int? before = _postgres.Postmaster;
        if (before is not { } id || !Signals.Send(id, Signals.Kill))
        {
            return "no postmaster, since there was none";
        }

        await Eventually.TrueAsync(() => _postgres.Postmaster is { } now && now != before, "another postmaster runs");
        return Text($"the postmaster {id}");
    }

    private async Task<string> KillBackendAsync()
    {
        int[] before = _postgres.Backends;
        if (before.Length == 0 || random.GetItems(before, 1)[0] is var id && !Signals.Send(id, Signals.Kill))
        {
            return "no backend, since there was none";
        }

        // The postmaster ends them all, because the one may have left shared memory half written.
        await Eventually.TrueAsync(() => !_postgres.Backends.Intersect(before).Any(), "every backend is another");
        return Text($"the backend {id}");
    }

    // The file of the postmaster that was left behind stays until the next one replaces it.
    private bool HasReached(Stage stage, int? before) =>
        _server!.HasExited
        || stage switch
        {
            Stage.ProcessStarted => true,
            Stage.PostmasterStarted => _postgres.Postmaster is { } now && now != before,
            _ => _postgres.Postmaster is { } now && now != before && _postgres.IsReady,
        };

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
