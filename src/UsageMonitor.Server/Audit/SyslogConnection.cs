using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary>
/// Syslog over TLS (RFC 5424, 5425): messages in frames that count their octets. Syslog acknowledges nothing, so a batch has its own
/// connection: a receiver that has read all of it answers the end of it with its own (RFC 5425, 4.4), and that is what is waited for.
/// </summary>
internal sealed class SyslogConnection(ServerSettings settings)
{
    public static readonly TimeSpan BatchTimeMax = TimeSpan.FromSeconds(20);
    private const int HostCharactersMax = 253;
    private const string StructuredDataId = "audit@32473"; // of RFC 5612: a number for whoever has none
    private const int AuditFacility = 13;
    private static readonly byte[] s_byteOrderMark = [0xEF, 0xBB, 0xBF];

    public static bool TryRead(string? address, out string host, out int port)
    {
        (host, port) = ("", 0);
        string text = address?.Trim() ?? "";
        int colon = text.LastIndexOf(':');
        if (
            colon < 1
            || !int.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out port)
            || port is < 1 or > 65_535
        )
        {
            return false;
        }

        host = text[..colon].Trim('[', ']');
        return host.Length <= HostCharactersMax && Uri.CheckHostName(host) != UriHostNameType.Unknown;
    }

    /// <summary>Sends a batch; returns when the receiver has taken it.</summary>
    /// <exception cref="IOException">It has not, or does not answer, or is not whom the certificate says.</exception>
    public async Task SendAsync(
        DestinationSettings destination,
        IReadOnlyList<AuditRecord> records,
        CancellationToken cancellationToken
    )
    {
        if (!TryRead(destination.Address, out string host, out int port))
        {
            throw new IOException("the address is none");
        }

        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        timeout.CancelAfter(BatchTimeMax);
        try
        {
            await SendAsync(host, port, destination.Certificate, records, timeout.Token);
        }
        catch (SocketException exception)
        {
            throw new IOException("it cannot be reached", exception);
        }
        catch (AuthenticationException exception)
        {
            throw new IOException("no TLS connection: its certificate may not be valid", exception);
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            throw new IOException($"no answer within {BatchTimeMax.TotalSeconds:0} s", exception);
        }
    }

    private async Task SendAsync(
        string host,
        int port,
        string? certificate,
        IReadOnlyList<AuditRecord> records,
        CancellationToken cancellationToken
    )
    {
        // Looked at when the connection is made: a name that changes its address in between gains nothing.
        IPAddress[] allowed =
        [
            .. (await Dns.GetHostAddressesAsync(host, cancellationToken)).Where(address =>
                settings.AllowPrivateWebhooks || PublicNetwork.Has(address)
            ),
        ];
        if (allowed.Length == 0)
        {
            throw new IOException("the address is not on the internet");
        }

        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(allowed, port, cancellationToken);
        await using var network = new NetworkStream(socket, ownsSocket: false);
        await using var watched = new EndSeeingStream(network);
        await using var tls = new SslStream(watched);
        using X509Certificate2? authority = certificate is null ? null : X509Certificate2.CreateFromPem(certificate);
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = host,
            EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
        };
        if (authority is not null)
        {
            options.CertificateChainPolicy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            options.CertificateChainPolicy.CustomTrustStore.Add(authority);
        }

        await tls.AuthenticateAsClientAsync(options, cancellationToken);
        foreach (AuditRecord record in records)
        {
            await tls.WriteAsync(Frame(record), cancellationToken);
        }

        await tls.FlushAsync(cancellationToken);
        await tls.ShutdownAsync();
        byte[] ignored = new byte[256];
        while (await tls.ReadAsync(ignored, cancellationToken) > 0)
        {
            // Whatever it says; its end is what counts.
        }

        if (watched.HasEnded)
        {
            throw new IOException("it has ended the connection without saying that it took everything");
        }
    }

    /// <summary>A message of RFC 5424 in a frame of RFC 5425.</summary>
    internal static byte[] Frame(AuditRecord record)
    {
        AuditColumns columns = record.Columns;
        int severity =
            columns.Outcome == AuditEntry.Done ? 6
            : columns.Outcome == AuditEntry.Failed ? 5
            : 4;
        string header = string.Create(
            CultureInfo.InvariantCulture,
            $"<{(AuditFacility * 8) + severity}>1 {columns.OccurredAt} - usage-monitor - audit [{StructuredDataId} enterpriseId=\"{columns.EnterpriseId}\" sequence=\"{columns.Sequence}\" previousHash=\"{Convert.ToHexStringLower(record.PreviousHash)}\" hash=\"{Convert.ToHexStringLower(record.Hash)}\"] "
        );
        byte[] message =
        [
            .. Encoding.ASCII.GetBytes(header),
            .. s_byteOrderMark,
            .. Encoding.UTF8.GetBytes(AuditLines.Json(record)),
        ];
        return [.. Encoding.ASCII.GetBytes(message.Length.ToString(CultureInfo.InvariantCulture) + " "), .. message];
    }
}
