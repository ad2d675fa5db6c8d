using System.Net;
using System.Net.Sockets;
using Microsoft.IdentityModel.Protocols;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>A provider cannot be used at the moment, or not as it is set up; the message is for an admin and holds no secret.</summary>
internal sealed class ProviderException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// The only way out to OpenID providers. Their addresses come from admins of enterprises, so this server must not be led by
/// them into its own network: where a connection really goes is looked at when it is made, so a name that changes its
/// address in between gains nothing; there are no redirects, no proxy, no cookies, and limits on time and size.
/// </summary>
internal sealed class ProviderConnections : IDocumentRetriever, IDisposable
{
    public const int AnswerBytesMax = 512 * 1024;
    private const int AnswerHeadersKilobytesMax = 32;
    private const int ConnectionsPerProviderMax = 8;
    private static readonly TimeSpan ConnectTimeMax = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan AnswerTimeMax = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan ConnectionLifetime = TimeSpan.FromMinutes(2);

    private readonly ServerSettings _settings;
    private readonly HttpClient _client;

    public ProviderConnections(ServerSettings settings)
    {
        _settings = settings;
        _client = new HttpClient(
            new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                UseProxy = false,
                UseCookies = false,
                ConnectCallback = ConnectAsync,
                ConnectTimeout = ConnectTimeMax,
                MaxConnectionsPerServer = ConnectionsPerProviderMax,
                MaxResponseHeadersLength = AnswerHeadersKilobytesMax,
                PooledConnectionLifetime = ConnectionLifetime,
            }
        )
        {
            Timeout = AnswerTimeMax,
            MaxResponseContentBufferSize = AnswerBytesMax,
        };
    }

    /// <summary>Whether an address may be asked or browsers sent to at all.</summary>
    public bool IsAllowed(string? address) =>
        Uri.TryCreate(address, UriKind.Absolute, out Uri? uri)
        && uri.UserInfo.Length == 0
        && (uri.Scheme == Uri.UriSchemeHttps || (_settings.AllowInsecureIssuers && uri.Scheme == Uri.UriSchemeHttp));

    /// <summary>Fetches a document of a provider.</summary>
    /// <exception cref="ProviderException">It cannot be had.</exception>
    public async Task<string> GetDocumentAsync(string address, CancellationToken cancel)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, Checked(address));
        (HttpStatusCode status, string text) = await SendAsync(request, cancel);
        return status == HttpStatusCode.OK
            ? text
            : throw new ProviderException($"{address} answered with {(int)status}; 200 was expected.");
    }

    /// <summary>Sends a form to a provider; the answer's status may be any.</summary>
    /// <exception cref="ProviderException">There is no answer.</exception>
    public async Task<(HttpStatusCode Status, string Text)> PostAsync(
        string address,
        FormUrlEncodedContent form,
        string? authorization,
        CancellationToken cancellationToken
    )
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Checked(address)) { Content = form };
        request.Headers.TryAddWithoutValidation("Authorization", authorization);
        return await SendAsync(request, cancellationToken);
    }

    public void Dispose() => _client.Dispose();

    private Uri Checked(string address) =>
        IsAllowed(address) ? new Uri(address) : throw new ProviderException($"'{address}' is not an https address.");

    private async Task<(HttpStatusCode, string)> SendAsync(
        HttpRequestMessage request,
        CancellationToken cancellationToken
    )
    {
        request.Headers.TryAddWithoutValidation("Accept", "application/json");
        try
        {
            using HttpResponseMessage response = await _client.SendAsync(request, cancellationToken);
            return (response.StatusCode, await response.Content.ReadAsStringAsync(cancellationToken));
        }
        catch (HttpRequestException exception)
        {
            throw new ProviderException(Explain(request, exception), exception);
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            string late = $"{request.RequestUri!.Host} did not answer within {AnswerTimeMax.TotalSeconds:0} s.";
            throw new ProviderException(late, exception);
        }
        catch (InvalidOperationException exception)
        {
            // The answer names a character set that does not exist.
            throw new ProviderException($"{request.RequestUri!.Host} answered what cannot be read.", exception);
        }
    }

    private static string Explain(HttpRequestMessage request, HttpRequestException exception)
    {
        string host = request.RequestUri!.Host;
        return exception switch
        {
            { InnerException: ProviderException refused } => refused.Message,
            { HttpRequestError: HttpRequestError.NameResolutionError } => $"The name {host} cannot be resolved.",
            { HttpRequestError: HttpRequestError.SecureConnectionError } =>
                $"There is no TLS connection to {host}; its certificate may not be valid.",
            { HttpRequestError: HttpRequestError.ConfigurationLimitExceeded } =>
                $"{host} answered with more than {AnswerBytesMax / 1024} KB.",
            _ => $"{host} cannot be reached.",
        };
    }

    private async ValueTask<Stream> ConnectAsync(
        SocketsHttpConnectionContext context,
        CancellationToken cancellationToken
    )
    {
        IPAddress[] found;
        try
        {
            found = await Dns.GetHostAddressesAsync(context.DnsEndPoint.Host, cancellationToken);
        }
        catch (SocketException exception)
        {
            throw new ProviderException($"The name {context.DnsEndPoint.Host} cannot be resolved.", exception);
        }

        IPAddress[] allowed = _settings.AllowPrivateIssuers ? found : [.. found.Where(PublicNetwork.Has)];
        if (allowed.Length == 0)
        {
            throw new ProviderException($"{context.DnsEndPoint.Host} is not on the internet.");
        }

        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(allowed, context.DnsEndPoint.Port, cancellationToken);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
