using System.Net;
using UsageMonitor.Server.Alerts;
using Xunit;

namespace UsageMonitor.Tests.Alerts;

/// <summary>Names of webhooks are the customer's to point anywhere, and to point elsewhere once they have been looked at.</summary>
public sealed class WebhookNameTests
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("10.1.2.3")]
    [InlineData("172.16.0.1")]
    [InlineData("192.168.1.1")]
    [InlineData("100.64.0.1")]
    [InlineData("169.254.169.254")]
    [InlineData("0.0.0.0")]
    [InlineData("::1")]
    [InlineData("fd12::1")]
    [InlineData("fe80::1")]
    [InlineData("::ffff:10.0.0.1")]
    [InlineData("64:ff9b::7f00:1")]
    public async Task PostAsync_WhenANameLeadsIntoOnesOwnNetwork_ShouldNotGoThere(string address)
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        var names = new Names(IPAddress.Parse(address));
        using WebhookConnections connections = names.Connections();
        string url = $"https://hooks.customer.example:{receiver.Port}/";
        Assert.Null(connections.Fault(url)); // the name says nothing

        WebhookRefusedException refused = await Assert.ThrowsAsync<WebhookRefusedException>(() =>
            connections.PostAsync(Message(url), Stop)
        );

        Assert.Equal("The address is not on the internet", refused.Message);
        Assert.Empty(receiver.Posts);
        Assert.Equal(1, names.Asked);
    }

    [Fact]
    public async Task PostAsync_WhenANameIsPointedElsewhereLater_ShouldNotGoThere()
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        // As a rebinding name: the address of somebody else at first, which does not answer, and then this machine's.
        var names = new Names(IPAddress.Parse("192.0.2.1"), IPAddress.Loopback);
        using WebhookConnections connections = names.Connections();
        string url = $"https://hooks.customer.example:{receiver.Port}/";

        for (int attempt = 1; attempt <= 2; attempt++)
        {
            await Assert.ThrowsAsync<WebhookRefusedException>(() => connections.PostAsync(Message(url), Stop));
            Assert.Equal(attempt, names.Asked); // once: between looking and going there is no second question
        }

        Assert.Empty(receiver.Posts);
    }

    [Fact]
    public async Task PostAsync_WhenOnesOwnNetworkIsAllowed_ShouldGoWhereTheNameLeads()
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        using WebhookConnections connections = new Names(IPAddress.Loopback).Connections(DeliveryBench.AllowPrivate);

        (int status, _) = await connections.PostAsync(Message($"http://hooks.customer.example:{receiver.Port}/"), Stop);

        Assert.Equal(204, status);
        Assert.Single(receiver.Posts);
    }

    private static SignedMessage Message(string url) =>
        new(url, "id", DateTimeOffset.UnixEpoch, [WebhookSignature.NewSecret()], "{}"u8.ToArray());

    /// <summary>Answers one address after the other, and then the last for ever.</summary>
    private sealed class Names(params IPAddress[] addresses)
    {
        public int Asked { get; private set; }

        public WebhookConnections Connections(params (string, string)[] settings) =>
            new(DeliveryBench.Settings(settings))
            {
                Resolve = (_, _) => Task.FromResult<IPAddress[]>([addresses[Math.Min(Asked++, addresses.Length - 1)]]),
            };
    }
}
