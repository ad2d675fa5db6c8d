using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>An admin of an enterprise names addresses that this server asks: they must not lead it into its own network.</summary>
public sealed class ProviderConnectionsTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Theory]
    [InlineData("8.8.8.8", true)]
    [InlineData("203.0.114.1", true)]
    [InlineData("2606:4700::1111", true)]
    [InlineData("0.0.0.0", false)]
    [InlineData("10.1.2.3", false)]
    [InlineData("100.64.0.1", false)]
    [InlineData("127.0.0.1", false)]
    [InlineData("127.9.9.9", false)]
    [InlineData("169.254.169.254", false)]
    [InlineData("172.16.0.1", false)]
    [InlineData("172.31.255.255", false)]
    [InlineData("192.168.1.1", false)]
    [InlineData("198.18.0.1", false)]
    [InlineData("224.0.0.1", false)]
    [InlineData("255.255.255.255", false)]
    [InlineData("::", false)]
    [InlineData("::1", false)]
    [InlineData("::ffff:127.0.0.1", false)]
    [InlineData("::ffff:10.0.0.1", false)]
    [InlineData("::127.0.0.1", false)]
    [InlineData("64:ff9b::7f00:1", false)]
    [InlineData("2002:7f00:1::", false)]
    [InlineData("2001:0:7f00:1::", false)]
    [InlineData("fc00::1", false)]
    [InlineData("fd12:3456::1", false)]
    [InlineData("fe80::1", false)]
    [InlineData("fec0::1", false)]
    [InlineData("ff02::1", false)]
    public void Has_WhenGivenAnAddress_ShouldTellTheInternetFromAnOwnNetwork(string address, bool isPublic) =>
        Assert.Equal(isPublic, PublicNetwork.Has(IPAddress.Parse(address)));

    [Theory]
    [InlineData("https://127.0.0.1:{0}")]
    [InlineData("https://localhost:{0}")]
    [InlineData("https://[::1]:{0}")]
    [InlineData("https://2130706433:{0}")]
    [InlineData("https://0x7f.1:{0}")]
    [InlineData("https://127.0.0.1.:{0}")]
    public async Task GetDocument_WhenTheAddressIsPrivate_ShouldNotEvenConnect(string format)
    {
        using var listener = new TcpListener(IPAddress.IPv6Any, 0);
        listener.Server.DualMode = true;
        listener.Start();
        string address = string.Format(null, format, ((IPEndPoint)listener.LocalEndpoint).Port);
        using var connections = new ProviderConnections(Settings());

        ProviderException refused = await Assert.ThrowsAsync<ProviderException>(() =>
            connections.GetDocumentAsync(address, TestContext.Current.CancellationToken)
        );

        Assert.DoesNotContain("TLS", refused.Message, StringComparison.Ordinal);
        Assert.False(listener.Pending());
    }

    [Fact]
    public async Task Create_WhenTheIssuerIsNotHttps_ShouldRefuse()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpResponseMessage response = await CreateAsync(acme, "http://login.example/");

        await RunningServer.AssertProblemAsync(response, 400, "invalid_request");
    }

    [Fact]
    public async Task Test_WhenTheIssuerIsInsideTheNetwork_ShouldSayThatItIsNotOnTheInternet()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpResponseMessage created = await CreateAsync(acme, "https://localhost:9/");
        IdentityProviderResponse provider = await RunningServer.ReadAsync<IdentityProviderResponse>(
            created,
            HttpStatusCode.Created
        );

        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Post,
            $"{SignOnEnterprise.Path}/{provider.ProviderId}/test",
            acme.Admin.AccessToken
        );
        IdentityProviderTestResponse test = await RunningServer.ReadAsync<IdentityProviderTestResponse>(
            response,
            HttpStatusCode.OK
        );

        Assert.False(test.Ok);
        Assert.Equal("localhost is not on the internet.", test.Findings.Single().Detail);
    }

    [Fact]
    public async Task GetDocument_WhenItIsNoPlainAnswer_ShouldRefuse()
    {
        await using WebApplication app = await AnsweringAsync();
        using var connections = new ProviderConnections(
            Settings(("SingleSignOn:AllowInsecureIssuers", "true"), ("SingleSignOn:AllowPrivateIssuers", "true"))
        );
        string at = app.Urls.First();
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;

        Assert.Equal("{}", await connections.GetDocumentAsync(at + "/good", cancellationToken));
        foreach (
            (string path, string reason) in new[]
            {
                ("/redirect", "302"),
                ("/missing", "404"),
                ("/large", "more than"),
                ("/endless", "more than"),
                ("/charset", "cannot be read"),
            }
        )
        {
            ProviderException refused = await Assert.ThrowsAsync<ProviderException>(() =>
                connections.GetDocumentAsync(at + path, cancellationToken)
            );
            Assert.Contains(reason, refused.Message, StringComparison.Ordinal);
        }
    }

    private static async Task<WebApplication> AnsweringAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        WebApplication app = builder.Build();
        app.MapGet("/good", () => Results.Text("{}", "application/json"));
        app.MapGet("/redirect", () => Results.Redirect("/good"));
        app.MapGet("/large", () => Results.Bytes(new byte[ProviderConnections.AnswerBytesMax + 1]));
        app.MapGet("/charset", () => Results.Bytes("{}"u8.ToArray(), "application/json; charset=nonsense"));
        app.MapGet(
            "/endless",
            async (HttpContext context) =>
            {
                byte[] block = Encoding.ASCII.GetBytes(new string(' ', 64 * 1024));
                while (!context.RequestAborted.IsCancellationRequested)
                {
                    await context.Response.Body.WriteAsync(block, context.RequestAborted);
                }
            }
        );
        await app.StartAsync(TestContext.Current.CancellationToken);
        return app;
    }

    private Task<HttpResponseMessage> CreateAsync(Acme acme, string issuer) =>
        fixture.Server.SendAsync(
            HttpMethod.Post,
            SignOnEnterprise.Path,
            acme.Admin.AccessToken,
            System.Net.Http.Json.JsonContent.Create(
                new IdentityProviderRequest("A provider", issuer, "client", "", [$"a-{Guid.NewGuid():N}.example"])
            )
        );

    private static ServerSettings Settings(params (string Key, string Value)[] settings) =>
        ServerSettings.Load(
            new ConfigurationBuilder()
                .AddInMemoryCollection(settings.Select(pair => KeyValuePair.Create(pair.Key, (string?)pair.Value)))
                .Build()
        );
}
