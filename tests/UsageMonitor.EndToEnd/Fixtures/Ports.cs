using System.Net;
using System.Net.Sockets;

namespace UsageMonitor.EndToEnd.Fixtures;

/// <summary>
/// Ports for servers that are killed and started again on the same one. They are below the range from which the kernel
/// gives ports to outgoing connections: there, a client that connects to a server that is away could take its port.
/// </summary>
internal static class Ports
{
    private const int First = 15_000;
    private const int Last = 32_000;

    public static int Free()
    {
        while (true)
        {
            int port = Random.Shared.Next(First, Last);
            try
            {
                using var listener = new TcpListener(IPAddress.Loopback, port);
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // taken: another
            }
        }
    }
}
