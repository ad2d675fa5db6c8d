using System.Globalization;
using System.Security.Cryptography;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Split;

/// <summary>The platform as several processes, which share nothing but PostgreSQL, Redis and the master key.</summary>
internal sealed class SplitPlatform : IAsyncDisposable
{
    private const string Gateway = "gateway";
    private static readonly string[] s_roles =
    [
        "identity,admin",
        "ingestion",
        "ingestion",
        "processing",
        "processing",
        "dashboard",
    ];
    private readonly List<(string Roles, ServerProcess Process)> _processes = [];

    private SplitPlatform() { }

    /// <summary>The gateway: all that a client sees.</summary>
    public Uri Address => _processes.First(one => one.Roles == Gateway).Process.Address;

    public string Output => string.Join('\n', _processes.Select(one => $"--- {one.Roles}\n{one.Process.Output}"));

    /// <summary>Starts all of them at the same moment, on an empty database.</summary>
    public static async Task<SplitPlatform> StartAsync(OwnEngines engines, TemporaryFolder folder)
    {
        var settings = new Dictionary<string, string>
        {
            ["ConnectionStrings__Postgres"] = engines.PostgresConnectionString,
            ["ConnectionStrings__Redis"] = engines.RedisConnectionString,
            ["MasterKey"] = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)),
            ["TrustedProxies"] = "127.0.0.1/32", // the gateway, which tells the services who calls
        };
        List<ServerOptions> options =
        [
            .. s_roles.Select(
                (roles, place) =>
                    new ServerOptions(folder.File(place.ToString(CultureInfo.InvariantCulture)), Ports.Free())
                    {
                        Roles = roles,
                        Settings = settings,
                    }
            ),
        ];
        var services = new Dictionary<string, string>(settings);
        foreach (string role in new[] { "identity", "admin", "ingestion", "dashboard" })
        {
            services[$"Gateway__Services__{role}"] = string.Join(
                ',',
                options.Where(one => one.Roles!.Split(',').Contains(role)).Select(one => $"http://127.0.0.1:{one.Port}")
            );
        }

        options.Add(new ServerOptions(folder.File(Gateway), Ports.Free()) { Roles = Gateway, Settings = services });
        var platform = new SplitPlatform();
        try
        {
            platform._processes.AddRange(options.Select(one => (one.Roles!, ServerProcess.Start(one))));
            await Task.WhenAll(platform._processes.Select(one => one.Process.WaitUntilReadyAsync()));
            return platform;
        }
        catch
        {
            await platform.DisposeAsync();
            throw;
        }
    }

    /// <summary><c>kill -9</c> of one of the processes of a role.</summary>
    public async Task KillOneAsync(string role)
    {
        (string Roles, ServerProcess Process) one = _processes.First(one => one.Roles == role);
        _processes.Remove(one);
        await one.Process.DisposeAsync();
    }

    /// <returns>The exit codes of those that were still there.</returns>
    public Task<int[]> StopAsync() => Task.WhenAll(_processes.Select(one => one.Process.StopAsync()));

    public async ValueTask DisposeAsync()
    {
        foreach ((_, ServerProcess process) in _processes)
        {
            await process.DisposeAsync();
        }
    }
}
