using System.Globalization;
using System.Security.Cryptography;
using Garnet;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Split;

/// <summary>A PostgreSQL and a Redis as a user would bring them, outside of every server process.</summary>
internal sealed class OwnEngines : IAsyncDisposable
{
    private const string RedisPath = "/usr/bin/redis-server";
    private readonly ChildProcess _postgres;
    private readonly ChildProcess? _redis;
    private readonly GarnetServer? _garnet;

    private OwnEngines(ChildProcess postgres, ChildProcess? redis, GarnetServer? garnet, string redisConnectionString)
    {
        (_postgres, _redis, _garnet) = (postgres, redis, garnet);
        RedisConnectionString = redisConnectionString;
    }

    /// <summary>The owner's.</summary>
    public string PostgresConnectionString =>
        _postgres.Output.Split('\n').First(line => line.StartsWith("Host=", StringComparison.Ordinal)).Trim();

    public string RedisConnectionString { get; }

    /// <summary>What plays Redis, for the test's output.</summary>
    public string RedisName => _redis is null ? $"Garnet, since there is no {RedisPath}" : RedisPath;

    public static async Task<OwnEngines> StartAsync(TemporaryFolder folder)
    {
        string password = Convert.ToHexString(RandomNumberGenerator.GetBytes(16));
        string port = Ports.Free().ToString(CultureInfo.InvariantCulture);
        var postgres = ChildProcess.Start("dotnet", [Repository.Server, "postgres", "--data", folder.File("own")]);
        string connectionString = $"127.0.0.1:{port},password={password}";
        OwnEngines engines = File.Exists(RedisPath)
            ? new(postgres, StartRedis(port, password), null, connectionString)
            : new(postgres, null, StartGarnet(port, password), connectionString);
        try
        {
            await Eventually.TrueAsync(
                () => Task.FromResult(postgres.Output.Contains("Host=", StringComparison.Ordinal)),
                () => $"PostgreSQL is ready. It said:\n{postgres.Output}"
            );
            await Eventually.TrueAsync(
                () =>
                    Task.FromResult(
                        engines._redis?.Output.Contains("Ready to accept", StringComparison.Ordinal) ?? true
                    ),
                () => $"Redis is ready. It said:\n{engines._redis?.Output}"
            );
            return engines;
        }
        catch
        {
            await engines.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        _garnet?.Dispose();
        if (_redis is not null)
        {
            await _redis.StopAsync();
            await _redis.DisposeAsync();
        }

        int exitCode = await _postgres.StopAsync();
        await _postgres.DisposeAsync();
        Assert.Equal(0, exitCode);
    }

    private static ChildProcess StartRedis(string port, string password) =>
        ChildProcess.Start(
            RedisPath,
            ["--bind", "127.0.0.1", "--port", port, "--requirepass", password, "--save", "", "--appendonly", "no"]
        );

    private static GarnetServer StartGarnet(string port, string password)
    {
        var garnet = new GarnetServer([
            "--bind",
            "127.0.0.1",
            "--port",
            port,
            "--auth",
            "Password",
            "--password",
            password,
            "-q",
            "true",
        ]);
        garnet.Start();
        return garnet;
    }
}
