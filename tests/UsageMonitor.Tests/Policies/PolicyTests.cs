using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using static UsageMonitor.Tests.Fixtures.RunningServer;

namespace UsageMonitor.Tests.Policies;

/// <summary>Policies from admin to the event, over HTTP.</summary>
public sealed class PolicyTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private static readonly PolicyRequest s_noExport = new("No export", "FORBID", Features: ["export*"]);

    [Fact]
    public async Task Post_WhenAPolicyForbids_ShouldBlockTheEventAndKeepTheAttempt()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        PolicyResponse policy = await CreateAsync(
            acme,
            s_noExport with
            {
                Principals = new(Users: ["Ana.Rao@acme.example"]),
            }
        );
        Assert.Equal(["ana.rao@acme.example"], policy.Principals.Users);

        var eventId = Guid.NewGuid();
        using HttpResponseMessage response = await acme.PostAsync(
            JsonContent.Create(
                new object[]
                {
                    new { userId = "ana.rao@ACME.example", featureName = "search" },
                    5,
                    new
                    {
                        userId = "ana.rao@ACME.example",
                        featureName = "export.pdf",
                        eventId,
                    },
                    new { userId = "bob@acme.example", featureName = "export.pdf" },
                }
            )
        );

        IngestResponse answer = await ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted);
        Assert.Equal((4, 2, 1), (answer.Received, answer.Accepted, answer.Rejected.Count));
        BlockedEvent blocked = Assert.Single(answer.Blocked!);
        Assert.Equal(
            (2, DecisionCodes.PolicyForbidden, policy.PolicyId, 1),
            (blocked.Index, blocked.Code, blocked.PolicyId, blocked.PolicyVersion)
        );
        Assert.Equal((4L, 2L, 1L, 1L), await CountsAsync(acme));
        await acme.ProcessedAsync();
        Assert.Equal(new LedgerCounts(4, 2, 1, 1, 2, 0, 0), await acme.LedgerAsync());
        Assert.Equal(2, (await acme.GetAsync<SummaryResponse>("/v1/dashboard/summary")).UsageCount);

        // The policy goes; the refusal stays explained by the version that refused.
        using HttpResponseMessage ended = await SendAsync(
            acme,
            HttpMethod.Delete,
            $"/v1/admin/policies/{policy.PolicyId}"
        );
        Assert.Equal(HttpStatusCode.NoContent, ended.StatusCode);
        DecisionResponse decision = await Eventually.ValueAsync(() => GetDecisionAsync(acme, blocked.ReceiptId));
        Assert.Equal(
            ("INGEST", "record", "ana.rao@acme.example", "export.pdf", eventId),
            (
                decision.Decision.Source,
                decision.Decision.Action,
                decision.Decision.UserId,
                decision.Decision.FeatureName,
                decision.Decision.EventId!.Value
            )
        );
        Assert.Contains("“No export”", decision.Explanation, StringComparison.Ordinal);
        Assert.Equal(("No export", 1), (decision.Policy!.Name, decision.Policy.Version));
        await acme.SendAsync(new UsageEvent("ana.rao@acme.example", "export.pdf"));
    }

    [Fact]
    public async Task Post_WhenASingleEventIsRefused_ShouldAnswer403WithTheReceipt()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await SetDefaultAsync(acme, "FORBID");

        using HttpResponseMessage single = await acme.PostAsync(JsonContent.Create(new UsageEvent("ana", "search")));
        using HttpResponseMessage list = await acme.PostAsync(
            JsonContent.Create(new[] { new UsageEvent("ana", "search") })
        );

        IngestResponse answer = await ReadAsync<IngestResponse>(single, HttpStatusCode.Forbidden);
        Assert.Equal((1, 0), (answer.Received, answer.Accepted));
        BlockedEvent blocked = Assert.Single(answer.Blocked!);
        Assert.Equal(
            (0, DecisionCodes.PolicyDefault, null, null),
            (blocked.Index, blocked.Code, blocked.PolicyId, blocked.PolicyVersion)
        );
        Assert.Single((await ReadAsync<IngestResponse>(list, HttpStatusCode.Accepted)).Blocked!);
        DecisionResponse decision = await Eventually.ValueAsync(() => GetDecisionAsync(acme, blocked.ReceiptId));
        Assert.Null(decision.Policy);
        Assert.Contains("what no policy permits is forbidden", decision.Explanation, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Post_WhenAnEventIsHistory_ShouldNotApplyPolicies()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await SetDefaultAsync(acme, "FORBID");

        await acme.SendAsync(new UsageEvent("ana", "search", EventTimestamp: DateTimeOffset.UtcNow.AddDays(-8)));
    }

    [Fact]
    public async Task Post_WhenThePolicyIsAboutAKey_ShouldHoldForWhatItSends()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        string other = await acme.CreateKeyAsync("usage:write");
        Guid keyId = (
            await ReadAsync<ValidateResponse>(
                await fixture.Server.SendAsync(HttpMethod.Get, "/v1/auth/validate", other),
                HttpStatusCode.OK
            )
        )
            .ApiKeyId!
            .Value;
        await CreateAsync(acme, new("Key", "FORBID", new(ApiKeys: [keyId.ToString()])));

        await acme.SendAsync(new UsageEvent("ana", "search"));
        using HttpResponseMessage refused = await acme.PostAsync(
            JsonContent.Create(new UsageEvent("ana", "search")),
            other
        );

        Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
    }

    [Fact]
    public async Task Post_WhenMembershipChanges_ShouldHoldWithinASecondOrSo()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        var groupId = Guid.NewGuid();
        Guid ana = UsageMonitor.Server.Platform.UserIds.Resolve(acme.EnterpriseId, "ana", out _);
        await ExecuteAsync(
            $"INSERT INTO groups VALUES ('{acme.EnterpriseId}', '{groupId}', 'Sales', NULL, now(), now())"
        );
        PolicyResponse policy = await CreateAsync(acme, new("Sales", "FORBID", new(Groups: ["Sales"])));
        Assert.Equal([groupId.ToString()], policy.Principals.Groups);
        await acme.SendAsync(new UsageEvent("ana", "search"));

        await ExecuteAsync(
            $"INSERT INTO group_members VALUES ('{acme.EnterpriseId}', '{groupId}', '{ana}'); UPDATE identity_version SET version = version + 1"
        );

        await Eventually.TrueAsync(
            async () =>
            {
                using HttpResponseMessage sent = await acme.PostAsync(
                    JsonContent.Create(new UsageEvent("ana", "search"))
                );
                return sent.StatusCode == HttpStatusCode.Forbidden;
            },
            "the new member is refused"
        );
    }

    [Fact]
    public async Task Check_WhenAsked_ShouldAnswerAndKeepRefusals()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        string key = await acme.CreateKeyAsync("usage:check");
        PolicyResponse policy = await CreateAsync(acme, s_noExport with { Actions = ["check"] });

        using HttpResponseMessage one = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/check",
            key,
            JsonContent.Create(new { userId = "ana", featureName = "export" })
        );
        using HttpResponseMessage many = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/check",
            key,
            JsonContent.Create(
                new
                {
                    checks = new[]
                    {
                        new { userId = "ana", featureName = "search" },
                        new { userId = "bob", featureName = "export.pdf" },
                    },
                }
            )
        );

        CheckResponse refused = await ReadAsync<CheckResponse>(one, HttpStatusCode.OK);
        Assert.Equal((false, DecisionCodes.PolicyForbidden), (refused.Allowed, refused.Reason));
        DecisionResponse decision = await GetDecisionAsync(acme, refused.ReceiptId!.Value);
        Assert.Equal(
            ("CHECK", "ana", "check"),
            (decision.Decision.Source, decision.Decision.UserId, decision.Decision.Action)
        );
        CheckResultsResponse results = await ReadAsync<CheckResultsResponse>(many, HttpStatusCode.OK);
        Assert.Equal([true, false], results.Results.Select(result => result.Allowed));
        Assert.Null(results.Results[0].ReceiptId);

        // Only of checks: what is sent is recorded.
        await acme.SendAsync(new UsageEvent("ana", "export"));

        DecisionListResponse all = await GetAsync<DecisionListResponse>(acme, "/v1/admin/decisions?limit=1");
        DecisionListResponse next = await GetAsync<DecisionListResponse>(
            acme,
            $"/v1/admin/decisions?limit=1&before={all.Next}"
        );
        Assert.Equal("bob", Assert.Single(all.Decisions).UserId);
        Assert.Equal("ana", Assert.Single(next.Decisions).UserId);
        Assert.Null(next.Next);
        DecisionListResponse bobs = await GetAsync<DecisionListResponse>(
            acme,
            "/v1/admin/decisions?user=bob&feature=export.pdf"
        );
        Assert.Equal(policy.PolicyId, Assert.Single(bobs.Decisions).PolicyId);
        Assert.Empty(
            (await GetAsync<DecisionListResponse>(acme, "/v1/admin/decisions?user=bob&feature=export")).Decisions
        );
    }

    [Theory]
    [InlineData("""{"userId":"ana"}""", "featureName: is missing.")]
    [InlineData("""{"featureName":"f","userId":""}""", "userId: is empty.")]
    [InlineData("""{"checks":[]}""", "checks: must be 1 to 100.")]
    [InlineData("""{"checks":[{"userId":"u","featureName":"f"}],"userId":"u"}""", "checks: give either")]
    [InlineData(
        """{"checks":[{"userId":"u","featureName":"f"},{"userId":"u"}]}""",
        "checks[1].featureName: is missing."
    )]
    [InlineData("""{"checks":[null]}""", "checks[0]: must be an object.")]
    public async Task Check_WhenTheQuestionIsWrong_ShouldNameTheField(string body, string expected)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Post, "/v1/usage/check", Json(body));

        Assert.StartsWith(
            expected,
            await AssertProblemAsync(response, 400, "invalid_request"),
            StringComparison.Ordinal
        );
    }

    [Theory]
    [InlineData("""{"effect":"FORBID"}""", "name: is empty.")]
    [InlineData("""{"name":"n","effect":"DENY"}""", "effect: must be one of")]
    [InlineData("""{"name":"n","effect":"FORBID","status":"OFF"}""", "status: must be one of")]
    [InlineData(
        """{"name":"n","effect":"FORBID","principals":{"roles":["Wizard"]}}""",
        "principals.roles: there is no role “Wizard”."
    )]
    [InlineData(
        """{"name":"n","effect":"FORBID","principals":{"roles":["Operator"]}}""",
        "principals.roles: there is no role “Operator”."
    )]
    [InlineData(
        """{"name":"n","effect":"FORBID","principals":{"groups":["Nobody"]}}""",
        "principals.groups: there is no group “Nobody”."
    )]
    [InlineData(
        """{"name":"n","effect":"FORBID","principals":{"apiKeys":["7d444840-9dc0-11d1-b245-5ffdce74fad2"]}}""",
        "principals.apiKeys: there is no API key"
    )]
    [InlineData("""{"name":"n","effect":"FORBID","principals":{"users":[""]}}""", "principals.users: ")]
    [InlineData("""{"name":"n","effect":"FORBID","features":["ex*port"]}""", "features: ")]
    [InlineData("""{"name":"n","effect":"FORBID","features":[null]}""", "features: ")]
    [InlineData("""{"name":"n","effect":"FORBID","actions":["read"]}""", "actions: must be one of record, check.")]
    [InlineData(
        """{"name":"n","effect":"FORBID","conditions":{"weekdays":["Monday"]}}""",
        "conditions.weekdays: must be one of"
    )]
    [InlineData("""{"name":"n","effect":"FORBID","conditions":{"from":"9:00"}}""", "conditions.from: ")]
    [InlineData("""{"name":"n","effect":"FORBID","conditions":{"to":"25:00"}}""", "conditions.to: ")]
    [InlineData("""{"name":"n","effect":"FORBID","conditions":{"from":"09:00","to":"09:00"}}""", "conditions.to: ")]
    [InlineData("""{"name":"n","effect":"FORBID","conditions":{"networks":["10.0.0.1/8"]}}""", "conditions.networks: ")]
    [InlineData("""{"name":"n","effect":"FORBID","conditions":{"networks":["10/8"]}}""", "conditions.networks: ")]
    [InlineData("""{"name":"n","effect":"FORBID","conditions":{"networks":["everywhere"]}}""", "conditions.networks: ")]
    public async Task Create_WhenSomethingIsWrong_ShouldNameTheField(string body, string expected)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Post, "/v1/admin/policies", Json(body));

        Assert.StartsWith(
            expected,
            await AssertProblemAsync(response, 400, "invalid_request"),
            StringComparison.Ordinal
        );
        Assert.Empty((await GetAsync<PolicyListResponse>(acme, "/v1/admin/policies")).Policies);
    }

    [Fact]
    public async Task Change_WhenAPolicyIsKept_ShouldRaiseTheVersionAndRefuseAnOldOne()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        var whole = new PolicyRequest(
            "Nights",
            "FORBID",
            new(Users: ["ana"], Roles: ["Analyst"]),
            ["export*", "search"],
            ["record"],
            new(["MON", "FRI"], "22:00", "06:00", ["10.0.0.0/8", "192.0.2.7", "2001:DB8::/32"], ["use"])
        );
        PolicyResponse made = await CreateAsync(acme, whole);
        Assert.Equal(["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"], made.Conditions.Networks);
        Assert.Equal(
            JsonSerializer.Serialize(made),
            JsonSerializer.Serialize(await GetAsync<PolicyResponse>(acme, $"/v1/admin/policies/{made.PolicyId}"))
        );

        string address = $"/v1/admin/policies/{made.PolicyId}";
        PolicyRequest changed = whole with { Status = "INACTIVE", Version = 1 };
        using HttpResponseMessage first = await SendAsync(acme, HttpMethod.Put, address, JsonContent.Create(changed));
        using HttpResponseMessage second = await SendAsync(acme, HttpMethod.Put, address, JsonContent.Create(changed));

        PolicyResponse kept = await ReadAsync<PolicyResponse>(first, HttpStatusCode.OK);
        Assert.Equal((2, "INACTIVE", made.CreatedAt), (kept.Version, kept.Status, kept.CreatedAt));
        await AssertProblemAsync(second, 409, "version_conflict");
        PolicyListResponse list = await GetAsync<PolicyListResponse>(acme, "/v1/admin/policies");
        Assert.Equal(("PERMIT", 2, null), (list.Default, Assert.Single(list.Policies).Version, list.Next));
    }

    [Fact]
    public async Task List_WhenThereAreMore_ShouldGiveThemPageByPage()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        var made = new List<Guid>();
        for (int i = 0; i < 5; i++)
        {
            made.Add((await CreateAsync(acme, s_noExport with { Name = $"policy {i}" })).PolicyId);
        }

        var seen = new List<Guid>();
        Guid? next = null;
        do
        {
            PolicyListResponse page = await GetAsync<PolicyListResponse>(
                acme,
                $"/v1/admin/policies?limit=2&after={next}"
            );
            seen.AddRange(page.Policies.Select(policy => policy.PolicyId));
            next = page.Next;
        } while (next is not null);

        Assert.Equal(made.Order(), seen.Order());
        Assert.Equal(5, seen.Count);
    }

    [Fact]
    public async Task Send_WhenThePolicyIsAnothers_ShouldAnswerAsIfThereWereNone()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        PolicyResponse policy = await CreateAsync(acme, s_noExport);
        await SetDefaultAsync(acme, "FORBID");
        using HttpResponseMessage refused = await acme.PostAsync(JsonContent.Create(new UsageEvent("ana", "export")));
        Guid receipt = (await ReadAsync<IngestResponse>(refused, HttpStatusCode.Forbidden)).Blocked![0].ReceiptId;
        await Eventually.ValueAsync(() => GetDecisionAsync(acme, receipt));
        string address = $"/v1/admin/policies/{policy.PolicyId}";

        foreach (
            (HttpMethod method, string path, object? body) in new (HttpMethod, string, object?)[]
            {
                (HttpMethod.Get, address, null),
                (HttpMethod.Put, address, s_noExport),
                (HttpMethod.Delete, address, null),
                (HttpMethod.Get, $"/v1/admin/decisions/{receipt}", null),
                (HttpMethod.Get, $"/v1/admin/decisions/{Guid.NewGuid()}", null),
                (HttpMethod.Get, $"/v1/admin/decisions/{new Guid("ffffffff-ffff-7fff-8fff-ffffffffffff")}", null),
                (
                    HttpMethod.Post,
                    "/v1/admin/policies/simulate",
                    new SimulateRequest(s_noExport, null, null, policy.PolicyId)
                ),
            }
        )
        {
            using HttpResponseMessage response = await SendAsync(
                other,
                method,
                path,
                body is null ? null : JsonContent.Create(body, body.GetType())
            );
            await AssertProblemAsync(response, 404, "not_found");
        }

        Assert.Empty((await GetAsync<DecisionListResponse>(other, "/v1/admin/decisions")).Decisions);
        await other.SendAsync(new UsageEvent("ana", "export")); // nor do the other's policies hold here
    }

    [Fact]
    public async Task Send_WhenTheCallerMayNot_ShouldAnswer403()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        foreach (
            (HttpMethod method, string path) in new[]
            {
                (HttpMethod.Get, "/v1/admin/policies"),
                (HttpMethod.Post, "/v1/admin/policies"),
                (HttpMethod.Post, "/v1/admin/policies/simulate"),
                (HttpMethod.Put, "/v1/admin/policies/default"),
                (HttpMethod.Get, "/v1/admin/decisions"),
                (HttpMethod.Post, "/v1/usage/check"),
            }
        )
        {
            using HttpResponseMessage response = await fixture.Server.SendAsync(
                method,
                path,
                acme.ApiKey,
                method == HttpMethod.Get ? null : Json("{}")
            );
            await AssertProblemAsync(response, 403, "forbidden");
        }
    }

    [Fact]
    public async Task Simulate_WhenReplayed_ShouldSayWhoWouldHaveBeenRefused()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server, "America/New_York");
        DateTimeOffset at = DateTimeOffset.UtcNow.AddHours(-1);
        await acme.SendAsync([
            .. Enumerable.Range(0, 5).Select(i => new UsageEvent("ana", "export", EventTimestamp: at.AddMinutes(-i))),
            new UsageEvent("bob", "export.pdf", EventTimestamp: at),
            new UsageEvent("bob", "search", EventTimestamp: at),
        ]);
        PolicyResponse noSearch = await CreateAsync(acme, new("No search", "FORBID", Features: ["search"]));
        using HttpResponseMessage blocked = await acme.PostAsync(JsonContent.Create(new UsageEvent("cid", "search")));
        Assert.Equal(HttpStatusCode.Forbidden, blocked.StatusCode);
        await acme.ProcessedAsync();
        await Eventually.TrueAsync(
            async () => (await GetAsync<DecisionListResponse>(acme, "/v1/admin/decisions")).Decisions.Count == 1,
            "the attempt is on record"
        );

        SimulateResponse added = await SimulateAsync(
            acme,
            new SimulateRequest(s_noExport with { Conditions = new(Networks: ["10.0.0.0/8"]) }, null, null)
        );
        SimulateResponse replaced = await SimulateAsync(
            acme,
            new SimulateRequest(s_noExport, null, null, noSearch.PolicyId)
        );

        // Of the seven stored and the one refused: six exports, and two searches that are refused already.
        Assert.Equal((8, 8, 6, 0), (added.Evaluated, added.WouldBeRefused, added.NewlyRefused, added.NewlyPermitted));
        Assert.Equal([("ana", 5L), ("bob", 2L)], added.Users.Take(2).Select(user => (user.UserId, user.Refused)));
        Assert.Equal(at.AddMinutes(-4).ToUnixTimeMilliseconds(), added.Users[0].FirstAt.ToUnixTimeMilliseconds());
        Assert.Equal(
            [("export", 5L), ("search", 2L), ("export.pdf", 1L)],
            added.Features.Select(f => (f.FeatureName, f.Refused))
        );
        Assert.Equal(["networks"], added.NotReplayed);
        Assert.Equal(
            (8, 6, 6, 2),
            (replaced.Evaluated, replaced.WouldBeRefused, replaced.NewlyRefused, replaced.NewlyPermitted)
        );
        Assert.Empty(replaced.NotReplayed);
        using HttpResponseMessage tooLong = await SendAsync(
            acme,
            HttpMethod.Post,
            "/v1/admin/policies/simulate",
            JsonContent.Create(new SimulateRequest(s_noExport, "2026-01-01", "2026-02-02"))
        );
        await AssertProblemAsync(tooLong, 400, "invalid_request");
    }

    private static async Task<(long, long, long, long)> CountsAsync(Acme acme)
    {
        LedgerCounts counts = await acme.LedgerAsync();
        return (counts.Received, counts.Accepted, counts.Rejected, counts.Blocked);
    }

    private async Task<SimulateResponse> SimulateAsync(Acme acme, SimulateRequest request)
    {
        using HttpResponseMessage response = await SendAsync(
            acme,
            HttpMethod.Post,
            "/v1/admin/policies/simulate",
            JsonContent.Create(request)
        );
        return await ReadAsync<SimulateResponse>(response, HttpStatusCode.OK);
    }

    private async Task<PolicyResponse> CreateAsync(Acme acme, PolicyRequest request)
    {
        using HttpResponseMessage response = await SendAsync(
            acme,
            HttpMethod.Post,
            "/v1/admin/policies",
            JsonContent.Create(request)
        );
        return await ReadAsync<PolicyResponse>(response, HttpStatusCode.Created);
    }

    private async Task SetDefaultAsync(Acme acme, string effect)
    {
        using HttpResponseMessage response = await SendAsync(
            acme,
            HttpMethod.Put,
            "/v1/admin/policies/default",
            JsonContent.Create(new PolicyDefaultRequest(effect))
        );
        Assert.Equal(HttpStatusCode.NoContent, response.StatusCode);
    }

    private Task<DecisionResponse> GetDecisionAsync(Acme acme, Guid receiptId) =>
        GetAsync<DecisionResponse>(acme, $"/v1/admin/decisions/{receiptId}");

    private async Task<T> GetAsync<T>(Acme acme, string path)
    {
        using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Get, path);
        return await ReadAsync<T>(response, HttpStatusCode.OK);
    }

    private Task<HttpResponseMessage> SendAsync(
        Acme acme,
        HttpMethod method,
        string path,
        HttpContent? content = null
    ) => fixture.Server.SendAsync(method, path, acme.Admin.AccessToken, content);

    private static StringContent Json(string body) => new(body, System.Text.Encoding.UTF8, "application/json");

    private async Task ExecuteAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
    }
}
