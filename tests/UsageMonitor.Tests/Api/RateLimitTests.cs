using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using Microsoft.Extensions.Logging.Abstractions;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform.Embedded;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Api;

public sealed class RateLimitTests(Engines engines)
{
    private const int Clients = 64;

    [Fact]
    public async Task PostUsageEvents_WhenAnswered_ShouldTellWhatIsLeft()
    {
        await using RunningServer server = await RunningServer.StartAsync(
            engines,
            ("RateLimits:EventsPerSecondPerKey", "10")
        );
        Acme acme = await Acme.CreateAsync(server);
        UsageEvent[] events = [.. Enumerable.Range(0, 18).Select(number => new UsageEvent($"user-{number}", "search"))];

        using HttpResponseMessage taken = await acme.PostAsync(JsonContent.Create(events));
        using HttpResponseMessage refused = await acme.PostAsync(JsonContent.Create(events));

        Assert.Equal(HttpStatusCode.Accepted, taken.StatusCode);
        Assert.Equal("\"events\";q=20;w=2", Header(taken, "RateLimit-Policy"));
        Assert.Equal("\"events\";r=2;t=2", Header(taken, "RateLimit"));
        await RunningServer.AssertProblemAsync(refused, 429, "rate_limited");
        Assert.Equal("\"events\";q=20;w=2", Header(refused, "RateLimit-Policy"));
        Assert.StartsWith("\"events\";r=", Header(refused, "RateLimit"), StringComparison.Ordinal);
        Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 2);
    }

    [Fact]
    public async Task Requests_WhenMoreThanACallerMay_ShouldBeRefusedAndLeaveOthersAlone()
    {
        await using RunningServer server = await RunningServer.StartAsync(
            engines,
            ("RateLimits:RequestsPerSecondPerCaller", "5")
        );
        Acme acme = await Acme.CreateAsync(server);
        string other = await acme.CreateKeyAsync("usage:read");
        int refusals = 0;

        for (int request = 0; request < 30 && refusals == 0; request++)
        {
            using HttpResponseMessage answer = await server.SendAsync(
                HttpMethod.Get,
                request % 2 == 0 ? "/v1/auth/validate" : "/v1/admin/api-keys", // also what the key may not do
                acme.ApiKey
            );
            Assert.StartsWith("\"requests\";r=", Header(answer, "RateLimit"), StringComparison.Ordinal);
            if (answer.StatusCode == HttpStatusCode.TooManyRequests)
            {
                refusals++;
                await RunningServer.AssertProblemAsync(answer, 429, "rate_limited");
                Assert.NotNull(answer.Headers.RetryAfter);
            }
        }

        Assert.Equal(1, refusals);
        using HttpResponseMessage others = await server.SendAsync(HttpMethod.Get, "/v1/auth/validate", other);
        Assert.Equal(HttpStatusCode.OK, others.StatusCode);
        await acme.SendAsync(new UsageEvent("ana", "search"));
    }

    [Fact]
    public async Task PostUsageEvents_WhenTwoServersShareAKey_ShouldKeepItsRateTogetherAndGoOnWithoutRedis()
    {
        const int Rate = 200;
        string folder = Directory.CreateTempSubdirectory("usage-monitor-cache-").FullName;
        EmbeddedCache cache = EmbeddedCache.Start(folder, NullLoggerFactory.Instance);
        (string, string)[] settings =
        [
            ("RateLimits:EventsPerSecondPerKey", Rate.ToString(CultureInfo.InvariantCulture)),
            ("ConnectionStrings:Redis", cache.ConnectionString),
            ("Logging:LogLevel:Default", "None"),
        ];
        await using RunningServer one = await RunningServer.StartAsync(engines, settings);
        await using RunningServer other = await one.StartBesideAsync(engines, settings);
        Acme acme = await Acme.CreateAsync(one);

        (long admitted, double seconds) = await PressAsync([one, other], acme.ApiKey, TimeSpan.FromSeconds(4));

        double most = (Rate * seconds) + (2 * Rate);
        Assert.InRange(admitted, 0.8 * most, most);

        cache.Dispose();
        (admitted, seconds) = await PressAsync([one, other], acme.ApiKey, TimeSpan.FromSeconds(2));
        Assert.InRange(admitted, 0.8 * Rate * seconds, 2 * ((Rate * seconds) + (2 * Rate)));
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>Sends single events from many clients, each as fast as it is answered; nothing but 202 and 429 may come.</summary>
    private static async Task<(long Admitted, double Seconds)> PressAsync(
        RunningServer[] servers,
        string key,
        TimeSpan duration
    )
    {
        long admitted = 0;
        long started = Stopwatch.GetTimestamp();
        await Task.WhenAll(
            Enumerable
                .Range(0, Clients)
                .Select(async client =>
                {
                    while (Stopwatch.GetElapsedTime(started) < duration)
                    {
                        using HttpResponseMessage answer = await servers[client % servers.Length]
                            .SendAsync(
                                HttpMethod.Post,
                                "/v1/usage/events",
                                key,
                                JsonContent.Create(new UsageEvent($"user-{client}", "search"))
                            );
                        if (answer.StatusCode == HttpStatusCode.Accepted)
                        {
                            Interlocked.Increment(ref admitted);
                        }
                        else
                        {
                            Assert.Equal(HttpStatusCode.TooManyRequests, answer.StatusCode);
                        }
                    }
                })
        );
        return (admitted, Stopwatch.GetElapsedTime(started).TotalSeconds);
    }

    private static string Header(HttpResponseMessage response, string name) =>
        Assert.Single(response.Headers.GetValues(name));
}
