using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>One answer, read whole; of a stream only the beginning of its headers.</summary>
internal sealed record Answer(int Status, string Body, string? MediaType, string Headers)
{
    /// <summary>The problem's code, or null.</summary>
    public string? Code
    {
        get
        {
            if (MediaType != "application/problem+json")
            {
                return null;
            }

            using var problem = JsonDocument.Parse(Body);
            return problem.RootElement.TryGetProperty("code", out JsonElement code) ? code.GetString() : null;
        }
    }

    public bool IsSuccess => Status is >= 200 and < 300;

    public string? Header(string name) =>
        Headers
            .Split('\n')
            .FirstOrDefault(line => line.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase))
            ?[(name.Length + 1)..].Trim();

    public override string ToString() => $"{Status} {Code} {Body[..Math.Min(Body.Length, 300)]}";
}

/// <summary>Sends requests just as written: no redirect, no cookie jar, and paths that nobody tidies up.</summary>
internal sealed partial class Knocking : IDisposable
{
    private const int BodyBytesSentUnasked = 16 * 1024;
    private readonly HttpClient _client;
    private readonly Uri _address;

    public Knocking(Uri address)
    {
        _address = address;
        _client = new HttpClient(
            new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                UseCookies = false,
                MaxConnectionsPerServer = 32,
                RequestHeaderEncodingSelector = (_, _) => Encoding.UTF8,
            }
        )
        {
            Timeout = TimeSpan.FromSeconds(60),
        };
    }

    public async Task<Answer> SendAsync(
        string method,
        string path,
        HttpContent? content,
        params IEnumerable<(string Name, string Value)> headers
    )
    {
        var address = new Uri(
            _address.GetLeftPart(UriPartial.Authority) + path,
            new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }
        );
        using var request = new HttpRequestMessage(new HttpMethod(method), address) { Content = content };

        // A server that refuses a large body need not read it, and cuts the connection; the client asks first.
        request.Headers.ExpectContinue = content?.Headers.ContentLength > BodyBytesSentUnasked;
        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        using HttpResponseMessage response = await _client.SendAsync(
            request,
            HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken
        );
        string? mediaType = response.Content.Headers.ContentType?.MediaType;
        string body =
            mediaType == "text/event-stream"
                ? ""
                : await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        return new Answer(
            (int)response.StatusCode,
            body,
            mediaType,
            response.Headers.ToString() + response.Content.Headers.ToString()
        );
    }

    /// <summary>A value of the antiforgery cookie and of the form's field that go together.</summary>
    public async Task<(string Cookie, string Token)> AntiforgeryAsync()
    {
        Answer page = await SendAsync("GET", "/sign-in", null, [("Accept", "text/html")]);
        Assert.Equal((int)HttpStatusCode.OK, page.Status);
        string cookie = page.Header("Set-Cookie")!.Split(';')[0];
        return (cookie, FormToken().Match(page.Body).Groups[1].Value);
    }

    public static HttpContent Json(string json) => new StringContent(json, Encoding.UTF8, "application/json");

    public void Dispose() => _client.Dispose();

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();
}
