using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Gateway;

/// <summary>HTTPS with a certificate of one's own, over real connections.</summary>
public sealed partial class TlsTests(Engines engines) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("usage-monitor-tls-").FullName;
    private readonly TestCertificate _first = new("first");
    private readonly TestCertificate _second = new("second");

    private string CertificateFile => Path.Combine(_folder, "chain.pem");

    private string KeyFile => Path.Combine(_folder, "key.pem");

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Https_WhenACertificateIsGiven_ShouldSendItsChainAndSpeakNothingOlderThanTls12()
    {
        Write(_first);
        await using RunningServer server = await StartAsync();
        using HttpClient client = Trusting(_first);

        using HttpResponseMessage response = await client.GetAsync(
            new Uri(server.Client.BaseAddress!, "/health/live"),
            Cancelled
        );

        Assert.Equal(Uri.UriSchemeHttps, server.Client.BaseAddress!.Scheme);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(["max-age=31536000; includeSubDomains"], response.Headers.GetValues("Strict-Transport-Security"));
        foreach (SslProtocols protocol in new[] { SslProtocols.Tls12, SslProtocols.Tls13 })
        {
            await using SslStream accepted = await HandshakeAsync(server, protocol);
            Assert.Equal(protocol, accepted.SslProtocol);
        }

#pragma warning disable CA5397, SYSLIB0039 // what must be refused
        await Assert.ThrowsAnyAsync<Exception>(() => HandshakeAsync(server, SslProtocols.Tls11));
#pragma warning restore CA5397, SYSLIB0039
        using var plain = new HttpClient();
        await Assert.ThrowsAsync<HttpRequestException>(() =>
            plain.GetAsync(new Uri($"http://127.0.0.1:{server.Client.BaseAddress!.Port}/health/live"), Cancelled)
        );
    }

    [Fact]
    public async Task Https_WhenTheFilesChange_ShouldUseTheNewOnesAndKeepOpenConnections()
    {
        Write(_first);
        await using RunningServer server = await StartAsync();
        await using SslStream open = await HandshakeAsync(server, SslProtocols.None);
        Assert.Equal("CN=first", open.RemoteCertificate!.Subject);
        Assert.Equal("HTTP/1.1 200", await RequestAsync(open));

        Write(_second);
        await Eventually.TrueAsync(
            async () =>
            {
                await using SslStream another = await HandshakeAsync(server, SslProtocols.None);
                return another.RemoteCertificate!.Subject == "CN=second";
            },
            "a new connection gets the new certificate"
        );

        Assert.Equal("HTTP/1.1 200", await RequestAsync(open));
    }

    [Fact]
    public async Task Plain_WhenItRedirects_ShouldOnlyLeadToHttps()
    {
        Write(_first);
        await using RunningServer server = await StartAsync(("Tls:RedirectFromPort", "0"));
        Uri plain = new(
            server
                .Services.GetRequiredService<IServer>()
                .Features.Get<IServerAddressesFeature>()!
                .Addresses.Single(address => address.StartsWith("http://", StringComparison.Ordinal))
        );
        using var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false });

        foreach (string path in new[] { "/", "/v1/usage/events?a=b%20c", "/health/live" })
        {
            using HttpResponseMessage response = await client.PostAsync(
                new Uri(plain, path),
                JsonContent.Create(new { secret = 1 }),
                Cancelled
            );
            Assert.Equal(HttpStatusCode.PermanentRedirect, response.StatusCode);
            Assert.Equal(
                $"https://127.0.0.1:{server.Client.BaseAddress!.Port}{path}",
                response.Headers.Location!.AbsoluteUri
            );
            Assert.False(response.Headers.Contains("Strict-Transport-Security"));
        }
    }

    [Fact]
    public async Task Plain_WhenThePublicPortIsTheUsualOne_ShouldLeadThere()
    {
        Write(_first);
        await using RunningServer server = await StartAsync(("Tls:RedirectFromPort", "0"), ("Tls:PublicPort", "443"));
        Uri plain = new(
            server
                .Services.GetRequiredService<IServer>()
                .Features.Get<IServerAddressesFeature>()!
                .Addresses.Single(address => address.StartsWith("http://", StringComparison.Ordinal))
        );
        using var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false });

        using HttpResponseMessage response = await client.GetAsync(new Uri(plain, "/x"), Cancelled);

        Assert.Equal("https://127.0.0.1/x", response.Headers.Location!.AbsoluteUri);
    }

    [Fact]
    public async Task Cookies_WhenSetOverHttps_ShouldBeOfThisHostOnlyAndCountOnlyThere()
    {
        Write(_first);
        await using RunningServer server = await StartAsync();
        using HttpClient client = Trusting(_first);
        client.BaseAddress = server.Client.BaseAddress;

        using HttpResponseMessage page = await client.GetAsync("/sign-in", Cancelled);
        string formCookie = Assert.Single(page.Headers.GetValues("Set-Cookie"));
        AssertHostOnly(formCookie, "__Host-um_form", "samesite=strict");
        string token = FormToken().Match(await page.Content.ReadAsStringAsync(Cancelled)).Groups[1].Value;

        using HttpResponseMessage signedIn = await PostFormAsync(formCookie.Split(';')[0]);
        Assert.Equal(HttpStatusCode.SeeOther, signedIn.StatusCode);
        string session = Assert.Single(signedIn.Headers.GetValues("Set-Cookie"));
        AssertHostOnly(session, "__Host-um_session", "samesite=lax");

        string value = session.Split(';')[0].Split('=', 2)[1];
        Assert.Equal(HttpStatusCode.OK, await WithCookieAsync($"__Host-um_session={value}"));
        Assert.Equal(HttpStatusCode.Unauthorized, await WithCookieAsync($"um_session={value}"));

        // Nor does the plain form cookie, which a network attacker could have set, make a form good.
        using HttpResponseMessage refused = await PostFormAsync("um_form=" + formCookie.Split(';')[0].Split('=', 2)[1]);
        Assert.Equal(HttpStatusCode.BadRequest, refused.StatusCode);

        Task<HttpResponseMessage> PostFormAsync(string cookie)
        {
            var request = new HttpRequestMessage(HttpMethod.Post, "/sign-in")
            {
                Content = new FormUrlEncodedContent([
                    new("email", RunningServer.OperatorEmail),
                    new("password", RunningServer.OperatorPassword),
                    new("_form", token),
                ]),
            };
            request.Headers.Add("Cookie", cookie);
            request.Headers.Add("Sec-Fetch-Site", "same-origin");
            return client.SendAsync(request, Cancelled);
        }

        async Task<HttpStatusCode> WithCookieAsync(string cookie)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/auth/validate");
            request.Headers.Add("Cookie", cookie);
            using HttpResponseMessage response = await client.SendAsync(request, Cancelled);
            return response.StatusCode;
        }
    }

    [Fact]
    public async Task Https_WhenTheCertificateIsAPfxOrItsKeyIsEncrypted_ShouldOpenItWithThePassword()
    {
        string pfx = Path.Combine(_folder, "own.pfx");
        File.WriteAllBytes(pfx, _first.Pfx("pfx password"));
        await using (
            RunningServer server = await RunningServer.StartAsync(
                engines,
                ("Tls:Certificate", pfx),
                ("Tls:Password", "pfx password")
            )
        )
        {
            using HttpClient client = Trusting(_first);
            await client.GetAsync(new Uri(server.Client.BaseAddress!, "/health/live"), Cancelled);
        }

        File.WriteAllText(CertificateFile, _second.ChainPem);
        File.WriteAllText(KeyFile, _second.EncryptedKeyPem("key password"));
        await using (RunningServer server = await StartAsync(("Tls:Password", "key password")))
        {
            using HttpClient client = Trusting(_second);
            await client.GetAsync(new Uri(server.Client.BaseAddress!, "/health/live"), Cancelled);
        }
    }

    [Fact]
    public void Settings_WhenTheCertificateCannotBeUsed_ShouldSayWhyWithAllOtherErrors()
    {
        File.WriteAllText(CertificateFile, _first.ChainPem);
        File.WriteAllText(KeyFile, _second.KeyPem);
        string[] errors =
        [
            Error(("Tls:Certificate", "/nonexistent/chain.pem")),
            Error(("Tls:Certificate", CertificateFile)),
            Error(("Tls:Certificate", CertificateFile), ("Tls:Key", KeyFile)),
            Error(("Tls:Key", KeyFile)),
            Error(("TrustedProxies", "10.0.0.0/8, proxy.example")),
        ];

        Assert.Contains("/nonexistent/chain.pem cannot be read", errors[0], StringComparison.Ordinal);
        Assert.Contains("cannot be used", errors[1], StringComparison.Ordinal);
        Assert.Contains("cannot be used", errors[2], StringComparison.Ordinal);
        Assert.Contains("Tls:Key: needs Tls:Certificate", errors[3], StringComparison.Ordinal);
        Assert.Contains("'proxy.example' is not a network", errors[4], StringComparison.Ordinal);
        Assert.All(errors, error => Assert.Contains("Port: 'x'", error, StringComparison.Ordinal));

        static string Error(params (string Key, string Value)[] settings) =>
            Assert
                .Throws<SettingsException>(() =>
                    ServerSettings.Load(
                        new ConfigurationBuilder()
                            .AddInMemoryCollection([
                                new("Port", "x"),
                                .. settings.Select(one => new KeyValuePair<string, string?>(one.Key, one.Value)),
                            ])
                            .Build()
                    )
                )
                .Message;
    }

    private void Write(TestCertificate certificate)
    {
        File.WriteAllText(CertificateFile, certificate.ChainPem);
        File.WriteAllText(KeyFile, certificate.KeyPem);
    }

    private Task<RunningServer> StartAsync(params (string Key, string Value)[] settings) =>
        RunningServer.StartAsync(engines, [("Tls:Certificate", CertificateFile), ("Tls:Key", KeyFile), .. settings]);

    private static void AssertHostOnly(string cookie, string name, string sameSite)
    {
        Assert.StartsWith(name + "=", cookie, StringComparison.Ordinal);
        string[] attributes = cookie.ToLowerInvariant().Split("; ");
        Assert.Contains("secure", attributes);
        Assert.Contains("httponly", attributes);
        Assert.Contains("path=/", attributes);
        Assert.Contains(sameSite, attributes);
        Assert.DoesNotContain(attributes, attribute => attribute.StartsWith("domain=", StringComparison.Ordinal));
    }

    // Trusts the root and nothing else, and does not fetch what the server should have sent.
    private static HttpClient Trusting(TestCertificate certificate)
    {
        var policy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        };
        policy.CustomTrustStore.Add(certificate.Root);
        return new HttpClient(
            new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                UseCookies = false,
                SslOptions = new SslClientAuthenticationOptions { CertificateChainPolicy = policy },
            }
        );
    }

    private static async Task<SslStream> HandshakeAsync(RunningServer server, SslProtocols protocol)
    {
        var socket = new TcpClient();
        await socket.ConnectAsync(IPAddress.Loopback, server.Client.BaseAddress!.Port, Cancelled);
        var stream = new SslStream(socket.GetStream());
        try
        {
            await stream.AuthenticateAsClientAsync(
                new SslClientAuthenticationOptions
                {
                    TargetHost = "127.0.0.1",
                    EnabledSslProtocols = protocol,
#pragma warning disable CA5359 // whose it is, the test looks at itself
                    RemoteCertificateValidationCallback = (_, _, _, _) => true,
#pragma warning restore CA5359
                },
                Cancelled
            );
            return stream;
        }
        catch
        {
            await stream.DisposeAsync();
            throw;
        }
    }

    private static async Task<string> RequestAsync(SslStream stream)
    {
        await stream.WriteAsync("GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"u8.ToArray(), Cancelled);
        byte[] answer = new byte[4096];
        string text = "";

        // The whole answer, in however many records it comes: what is left of it would be taken for the next one's.
        do
        {
            int length = await stream.ReadAsync(answer, Cancelled);
            Assert.True(length > 0, $"The connection was closed after: {text}");
            text += Encoding.ASCII.GetString(answer, 0, length);
        } while (!IsWhole(text));

        return text[..12];
    }

    private static bool IsWhole(string answer)
    {
        int end = answer.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        Match length = ContentLength().Match(answer);
        return end > 0
            && (
                length.Success
                    ? answer.Length >= end + 4 + int.Parse(length.Groups[1].Value, CultureInfo.InvariantCulture)
                    : answer.EndsWith("0\r\n\r\n", StringComparison.Ordinal)
            );
    }

    [GeneratedRegex("^Content-Length: (\\d+)", RegexOptions.Multiline | RegexOptions.IgnoreCase)]
    private static partial Regex ContentLength();

    [GeneratedRegex("name=\"_form\"[^>]*value=\"([^\"]+)\"")]
    private static partial Regex FormToken();
}
