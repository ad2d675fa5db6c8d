using System.Buffers.Text;
using System.Net;
using System.Net.Sockets;

namespace UsageMonitor.Bench;

/// <param name="Status">Of the HTTP answer.</param>
/// <param name="RetryAfterSeconds">As the server asks, or 0.</param>
/// <param name="Body">Valid until the connection is used again.</param>
internal readonly record struct HttpAnswer(int Status, int RetryAfterSeconds, ReadOnlyMemory<byte> Body)
{
    /// <summary>A number of the JSON body by its name, or null.</summary>
    public long? Number(ReadOnlySpan<byte> quotedNameAndColon)
    {
        int at = Body.Span.IndexOf(quotedNameAndColon);
        return at >= 0 && Utf8Parser.TryParse(Body.Span[(at + quotedNameAndColon.Length)..], out long value, out _)
            ? value
            : null;
    }
}

/// <summary>
/// HTTP/1.1 over one kept-alive connection, one request at a time, from bytes made beforehand: the generator shares its
/// processors with what it measures, so it does as little as it can.
/// </summary>
internal sealed class HttpConnection : IDisposable
{
    private const int AnswerBytesMax = 256 << 10;
    private readonly byte[] _received = new byte[AnswerBytesMax];
    private readonly int _port;
    private Socket? _socket;

    public HttpConnection(int port) => _port = port;

    public void Dispose() => _socket?.Dispose();

    /// <exception cref="SocketException">The connection broke; the next call opens a new one.</exception>
    public async ValueTask<HttpAnswer> SendAsync(ReadOnlyMemory<byte> request)
    {
        if (_socket is null)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            await socket.ConnectAsync(IPAddress.Loopback, _port);
            _socket = socket;
        }

        try
        {
            for (ReadOnlyMemory<byte> rest = request; rest.Length > 0; )
            {
                rest = rest[await _socket.SendAsync(rest)..];
            }

            int length = 0;
            while (true)
            {
                int read = await _socket.ReceiveAsync(_received.AsMemory(length));
                if (read == 0)
                {
                    throw new SocketException((int)SocketError.ConnectionReset);
                }

                length += read;
                if (TryParse(_received.AsMemory(0, length), out HttpAnswer answer, out bool closes))
                {
                    if (closes)
                    {
                        Close();
                    }

                    return answer;
                }
            }
        }
        catch (SocketException)
        {
            Close();
            throw;
        }
    }

    private void Close()
    {
        _socket?.Dispose();
        _socket = null;
    }

    private static bool TryParse(ReadOnlyMemory<byte> received, out HttpAnswer answer, out bool closes)
    {
        (answer, closes) = (default, false);
        ReadOnlySpan<byte> bytes = received.Span;
        int headBytes = bytes.IndexOf("\r\n\r\n"u8);
        if (headBytes < 0)
        {
            return false;
        }

        ReadOnlySpan<byte> head = bytes[..(headBytes + 2)];
        ReadOnlyMemory<byte> body = received[(headBytes + 4)..];
        closes = head.IndexOf("\r\nConnection: close\r\n"u8) >= 0;
        if (head.IndexOf("\r\nTransfer-Encoding: chunked\r\n"u8) >= 0)
        {
            // Without pipelining nothing follows an answer, so the last chunk is what stands last.
            if (!body.Span.EndsWith("\r\n0\r\n\r\n"u8) && !body.Span.SequenceEqual("0\r\n\r\n"u8))
            {
                return false;
            }
        }
        else if (body.Length < Header(head, "\r\nContent-Length: "u8))
        {
            return false;
        }

        answer = new HttpAnswer(Header(head, "HTTP/1.1 "u8), Header(head, "\r\nRetry-After: "u8), body);
        return true;
    }

    private static int Header(ReadOnlySpan<byte> head, ReadOnlySpan<byte> name)
    {
        int at = head.IndexOf(name);
        return at >= 0 && Utf8Parser.TryParse(head[(at + name.Length)..], out int value, out _) ? value : 0;
    }
}
