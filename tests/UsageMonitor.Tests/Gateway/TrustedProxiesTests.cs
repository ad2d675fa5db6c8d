using System.Net;
using Npgsql;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Gateway;

/// <summary>Who is believed about a client's address and scheme; a key that is good from one network only tells which address counted.</summary>
public sealed class TrustedProxiesTests(Engines engines)
{
    private const string Inside = "203.0.113.9";
    private const string Outside = "198.51.100.9";

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(null, false)]
    [InlineData("10.0.0.0/8, 192.0.2.7/32", false)]
    [InlineData("127.0.0.1/32", true)]
    [InlineData("10.0.0.0/8,127.0.0.0/8", true)]
    public async Task ForwardedHeaders_WhenSent_ShouldBeBelievedOfTrustedProxiesOnly(string? trusted, bool believed)
    {
        await using RunningServer server = await StartAsync(trusted);
        string key = await KeyOfNetworkAsync(server);

        HttpStatusCode expected = believed ? HttpStatusCode.OK : HttpStatusCode.Forbidden;
        Assert.Equal(expected, await StatusAsync(server, key, Inside));
        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(server, key, Outside));

        using HttpResponseMessage page = await PageAsync(server);
        Assert.Equal(believed, page.Headers.Contains("Strict-Transport-Security"));
        Assert.StartsWith(
            believed ? "__Host-um_form=" : "um_form=",
            Assert.Single(page.Headers.GetValues("Set-Cookie")),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task ForwardedFor_WhenTheClientInventsAChain_ShouldCountTheAddressThatTheProxySaw()
    {
        await using RunningServer server = await StartAsync("127.0.0.0/8,192.0.2.0/24");
        string key = await KeyOfNetworkAsync(server);

        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(server, key, $"{Inside}, {Outside}"));
        Assert.Equal(HttpStatusCode.OK, await StatusAsync(server, key, $"{Outside}, {Inside}"));

        // Two trusted proxies in a row: what the outer one saw.
        Assert.Equal(HttpStatusCode.OK, await StatusAsync(server, key, $"{Outside}, {Inside}, 192.0.2.1"));
        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(server, key, $"{Inside}, {Outside}, 192.0.2.1"));
        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(server, key, "not an address"));
    }

    [Fact]
    public async Task Gateway_WhenItForwards_ShouldPassOnTheClientsAddressAndScheme()
    {
        await using RunningServer service = await StartAsync("127.0.0.1/32");
        string address = service.Client.BaseAddress!.ToString();
        await using RunningServer gateway = await RunningServer.StartAsync(
            engines,
            service.Database,
            ("Roles", "gateway"),
            ("TrustedProxies", "127.0.0.1/32"),
            ("Gateway:Services:identity", address),
            ("Gateway:Services:dashboard", address)
        );
        string key = await KeyOfNetworkAsync(service);

        Assert.Equal(HttpStatusCode.OK, await StatusAsync(gateway, key, Inside));
        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(gateway, key, Outside));
        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(gateway, key, $"{Inside}, {Outside}"));
        using HttpResponseMessage page = await PageAsync(gateway);
        Assert.StartsWith(
            "__Host-um_form=",
            Assert.Single(page.Headers.GetValues("Set-Cookie")),
            StringComparison.Ordinal
        );

        // What both of them say is said once.
        foreach (string header in new[] { "Strict-Transport-Security", "Content-Security-Policy", "X-Frame-Options" })
        {
            Assert.Single(page.Headers.GetValues(header));
        }
    }

    private Task<RunningServer> StartAsync(string? trusted) =>
        RunningServer.StartAsync(engines, trusted is null ? [] : [("TrustedProxies", trusted)]);

    private static async Task<string> KeyOfNetworkAsync(RunningServer server)
    {
        Acme acme = await Acme.CreateAsync(server);
        await using var owner = NpgsqlDataSource.Create(server.Database.OwnerConnectionString);
        await using NpgsqlCommand narrow = owner.CreateCommand("UPDATE api_keys SET networks = '{203.0.113.0/24}'");
        Assert.Equal(1, await narrow.ExecuteNonQueryAsync(Cancelled));
        return acme.ApiKey;
    }

    private static async Task<HttpStatusCode> StatusAsync(RunningServer server, string key, string forwardedFor)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/auth/validate");
        request.Headers.Add("Authorization", "Bearer " + key);
        request.Headers.Add("X-Forwarded-For", forwardedFor);
        using HttpResponseMessage response = await server.Client.SendAsync(request, Cancelled);
        return response.StatusCode;
    }

    /// <summary>Asks as a proxy would that has done TLS.</summary>
    private static async Task<HttpResponseMessage> PageAsync(RunningServer server)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/sign-in");
        request.Headers.Add("X-Forwarded-Proto", "https");
        request.Headers.Add("X-Forwarded-For", Inside);
        request.Headers.Add("X-Forwarded-Host", "usage.example");
        return await server.Client.SendAsync(request, Cancelled);
    }
}
