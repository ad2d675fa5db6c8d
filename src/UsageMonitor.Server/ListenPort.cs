using System.Net;
using System.Net.Sockets;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server;

/// <summary>
/// Whether the port is free, looked at before anything is started or written; Kestrel would find out last, and say it with
/// a stack trace.
/// </summary>
internal static class ListenPort
{
    /// <exception cref="StartException">Nobody can listen there now.</exception>
    public static void ThrowIfTaken(ServerSettings settings)
    {
        ThrowIfTaken(settings, settings.Port);
        if (settings.Tls?.RedirectFromPort is { } plain)
        {
            ThrowIfTaken(settings, plain);
        }
    }

    private static void ThrowIfTaken(ServerSettings settings, int port)
    {
        try
        {
            using var listener = new TcpListener(IPAddress.Parse(settings.Address), port);
            listener.Start();
        }
        catch (SocketException exception) when (exception.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            throw Taken(port, exception);
        }
        catch (SocketException exception)
        {
            throw new StartException(
                $"Cannot listen on {settings.Address} port {port}: {exception.Message}.",
                exception
            );
        }
    }

    public static StartException Taken(int port, Exception exception) =>
        new($"Port {port} is in use. Choose another with --port.", exception);
}
