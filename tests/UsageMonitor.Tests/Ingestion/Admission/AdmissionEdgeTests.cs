using System.Net;
using System.Net.Http.Json;
using Microsoft.Extensions.DependencyInjection;
using StackExchange.Redis;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Limits;
using Xunit;

namespace UsageMonitor.Tests.Ingestion.Admission;

/// <summary>The edges of admission: whose usage counts together, and what holds while Redis is away or after it has forgotten.</summary>
public sealed class AdmissionEdgeTests(ServerFixture fixture, Engines engines) : IClassFixture<ServerFixture>
{
    private readonly RunningServer _server = fixture.Server;

    /// <summary>A limit of two, six uses in one request, and which of them are refused.</summary>
    /// <param name="feature">Of the limit.</param>
    /// <param name="scope">Of the limit.</param>
    /// <param name="subject">Of the limit.</param>
    /// <param name="uses"><c>user/feature</c> each.</param>
    /// <param name="refused">Their places.</param>
    [Theory]
    [InlineData("export", "USER", null, "ana/export bob/export ana/export ana/export bob/export bob/export", "3 5")]
    [InlineData("export", "USER", "bob", "ana/export bob/export ana/export ana/export bob/export bob/export", "5")]
    [InlineData(
        "export",
        "ENTERPRISE",
        null,
        "ana/export bob/export eve/export ana/search ana/export bob/search",
        "2 4"
    )]
    [InlineData("export*", "USER", null, "ana/export ana/export.pdf ana/exports ana/exp ana/search bob/export", "2")]
    [InlineData("*", "USER", null, "ana/export ana/search ana/open bob/open bob/search bob/export", "2 5")]
    [InlineData("EXPORT", "USER", null, "ana/export ana/export ana/export ana/EXPORT ana/EXPORT ana/EXPORT", "5")]
    public async Task Post_WhenALimitIsOfAScopeAndAPattern_ShouldRefuseWhatIsBeyondOfThose(
        string feature,
        string scope,
        string? subject,
        string uses,
        string refused
    )
    {
        Acme acme = await Acme.CreateAsync(_server);
        await LimitAsync(acme, feature, 2, scope, subject);

        IngestResponse answer = await SendAsync(
            acme,
            [.. uses.Split(' ').Select(use => use.Split('/')).Select(use => new UsageEvent(use[0], use[1]))]
        );

        Assert.Equal(refused, string.Join(' ', (answer.Blocked ?? []).Select(one => one.Index)));
        Assert.All(answer.Blocked!, one => Assert.Equal(DecisionCodes.LimitReached, one.Code));
    }

    [Fact]
    public async Task Post_WhenALimitIsOfARole_ShouldCountAllWhoHoldItTogether()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await LimitAsync(acme, "export", 2, "ROLE", "EnterpriseAdmin");
        string admin = acme.Admin.User.Email;

        IngestResponse answer = await SendAsync(
            acme,
            [
                new(admin, "export"),
                new("ana", "export"),
                new(admin, "export"),
                new("ana", "export"),
                new(admin, "export"),
            ]
        );

