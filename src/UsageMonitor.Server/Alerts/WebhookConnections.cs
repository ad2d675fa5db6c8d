using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary>A webhook's address is not one that this server goes to; the message is for an admin.</summary>
internal sealed class WebhookRefusedException(string message) : Exception(message);

/// <summary>A signed message to a webhook.</summary>
/// <param name="Url">Where.</param>
/// <param name="Id"><c>webhook-id</c>: the same for every attempt.</param>
/// <param name="SentAt"><c>webhook-timestamp</c>.</param>
/// <param name="Secrets">What it is signed with, the newest first.</param>
/// <param name="Body">JSON.</param>
internal sealed record SignedMessage(
    string Url,
    string Id,
    DateTimeOffset SentAt,
    IReadOnlyList<byte[]> Secrets,
    byte[] Body
);

/// <summary>
/// The only way out to webhooks. Their addresses come from admins of enterprises, so this server must not be led by them into its own
/// network: where a connection really goes is looked at when it is made, so a name that changes its address in between gains nothing;
/// there are no redirects, no proxy, no cookies, and limits on time and size. Nothing of an answer but its status is kept or shown.
/// </summary>
internal sealed class WebhookConnections : IDisposable
{
    public const int UrlCharactersMax = 2_000;
    public static readonly TimeSpan AttemptTimeMax = TimeSpan.FromSeconds(10);
    private const int AnswerHeadersKilobytesMax = 16;
    private const int AnswerBytesMax = 16 * 1024;
    private const int ConnectionsPerServerMax = 16;
    private static readonly TimeSpan AnswerReadTimeMax = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan ConnectionLifetime = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan ConnectionIdleTimeMax = TimeSpan.FromSeconds(30);

    private readonly bool _allowsPrivate;
    private readonly HttpClient _client;

    public WebhookConnections(ServerSettings settings)
    {
        _allowsPrivate = settings.AllowPrivateWebhooks;
        _client = new HttpClient(
            new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                UseProxy = false,
                UseCookies = false,
                ActivityHeadersPropagator = null,
                ConnectCallback = ConnectAsync,
                ConnectTimeout = AttemptTimeMax,
                MaxConnectionsPerServer = ConnectionsPerServerMax,
                MaxResponseHeadersLength = AnswerHeadersKilobytesMax,
                MaxResponseDrainSize = AnswerBytesMax,
                ResponseDrainTimeout = AnswerReadTimeMax,
                PooledConnectionLifetime = ConnectionLifetime,
                PooledConnectionIdleTimeout = ConnectionIdleTimeMax,
            }
        )
        {
            Timeout = AttemptTimeMax,
        };
    }

    /// <summary>The addresses of a name; asked once for each connection, so that what is looked at is what is gone to.</summary>
    public Func<string, CancellationToken, Task<IPAddress[]>> Resolve { get; init; } = Dns.GetHostAddressesAsync;

    /// <summary>What is wrong with an address, as far as it can be told without going there; null when nothing is.</summary>
    public string? Fault(string? url)
    {
        if (
            url is null
            || url.Length > UrlCharactersMax
            || url.Any(character => char.IsControl(character) || char.IsWhiteSpace(character))
            || !Uri.TryCreate(url, UriKind.Absolute, out Uri? uri)
            || (uri.Scheme != Uri.UriSchemeHttps && uri.Scheme != Uri.UriSchemeHttp)
            || uri.Host.Length == 0
        )
        {
            return $"must be an address such as https://hooks.example.com/usage, of {UrlCharactersMax} characters at most";
        }

        if (uri.UserInfo.Length > 0 || uri.Fragment.Length > 0)
        {
            return "must have no user, password or fragment";
        }

        if (uri.Scheme == Uri.UriSchemeHttp && !_allowsPrivate)
        {
            return "must begin with https://";
        }

        return IPAddress.TryParse(uri.IdnHost.Trim('[', ']'), out IPAddress? address) && !IsAllowed(uri, address)
            ? NotAllowed(uri)
            : null;
    }

    /// <summary>Posts a message; any answer is an answer.</summary>
    /// <returns>The status, and how long the receiver asks to be left alone.</returns>
    /// <exception cref="WebhookRefusedException">This server does not go there.</exception>
    /// <exception cref="HttpRequestException">There is no answer.</exception>
    /// <exception cref="OperationCanceledException">There is none in time, or the caller has ended.</exception>
    public async Task<(int Status, RetryConditionHeaderValue? RetryAfter)> PostAsync(
        SignedMessage message,
        CancellationToken cancellationToken
    )
    {
        if (Fault(message.Url) is { } fault)
        {
            throw new WebhookRefusedException("The address " + fault);
        }

        long timestamp = message.SentAt.ToUnixTimeSeconds();
        using var content = new ByteArrayContent(message.Body);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        using var request = new HttpRequestMessage(HttpMethod.Post, message.Url) { Content = content };
        request.Headers.Add("webhook-id", message.Id);
        request.Headers.Add("webhook-timestamp", timestamp.ToString(CultureInfo.InvariantCulture));
        request.Headers.Add(
            "webhook-signature",
            WebhookSignature.Sign(message.Secrets, message.Id, timestamp, message.Body)
        );
        request.Headers.UserAgent.ParseAdd("UsageMonitor-Webhooks/1");
        try
        {
            using HttpResponseMessage response = await _client.SendAsync(
                request,
                HttpCompletionOption.ResponseHeadersRead,
                cancellationToken
            );
            return ((int)response.StatusCode, response.Headers.RetryAfter);
        }
        catch (HttpRequestException exception) when (exception.InnerException is WebhookRefusedException refused)
        {
            throw refused;
        }
    }

    public void Dispose() => _client.Dispose();

    private async ValueTask<Stream> ConnectAsync(
        SocketsHttpConnectionContext context,
        CancellationToken cancellationToken
    )
    {
        Uri uri = context.InitialRequestMessage.RequestUri!;
        IPAddress[] found = await Resolve(context.DnsEndPoint.Host, cancellationToken);
        IPAddress[] allowed = [.. found.Where(address => IsAllowed(uri, address))];
        if (allowed.Length == 0)
        {
            throw new WebhookRefusedException("The address " + NotAllowed(uri));
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

    // What leaves for the internet leaves encrypted, also where one's own network is allowed.
    private bool IsAllowed(Uri uri, IPAddress address) =>
        PublicNetwork.Has(address) ? uri.Scheme == Uri.UriSchemeHttps : _allowsPrivate;

    private static string NotAllowed(Uri uri) =>
        uri.Scheme == Uri.UriSchemeHttp ? "must begin with https://" : "is not on the internet";
}
