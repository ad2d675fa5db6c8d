using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using static UsageMonitor.Tests.Fixtures.RunningServer;

namespace UsageMonitor.Tests.Api;

/// <summary>Every documented answer of <c>POST /v1/usage/events</c>, and what becomes of what was accepted.</summary>
public sealed class IngestionTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string OneEvent = """{"userId":"ana","featureName":"search"}""";

    [Theory]
    [InlineData("application/json", OneEvent)]
    [InlineData("application/json; charset=utf-8", $"[{OneEvent}]")]
    [InlineData("application/json", $$"""{"events":[{{OneEvent}}]}""")]
    [InlineData("application/x-ndjson", OneEvent + "\n")]
    [InlineData("application/jsonl", OneEvent)]
    public async Task Post_WhenInAnyForm_ShouldAccept(string mediaType, string body)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        using HttpResponseMessage response = await acme.PostAsync(Text(body, mediaType));

        Assert.Equal(HttpStatusCode.Accepted, response.StatusCode);
        Assert.Equal(
            """{"received":1,"accepted":1,"rejected":[]}""",
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)
        );
        await acme.ProcessedAsync();
        Assert.Equal(
            new LedgerCounts(Received: 1, Accepted: 1, Rejected: 0, Blocked: 0, Stored: 1, Duplicate: 0, Pending: 0),
            await acme.LedgerAsync()
        );
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    public async Task Post_WhenCompressed_ShouldAccept(string encoding)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using var packed = new MemoryStream();
        await using (
            Stream packing =
                encoding == "br"
                    ? new BrotliStream(packed, CompressionMode.Compress, true)
                    : new GZipStream(packed, CompressionMode.Compress, true)
        )
        {
            await packing.WriteAsync(
                Encoding.UTF8.GetBytes($"[{OneEvent},{OneEvent}]"),
                TestContext.Current.CancellationToken
            );
        }

        using var content = new ByteArrayContent(packed.ToArray());
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        content.Headers.ContentEncoding.Add(encoding);
        using HttpResponseMessage response = await acme.PostAsync(content);

        Assert.Equal(2, (await ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted)).Accepted);
    }

    [Fact]
    public async Task Post_WhenSomeEventsAreBad_ShouldRejectThemAlone()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        string withoutBackfill = await acme.CreateKeyAsync("usage:write");
        var eventId = Guid.NewGuid();
        string old = $"{DateTimeOffset.UtcNow.AddDays(-8):O}";
        string ahead = $"{DateTimeOffset.UtcNow.AddMinutes(6):O}";
        string body = $$"""
            [{{OneEvent}}, 5, {"eventId":"{{eventId}}","userId":"ana"}, {"userId":1,"featureName":"search"},
             {"userId":"ana","featureName":"search","eventTimestamp":"{{ahead}}"},
             {"userId":"ana","featureName":"search","eventTimestamp":"{{old}}"},
             {"userId":"ana","featureName":"search","properties":{"text":"{{new string('x', 33_000)}}"} }]
            """;

        using HttpResponseMessage response = await acme.PostAsync(Text(body), withoutBackfill);

        IngestResponse answer = await ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted);
        Assert.Equal((7, 1), (answer.Received, answer.Accepted));
        Assert.Equal(
            [
                (1, "invalid_json"),
                (2, "missing_field"),
                (3, "invalid_field"),
                (4, "timestamp_in_future"),
                (5, "timestamp_too_old"),
                (6, "event_too_large"),
            ],
            answer.Rejected.Select(rejected => (rejected.Index, rejected.Code))
        );
        Assert.Equal(eventId, answer.Rejected[1].EventId);
        Assert.All(answer.Rejected, rejected => Assert.NotEmpty(rejected.Detail));
        await acme.ProcessedAsync();
        Assert.Equal(
            new LedgerCounts(Received: 7, Accepted: 1, Rejected: 6, Blocked: 0, Stored: 1, Duplicate: 0, Pending: 0),
            await acme.LedgerAsync()
        );
    }

    [Theory]
    [InlineData("{", "application/json", 400, "invalid_json")]
    [InlineData("", "application/json", 400, "invalid_json")]
    [InlineData("5", "application/json", 400, "invalid_json")]
    [InlineData(OneEvent, "text/plain", 415, "unsupported_media_type")]
    [InlineData(OneEvent, null, 415, "unsupported_media_type")]
    public async Task Post_WhenTheBodyIsNotEvents_ShouldRefuseAll(
        string body,
        string? mediaType,
        int status,
        string code
    )
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        using HttpResponseMessage response = await acme.PostAsync(Text(body, mediaType));

        await AssertProblemAsync(response, status, code);
        Assert.Equal(0, (await acme.LedgerAsync()).Received);
    }

    [Theory]
    [InlineData("gzip", 400, "invalid_compression")]
    [InlineData("br", 400, "invalid_compression")]
    [InlineData("deflate", 415, "unsupported_encoding")]
    public async Task Post_WhenTheEncodingIsWrong_ShouldRefuseAll(string encoding, int status, string code)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        StringContent content = Text(OneEvent);
        content.Headers.ContentEncoding.Add(encoding);

        using HttpResponseMessage response = await acme.PostAsync(content);

        await AssertProblemAsync(response, status, code);
    }

    [Fact]
    public async Task Post_WhenThereIsTooMuch_ShouldAnswer413()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        using HttpResponseMessage many = await acme.PostAsync(
            Text(string.Concat(Enumerable.Repeat(OneEvent + "\n", 10_001)), "application/x-ndjson")
        );
        await AssertProblemAsync(many, 413, "too_many_events");
        using HttpResponseMessage large = await acme.PostAsync(
            Text(new string(' ', (16 * 1024 * 1024) + 1) + OneEvent)
        );
        await AssertProblemAsync(large, 413, "body_too_large");
        Assert.Equal(0, (await acme.LedgerAsync()).Received);
    }

    [Fact]
    public async Task Post_WhenTheCallerMayNot_ShouldAnswer401Or403()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        using HttpResponseMessage nobody = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/events",
            null,
            Text(OneEvent)
        );
        await AssertProblemAsync(nobody, 401, "unauthenticated");
        Assert.Equal("Bearer", nobody.Headers.WwwAuthenticate.ToString());
        using HttpResponseMessage unknown = await acme.PostAsync(Text(OneEvent), acme.ApiKey + "x");
        await AssertProblemAsync(unknown, 401, "invalid_token");
        using HttpResponseMessage reader = await acme.PostAsync(
            Text(OneEvent),
            await acme.CreateKeyAsync("usage:read")
        );
        await AssertProblemAsync(reader, 403, "forbidden");
        using HttpResponseMessage person = await acme.PostAsync(Text(OneEvent), acme.Admin.AccessToken);
        await AssertProblemAsync(person, 403, "forbidden");
    }

    [Fact]
    public async Task Send_WhenRoutingRefuses_ShouldAnswerAProblemToo()
    {
        using HttpResponseMessage method = await fixture.Server.SendAsync(HttpMethod.Delete, "/v1/usage/events", null);
        await AssertProblemAsync(method, 405, "method_not_allowed");
        Assert.Equal(["POST"], method.Content.Headers.Allow);
        using HttpResponseMessage type = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/auth/login",
            null,
            Text("{}", "text/plain")
        );
        await AssertProblemAsync(type, 415, "unsupported_media_type");
        using HttpResponseMessage nowhere = await fixture.Server.SendAsync(HttpMethod.Get, "/v1/nowhere", null);
        await AssertProblemAsync(nowhere, 404, "not_found");
    }

    [Fact]
    public async Task Post_WhenAnEventComesAgain_ShouldCountItOnce()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        var sent = new UsageEvent("ana", "search", Guid.NewGuid(), EventTimestamp: DateTimeOffset.UtcNow);

        await acme.SendAsync(sent, sent);
        await acme.SendAsync(sent);
        await acme.ProcessedAsync();
        await acme.SendAsync(sent);
        await acme.ProcessedAsync();
        await other.SendAsync(sent);
        await other.ProcessedAsync();

        Assert.Equal(
            new LedgerCounts(Received: 4, Accepted: 4, Rejected: 0, Blocked: 0, Stored: 1, Duplicate: 3, Pending: 0),
            await acme.LedgerAsync()
        );
        Assert.Equal(
            new LedgerCounts(Received: 1, Accepted: 1, Rejected: 0, Blocked: 0, Stored: 1, Duplicate: 0, Pending: 0),
            await other.LedgerAsync()
        );
        Assert.Equal(1, (await acme.GetAsync<SummaryResponse>("/v1/dashboard/summary")).UsageCount);
    }

    [Fact]
    public async Task Post_WhenManyAtOnce_ShouldCountEveryEvent()
    {
        const int Requests = 60;
        const int EventsOfRequest = 25;
        Acme acme = await Acme.CreateAsync(fixture.Server, "Australia/Lord_Howe");

        await Parallel.ForAsync(
            0,
            Requests,
            TestContext.Current.CancellationToken,
            async (request, _) =>
                await acme.SendAsync([
                    .. Enumerable
                        .Range(0, EventsOfRequest)
                        .Select(user => new UsageEvent($"user-{user}", $"feature-{request % 3}", Guid.NewGuid())),
                ])
        );
        await acme.ProcessedAsync();

        Assert.Equal(Requests * EventsOfRequest, (await acme.LedgerAsync()).Stored);
        SummaryResponse summary = await acme.GetAsync<SummaryResponse>("/v1/dashboard/summary");
        Assert.Equal(
            (Requests * EventsOfRequest, EventsOfRequest, 3),
            (summary.UsageCount, summary.ActiveUsers, summary.Features)
        );
    }

    internal static StringContent Text(string body, string? mediaType = "application/json")
    {
        var content = new StringContent(body);
        content.Headers.ContentType = mediaType is null ? null : MediaTypeHeaderValue.Parse(mediaType);
        return content;
    }
}
