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
        try
        {
            using var listener = new TcpListener(IPAddress.Parse(settings.Address), settings.Port);
            listener.Start();
        }
        catch (SocketException exception) when (exception.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            throw Taken(settings, exception);
        }
        catch (SocketException exception)
        {
            throw new StartException(
                $"Cannot listen on {settings.Address} port {settings.Port}: {exception.Message}.",
                exception
            );
        }
    }

    public static StartException Taken(ServerSettings settings, Exception exception) =>
        new($"Port {settings.Port} is in use. Choose another with --port.", exception);
}
