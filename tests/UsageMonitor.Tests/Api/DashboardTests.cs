using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Api;

/// <summary>The numbers over HTTP, at the edges of an enterprise's own days.</summary>
public sealed class DashboardTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    // In Kolkata a day begins at 18:30Z. 2 March 2026 is a Monday.
    private static readonly UsageEvent[] s_events =
    [
        At("2026-03-01T18:29:59.999Z", "ana", "search"),
        At("2026-03-01T18:30:00Z", "ana", "search"),
        At("2026-03-02T04:00:00Z", "bo", "search"),
        At("2026-03-02T04:10:00Z", "bo", "export"),
        At("2026-03-09T09:00:00Z", "ana", "export"),
    ];

    [Fact]
    public async Task Summary_OfADay_ShouldCountTheLocalDayAndTheOneBefore()
    {
        Acme acme = await CreateAsync();

        SummaryResponse summary = await acme.GetAsync<SummaryResponse>(
            "/v1/dashboard/summary?from=2026-03-02&to=2026-03-03"
        );

        Assert.Equal((3, 2, 2), (summary.UsageCount, summary.ActiveUsers, summary.Features));
        Assert.Equal(
            [new FeatureUsage("search", 2, 2, 2.0 / 3), new FeatureUsage("export", 1, 1, 1.0 / 3)],
            summary.TopFeatures
        );
        Assert.Equal(new UsageTotals(1, 1, 1), summary.Previous);
        Assert.InRange((DateTimeOffset.UtcNow - summary.AsOf).TotalSeconds, 0, 30);
        Assert.Equal(TimeSpan.FromMinutes(330), summary.AsOf.Offset);
    }

    [Theory]
    [InlineData(
        "day",
        "2026-03-01",
        "2026-03-04",
        "2026-03-01T00:00:00=1/1 2026-03-02T00:00:00=3/2 2026-03-03T00:00:00=0/0"
    )]
    [InlineData(
        "week",
        "2026-03-01",
        "2026-03-10",
        "2026-02-23T00:00:00=1/1 2026-03-02T00:00:00=3/2 2026-03-09T00:00:00=1/1"
    )]
    [InlineData("month", "2026-02-01", "2026-04-01", "2026-02-01T00:00:00=0/0 2026-03-01T00:00:00=5/2")]
    public async Task Trends_OfAnInterval_ShouldGiveEveryBucket(
        string interval,
        string from,
        string to,
        string expected
    )
    {
        Acme acme = await CreateAsync();

        TrendsResponse trends = await acme.GetAsync<TrendsResponse>(
            $"/v1/dashboard/usage/trends?from={from}&to={to}&interval={interval}"
        );

        Assert.Equal(expected, string.Join(' ', trends.Points.Select(Show)));
        Assert.All(trends.Points, point => Assert.Equal(TimeSpan.FromMinutes(330), point.TimeBucket.Offset));
    }

    [Fact]
    public async Task Trends_ByTheHour_ShouldGiveTheLocalHours()
    {
        Acme acme = await CreateAsync();
        const string Path = "/v1/dashboard/usage/trends?from=2026-03-02&to=2026-03-03&interval=hour";

        TrendsResponse all = await acme.GetAsync<TrendsResponse>(Path);
        TrendsResponse export = await acme.GetAsync<TrendsResponse>(Path + "&feature=export");

        Assert.Equal(24, all.Points.Count);
        Assert.Equal(
            ["2026-03-02T00:00:00=1/1", "2026-03-02T09:00:00=2/1"],
            all.Points.Where(point => point.UsageCount > 0).Select(Show)
        );
        Assert.Equal(["2026-03-02T09:00:00=1/1"], export.Points.Where(point => point.UsageCount > 0).Select(Show));
        Assert.Equal("export", export.Feature);
    }

    [Fact]
    public async Task ByFeature_OfARange_ShouldGiveTheMostUsedFirst()
    {
        Acme acme = await CreateAsync();

        FeaturesResponse usage = await acme.GetAsync<FeaturesResponse>(
            "/v1/dashboard/usage/by-feature?from=2026-03-01&to=2026-03-10"
        );

        Assert.Equal([new FeatureUsage("search", 3, 2, 0.6), new FeatureUsage("export", 2, 2, 0.4)], usage.Features);
    }

    [Fact]
    public async Task UserAnalytics_OfAKnownUser_ShouldTellWhatTheyUsed()
    {
        Acme acme = await CreateAsync();

        UserAnalyticsResponse ana = await acme.GetAsync<UserAnalyticsResponse>(
            "/v1/dashboard/users/ana/analytics?from=2026-03-01&to=2026-03-03"
        );

        Assert.Equal(("ana", 2), (ana.UserId, ana.UsageCount));
        Assert.Equal([new UserFeatureUsage("search", 2, 1)], ana.Features);
        Assert.Equal([1, 1], ana.Points.Select(point => point.UsageCount));
        Assert.Equal(DateTimeOffset.Parse("2026-03-01T18:29:59.999Z", null), ana.FirstSeenAt);
        Assert.Equal(DateTimeOffset.Parse("2026-03-09T09:00:00Z", null), ana.LastSeenAt);
    }

    [Theory]
    [InlineData("/v1/dashboard/summary?from=2026-03-02&to=2026-03-02")]
    [InlineData("/v1/dashboard/summary?from=2026-03-02&to=2026-03-01")]
    [InlineData("/v1/dashboard/summary?from=02.03.2026")]
    [InlineData("/v1/dashboard/summary?to=2026-02-30")]
    [InlineData("/v1/dashboard/usage/by-feature?from=1900-01-01&to=2026-01-01")]
    [InlineData("/v1/dashboard/usage/trends?interval=decade")]
    [InlineData("/v1/dashboard/usage/trends?interval=hour&from=2026-01-01&to=2026-04-12")]
    [InlineData("/v1/dashboard/users/ana/analytics?from=yesterday")]
    [InlineData("/v1/admin/usage/ledger?from=2026-03-02&to=2026-03-01")]
    public async Task Get_WhenTheRangeIsInvalid_ShouldAnswer400(string path)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        using HttpResponseMessage response = await fixture.Server.SendAsync(HttpMethod.Get, path, acme.ApiKey);

        await RunningServer.AssertProblemAsync(response, 400, "invalid_request");
    }

    [Fact]
    public async Task Get_OfAnotherEnterprise_ShouldSeeNothing()
    {
        await CreateAsync();
        Acme other = await Acme.CreateAsync(fixture.Server);
        const string Range = "?from=2026-03-01&to=2026-03-10";

        SummaryResponse summary = await other.GetAsync<SummaryResponse>("/v1/dashboard/summary" + Range);
        Assert.Equal((0, 0, 0), (summary.UsageCount, summary.ActiveUsers, summary.Features));
        Assert.Empty((await other.GetAsync<FeaturesResponse>("/v1/dashboard/usage/by-feature" + Range)).Features);
        Assert.All(
            (await other.GetAsync<TrendsResponse>("/v1/dashboard/usage/trends" + Range)).Points,
            point => Assert.Equal(0, point.UsageCount)
        );
        using HttpResponseMessage user = await fixture.Server.SendAsync(
            HttpMethod.Get,
            "/v1/dashboard/users/ana/analytics" + Range,
            other.ApiKey
        );
        await RunningServer.AssertProblemAsync(user, 404, "user_not_found");
        Assert.Equal(0, (await other.LedgerAsync()).Received);
    }

    [Fact]
    public async Task Stream_WhenAnEventIsPosted_ShouldTellWithinASecond()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/dashboard/stream");
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", acme.ApiKey);
        using HttpResponseMessage response = await fixture.Server.Client.SendAsync(
            request,
            HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken
        );
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        using var lines = new StreamReader(
            await response.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken)
        );
        await ReadUntilAsync(lines, "event: hello");

        await other.SendAsync(new UsageEvent("ana", "search"));
        await other.ProcessedAsync();
        long posted = Stopwatch.GetTimestamp();
        await acme.SendAsync(new UsageEvent("ana", "search"));

        Assert.Equal("event: usage", await ReadUntilAsync(lines, "event: "));
        Assert.InRange(Stopwatch.GetElapsedTime(posted).TotalSeconds, 0, 1);
        Assert.Equal(1, (await acme.GetAsync<SummaryResponse>("/v1/dashboard/summary")).UsageCount);
    }

    private async Task<Acme> CreateAsync()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await acme.SendAsync(s_events);
        await acme.ProcessedAsync();
        return acme;
    }

    private static UsageEvent At(string timestamp, string user, string feature) =>
        new(
            user,
            feature,
            EventTimestamp: DateTimeOffset.Parse(timestamp, System.Globalization.CultureInfo.InvariantCulture)
        );

    private static string Show(TrendPoint point) =>
        $"{point.TimeBucket:yyyy-MM-ddTHH:mm:ss}={point.UsageCount}/{point.ActiveUsers}";

    private static async Task<string> ReadUntilAsync(StreamReader lines, string start)
    {
        while (await lines.ReadLineAsync(TestContext.Current.CancellationToken) is { } line)
        {
            if (line.StartsWith(start, StringComparison.Ordinal))
            {
                return line;
            }
        }

        throw new EndOfStreamException($"The stream ended before '{start}'.");
    }
}
