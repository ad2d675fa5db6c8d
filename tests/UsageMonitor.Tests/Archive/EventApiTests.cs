using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Archive;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Archive;

public sealed class EventApiTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private static readonly DateTimeOffset s_past = new(DateTime.UtcNow.Date.AddDays(-60).AddHours(9), TimeSpan.Zero);
    private static readonly string s_range =
        $"from={s_past.AddDays(-2):yyyy-MM-dd}&to={DateTimeOffset.UtcNow.AddDays(1):yyyy-MM-dd}";

    [Fact]
    public async Task ListEvents_WhenSomeAreArchived_ShouldGiveAllPageByPage()
    {
        Acme acme = await ArchivedAsync();
        StoredEventsResponse first = await acme.GetAsync<StoredEventsResponse>(
            $"/v1/dashboard/events?{s_range}&limit=4"
        );
        StoredEventsResponse second = await acme.GetAsync<StoredEventsResponse>(
            $"/v1/dashboard/events?{s_range}&limit=4&before={first.Next}"
        );
        StoredEvent[] all = [.. first.Events, .. second.Events];
        Assert.Equal((4, 2, null), (first.Events.Count, second.Events.Count, second.Next));
        Assert.Equal(6, all.Select(one => one.EventId).Distinct().Count());
        Assert.Equal(
            all.OrderByDescending(one => one.EventTimestamp).Select(one => one.EventId),
            all.Select(one => one.EventId)
        );
        Assert.Contains("anna@acme.example", all.Select(one => one.UserId));
        Assert.All(all, one => Assert.Equal(TimeSpan.FromMinutes(330), one.EventTimestamp.Offset));
        Assert.Equal("pro", all[^1].Properties!.Value.GetProperty("plan").GetString());
        Assert.Single(
            (
                await acme.GetAsync<StoredEventsResponse>(
                    $"/v1/dashboard/events?{s_range}&user=anna@acme.example&feature=export"
                )
            ).Events
        );
    }

    [Fact]
    public async Task GroupEvents_WhenSomeAreArchived_ShouldCountAll()
    {
        Acme acme = await ArchivedAsync();
        EventGroupsResponse byPlan = await acme.GetAsync<EventGroupsResponse>(
            $"/v1/dashboard/events/groups?{s_range}&by=property:plan"
        );
        Assert.Equal([new StoredEventGroup("pro", 4), new StoredEventGroup("", 2)], byPlan.Groups);
        EventGroupsResponse byUser = await acme.GetAsync<EventGroupsResponse>(
            $"/v1/dashboard/events/groups?{s_range}&by=user&limit=1"
        );
        Assert.Equal((6, 2, 1), (byUser.Total, byUser.GroupCount, byUser.Groups.Count));
    }

    [Theory]
    [InlineData("ndjson")]
    [InlineData("csv")]
    public async Task ExportEvents_WhenSomeAreArchived_ShouldStreamAll(string format)
    {
        Acme acme = await ArchivedAsync();
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Get,
            $"/v1/dashboard/events/export?{s_range}&format={format}",
            acme.ApiKey
        );
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        string[] lines = body.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        if (format == "csv")
        {
            Assert.Equal(7, lines.Length);
            Assert.Equal("eventId,userId,featureName,eventType,eventTimestamp,receivedAt,properties", lines[0].Trim());
            Assert.Contains("\"{\"\"plan\"\":\"\"pro\"\"", lines[1], StringComparison.Ordinal);
            Assert.Contains(",'=evil,", body, StringComparison.Ordinal);
        }
        else
        {
            JsonElement[] events = [.. lines.Select(line => JsonDocument.Parse(line).RootElement)];
            Assert.Equal(6, events.Length);
            Assert.Equal("pro", events[0].GetProperty("properties").GetProperty("plan").GetString());
        }
    }

    [Theory]
    [InlineData("?before=nonsense")]
    [InlineData("?limit=0")]
    [InlineData("?from=2020-01-01&to=2026-01-01")]
    [InlineData("/groups?by=property:a\"b")]
    [InlineData("/groups")]
    [InlineData("/export?format=xml")]
    public async Task Events_WhenAskedWrongly_ShouldSayWhatIsWrong(string question)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Get,
            "/v1/dashboard/events" + question,
            acme.ApiKey
        );
        await RunningServer.AssertProblemAsync(response, 400, "invalid_request");
    }

    [Fact]
    public async Task Retention_WhenSet_ShouldBeKeptAndHeldByWhoeverSaidSo()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        RetentionResponse before = await GetAsync(acme);
        Assert.Equal((true, false), (before.Archive, before.LegalHold));
        Assert.All(before.Classes, one => Assert.Null(one.Days));

        var asked = new RetentionRequest(true, 400, 90, 800, 2_555, 365, true, "Case 17");
        RetentionResponse after = await RunningServer.ReadAsync<RetentionResponse>(
            await PutAsync(acme, asked),
            HttpStatusCode.OK
        );
        Assert.Equal("Case 17", after.LegalHoldReason);
        Assert.Equal([400, 90, 800, 2_555, 365], after.Classes.Select(one => one.Days!.Value));
        RetentionResponse freed = await RunningServer.ReadAsync<RetentionResponse>(
            await PutAsync(acme, asked with { LegalHold = false }),
            HttpStatusCode.OK
        );
        Assert.Equal((false, null, null), (freed.LegalHold, freed.LegalHoldReason, freed.LegalHoldBy));
        Assert.NotNull(after.LegalHoldBy);
        Assert.Empty(
            (
                await RunningServer.ReadAsync<RetentionRunsResponse>(
                    await fixture.Server.SendAsync(
                        HttpMethod.Get,
                        "/v1/admin/privacy/retention/runs",
                        acme.Admin.AccessToken
                    ),
                    HttpStatusCode.OK
                )
            ).Runs
        );

        foreach (
            RetentionRequest wrong in new[]
            {
                asked with
                {
                    EventsDays = 10,
                },
                asked with
                {
                    EventsDays = 0,
                    Archive = false,
                },
                asked with
                {
                    LegalHoldReason = " ",
                },
                asked with
                {
                    AggregatesDays = 100,
                },
            }
        )
        {
            using HttpResponseMessage refused = await PutAsync(acme, wrong);
            await RunningServer.AssertProblemAsync(refused, 400, "invalid_request");
        }
    }

    private async Task<RetentionResponse> GetAsync(Acme acme) =>
        await RunningServer.ReadAsync<RetentionResponse>(
            await fixture.Server.SendAsync(HttpMethod.Get, "/v1/admin/privacy/retention", acme.Admin.AccessToken),
            HttpStatusCode.OK
        );

    private Task<HttpResponseMessage> PutAsync(Acme acme, RetentionRequest body) =>
        fixture.Server.SendAsync(
            HttpMethod.Put,
            "/v1/admin/privacy/retention",
            acme.Admin.AccessToken,
            JsonContent.Create(body)
        );

    /// <summary>An enterprise with four events in the archive, one late for the same day, and one of now.</summary>
    private async Task<Acme> ArchivedAsync()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await acme.SendAsync([.. Enumerable.Range(0, 4).Select(number => Event(s_past.AddMinutes(number), "pro"))]);
        await acme.ProcessedAsync();
        var plan = fixture.Server.Services.GetRequiredService<ArchivePlan>();
        foreach (ArchivePass pass in await plan.FindAsync(DateTimeOffset.UtcNow, TestContext.Current.CancellationToken))
        {
            await fixture
                .Server.Services.GetRequiredService<Archiver>()
                .RunAsync(pass, TestContext.Current.CancellationToken);
        }

        await acme.SendAsync(
            Event(s_past.AddMinutes(9), null) with
            {
                UserId = "=evil",
            },
            Event(DateTimeOffset.UtcNow, null) with
            {
                FeatureName = "export",
            }
        );
        await acme.ProcessedAsync();
        Assert.Equal(4, (await GetAsync(acme)).ArchivedEvents);
        return acme;
    }

    private static UsageEvent Event(DateTimeOffset at, string? plan) =>
        new(
            "anna@acme.example",
            "reports",
            Guid.NewGuid(),
            EventTimestamp: at,
            Properties: plan is null
                ? null
                : new JsonObject
                {
                    ["plan"] = plan,
                    ["nested"] = new JsonObject { ["a"] = 1 },
                }
        );
}