        Assert.Equal([4], answer.Blocked!.Select(one => one.Index));
    }

    [Fact]
    public async Task Post_WhenSomeAreNoEventsAndOthersForbidden_ShouldNameThePlacesOfEach()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await LimitAsync(acme, "export", 1, "USER", null);
        using HttpResponseMessage made = await _server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/policies",
            acme.Admin.AccessToken,
            JsonContent.Create(new PolicyRequest("No print", "FORBID", Features: ["print"]))
        );
        Assert.Equal(HttpStatusCode.Created, made.StatusCode);

        using HttpResponseMessage response = await acme.PostAsync(
            JsonContent.Create(
                new object[]
                {
                    "no event",
                    new { userId = "ana", featureName = "export" },
                    new { userId = "ana", featureName = "print" },
                    new { userId = "ana", featureName = "export" },
                    new { userId = "ana" },
                    new { userId = "bob", featureName = "export" },
                    new { userId = "bob", featureName = "export" },
                }
            )
        );

        IngestResponse answer = await RunningServer.ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted);
        Assert.Equal((7, 2), (answer.Received, answer.Accepted));
        Assert.Equal([0, 4], answer.Rejected.Select(one => one.Index));
        Assert.Equal(
            [(2, DecisionCodes.PolicyForbidden), (3, DecisionCodes.LimitReached), (6, DecisionCodes.LimitReached)],
            answer.Blocked!.Select(one => (one.Index, one.Code))
        );
        await acme.ProcessedAsync();
        Assert.Equal(new LedgerCounts(7, 2, 2, 3, 2, 0, 0), await acme.LedgerAsync());
    }

    [Fact]
    public async Task Post_WhenRedisIsAwayAndTheEnterpriseOpen_ShouldLetThroughFlaggedAndCountItAfterwards()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await LimitAsync(acme, "export", 5, "ENTERPRISE", null);
        Assert.Null((await SendAsync(acme, Exports(2))).Blocked);
        await using RunningServer without = await WithoutRedisAsync(acme);

        IngestResponse uncounted = await SendAsync(acme, Exports(2), without);
        IngestResponse counted = await SendAsync(acme, Exports(3));

        Assert.Null(uncounted.Blocked);
        Assert.True(uncounted.LimitsUncounted);
        Assert.Equal([1, 2], counted.Blocked!.Select(one => one.Index));
        Assert.Null(counted.LimitsUncounted);
        await acme.ProcessedAsync();
        Assert.Equal(5, (await acme.LedgerAsync()).Stored);
    }

    [Fact]
    public async Task Post_WhenRedisIsAwayAndTheEnterpriseClosed_ShouldRefuseWhatHasALimitAndNothingElse()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await LimitAsync(acme, "export", 5, "ENTERPRISE", null);
        await _server.Database.ExecuteAsync(
            $"UPDATE enterprises SET limits_unreachable = 'CLOSED' WHERE enterprise_id = '{acme.EnterpriseId}'; UPDATE identity_version SET version = version + 1"
        );
        await using RunningServer without = await WithoutRedisAsync(acme);

        IngestResponse refused = await SendAsync(acme, [.. Exports(2), new("ana", "search")], without);

        Assert.Equal((3, 1), (refused.Received, refused.Accepted));
        Assert.Equal(
            [(0, DecisionCodes.LimitUncounted), (1, DecisionCodes.LimitUncounted)],
            refused.Blocked!.Select(one => (one.Index, one.Code))
        );
        Assert.Equal([5], (await SendAsync(acme, Exports(6))).Blocked!.Select(one => one.Index));
        await acme.ProcessedAsync();
        Assert.Equal(6, (await acme.LedgerAsync()).Stored);
    }

    [Fact]
    public async Task Post_WhenRedisHasForgotten_ShouldKnowRetriesAndRefuseTheNew()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await LimitAsync(acme, "export", 2, "ENTERPRISE", null);
        UsageEvent[] two = Exports(2);
        Assert.Null((await SendAsync(acme, two)).Blocked);
        await acme.ProcessedAsync();
        await ForgetAsync(acme);

        IngestResponse again = await SendAsync(acme, [.. two, .. Exports(1)]);

        Assert.Equal((3, 2), (again.Received, again.Accepted));
        Assert.Equal([2], again.Blocked!.Select(one => one.Index));
        await acme.ProcessedAsync();
        LedgerCounts ledger = await acme.LedgerAsync();
        Assert.Equal((2L, 2L, 1L), (ledger.Stored, ledger.Duplicate, ledger.Blocked));
    }

    [Fact]
    public async Task Reserve_WhenWhatWasHeldExpires_ShouldGiveItToTheNextAndRefuseItsCommit()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await LimitAsync(acme, "export", 1, "ENTERPRISE", null);
        using HttpResponseMessage first = await ReserveAsync(acme);
        ReserveResponse held = await RunningServer.ReadAsync<ReserveResponse>(first, HttpStatusCode.Created);
        using HttpResponseMessage full = await ReserveAsync(acme);
        Assert.Equal(HttpStatusCode.TooManyRequests, full.StatusCode);

        // As if its time had come.
        await _server.Database.ExecuteAsync(
            $"UPDATE usage_reservations SET created_at = now() - interval '2 minutes', expires_at = now() - interval '1 minute' WHERE reservation_id = '{held.ReservationId}'"
        );

        await RunningServer.AssertProblemAsync(
            await _server.SendAsync(
                HttpMethod.Post,
                $"/v1/usage/reservations/{held.ReservationId}/commit",
                acme.ApiKey
            ),
            409,
            "reservation_expired"
        );
        await Eventually.TrueAsync(
            async () =>
            {
                using HttpResponseMessage next = await ReserveAsync(acme);
                return next.StatusCode == HttpStatusCode.Created;
            },
            "what was held can be had again"
        );
        using HttpResponseMessage again = await ReserveAsync(acme);
        Assert.Equal(HttpStatusCode.TooManyRequests, again.StatusCode);
    }

    private static UsageEvent[] Exports(int count) =>
        [.. Enumerable.Range(0, count).Select(_ => new UsageEvent("ana", "export", Guid.NewGuid()))];

    private static async Task<IngestResponse> SendAsync(Acme acme, UsageEvent[] events, RunningServer? server = null)
    {
        using HttpResponseMessage response = server is null
            ? await acme.PostAsync(JsonContent.Create(events))
            : await server.SendAsync(HttpMethod.Post, "/v1/usage/events", acme.ApiKey, JsonContent.Create(events));
        return await RunningServer.ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted);
    }

    private Task<HttpResponseMessage> ReserveAsync(Acme acme) =>
        _server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/reservations",
            acme.ApiKey,
            JsonContent.Create(new ReserveRequest("zoe", "export"))
        );

    private async Task<RunningServer> WithoutRedisAsync(Acme acme)
    {
        RunningServer without = await _server.StartBesideAsync(
            engines,
            ("ConnectionStrings:Redis", "127.0.0.1:1,connectTimeout=200"),
            ("Logging:LogLevel:Default", "None")
        );
        await KnowsAsync(without, acme);
        return without;
    }

    private async Task LimitAsync(Acme acme, string feature, long value, string scope, string? subject)
    {
        using HttpResponseMessage response = await _server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/usage/limits",
            acme.Admin.AccessToken,
            JsonContent.Create(
                new
                {
                    featureName = feature,
                    scope,
                    subject,
                    limitValue = value,
                    windowType = "MONTHLY",
                    action = "BLOCK",
                }
            )
        );
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.StatusCode == HttpStatusCode.Created, body);
        await KnowsAsync(_server, acme);
    }

    private static Task KnowsAsync(RunningServer server, Acme acme) =>
        Eventually.TrueAsync(
            async () =>
                (
                    await server
                        .Services.GetRequiredService<LimitSets>()
                        .FindAsync(acme.EnterpriseId, TestContext.Current.CancellationToken)
                ).HasBlocking,
            "the instance knows the limit"
        );

    private async Task ForgetAsync(Acme acme)
    {
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString + ",allowAdmin=true"
        );
        string state = $"{_server.Database.Name}:lim:{{{acme.EnterpriseId:N}}}";
        var keys = new List<RedisKey> { state };
        await foreach (RedisKey key in redis.GetServers()[0].KeysAsync(pattern: $"{state}:*"))
        {
            keys.Add(key);
        }

        Assert.True(await redis.GetDatabase().KeyDeleteAsync([.. keys]) > 1);
    }
}
