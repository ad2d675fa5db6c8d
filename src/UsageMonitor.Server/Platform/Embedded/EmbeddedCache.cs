using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Garnet;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>
/// The platform's private cache: Garnet in this process, spoken to with the Redis protocol over loopback, so that a Redis
/// elsewhere is a matter of the connection string.
/// </summary>
/// <remarks>It holds only what can be read or counted again; it starts empty, and evicts the oldest when it is full.</remarks>
internal sealed class EmbeddedCache : IDisposable
{
    private const int PasswordBytes = 32;
    private const int BindAttemptsMax = 10;
    private readonly GarnetServer _server;

    private EmbeddedCache(GarnetServer server, string connectionString)
    {
        _server = server;
        ConnectionString = connectionString;
    }

    /// <summary>For StackExchange.Redis.</summary>
    public string ConnectionString { get; }

    /// <summary>Starts it on a free port of the loopback address, behind a password made for this run.</summary>
    public static EmbeddedCache Start(string dataFolder, ILoggerFactory loggers)
    {
        string password = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(PasswordBytes));
        for (int attempt = 1; ; attempt++)
        {
            int port = FreePort();
            GarnetServer? server = null;
            try
            {
                server = new GarnetServer(Arguments(port, password, dataFolder), loggers);
                server.Start();
                return new EmbeddedCache(
                    server,
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"127.0.0.1:{port},password={password},abortConnect=false"
                    )
                );
            }
            catch (Exception exception)
                when (attempt < BindAttemptsMax
                    && (exception as SocketException ?? exception.InnerException as SocketException)
                        is { SocketErrorCode: SocketError.AddressAlreadyInUse }
                )
            {
                server?.Dispose(); // somebody took the port since we looked
            }
            catch
            {
                server?.Dispose();
                throw;
            }
        }
    }

    public void Dispose() => _server.Dispose();

    private static string[] Arguments(int port, string password, string dataFolder) =>
        [
            "--bind",
            "127.0.0.1",
            "--port",
            port.ToString(CultureInfo.InvariantCulture),
            "--auth",
            "Password",
            "--password",
            password,
            "--memory", // beyond it the oldest are forgotten, and counters of limits must not be
            "256m",
            "--page",
            "1m",
            "--index",
            "16m",
            "--lua",
            "true",
            // Otherwise a script is not one step, as it is in Redis.
            "--lua-transaction-mode",
            "true",
            "--device-type",
            "RandomAccess",
            "--checkpointdir", // nothing is written unless someone says SAVE, and then not into the current folder
            Path.Combine(Path.GetFullPath(dataFolder), "cache"),
            "-q",
            "true",
        ];

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
