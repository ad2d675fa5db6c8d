using System.Diagnostics;
using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Api;

public sealed class WithoutRedisTests(Engines engines)
{
    [Fact]
    public async Task Serve_WhenRedisIsAway_ShouldStartAndAnswerWithoutIt()
    {
        await using RunningServer server = await RunningServer.StartAsync(
            engines,
            ("ConnectionStrings:Redis", "127.0.0.1:1,connectTimeout=200"),
            ("Logging:LogLevel:Default", "None")
        );
        Acme acme = await Acme.CreateAsync(server);
        await acme.SendAsync(new UsageEvent("ana", "search"));
        await acme.ProcessedAsync();

        long asked = Stopwatch.GetTimestamp();
        Assert.Equal(1, (await acme.GetAsync<SummaryResponse>("/v1/dashboard/summary")).UsageCount);

        Assert.InRange(Stopwatch.GetElapsedTime(asked).TotalSeconds, 0, 2);
        string ready = await server.Client.GetStringAsync("/health/ready", TestContext.Current.CancellationToken);
        Assert.Equal("down", JsonSerializer.Deserialize<JsonElement>(ready).GetProperty("redis").GetString());
    }
}
