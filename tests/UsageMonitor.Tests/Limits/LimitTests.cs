using System.Net;
using System.Net.Http.Json;
using System.Text;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using static UsageMonitor.Tests.Fixtures.RunningServer;

namespace UsageMonitor.Tests.Limits;

/// <summary>Limits as they are made, changed, listed and ended over HTTP.</summary>
public sealed class LimitTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Address = "/v1/admin/usage/limits";
    private static readonly LimitRequest s_daily = new("export*", "USER", null, 100, "DAILY", "BLOCK");

    [Fact]
    public async Task Post_WhenItIsSound_ShouldMakeALimitThatEveryInstanceFinds()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        DateTimeOffset expires = DateTimeOffset.UtcNow.AddDays(3);

        LimitResponse made = await CreateAsync(
            acme,
            s_daily with
            {
                Subject = " Ana.Rao@ACME.example ",
                ExpiresAt = expires,
            }
        );

        Assert.Equal(
            ("export*", "USER", "ana.rao@acme.example", 100, "DAILY", "BLOCK", "ACTIVE", 1),
            (
                made.FeatureName,
                made.Scope,
                made.Subject,
                made.LimitValue,
                made.WindowType,
                made.Action,
                made.Status,
                made.Version
            )
        );
        Assert.Equal(TimeSpan.FromHours(5.5), made.ExpiresAt!.Value.Offset);
        Assert.InRange(made.ExpiresAt.Value, expires.AddMilliseconds(-1), expires);
        Assert.Equal(acme.Admin.User.UserId, made.CreatedBy);
        LimitResponse read = await GetAsync(acme, made.LimitId);
        Assert.Equal(
            made,
            read with
            {
                Used = null,
                Remaining = null,
                WindowStart = null,
                ResetsAt = null,
                AsOf = null,
                Forecast = null,
                Contributors = null,
            }
        );
        StoredLimit active = Assert.Single(
            (await Service<LimitSets>().FindAsync(acme.EnterpriseId, TestContext.Current.CancellationToken)).Limits
        );
        Assert.Equal(UserIds.Resolve(acme.EnterpriseId, "ana.rao@acme.example", out _), active.SubjectUserId);
    }

    [Fact]
    public async Task Post_WhenTheFeatureIsAbsent_ShouldMeanAll()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);

        Assert.Equal("*", (await CreateAsync(acme, s_daily with { FeatureName = null })).FeatureName);
        Assert.Equal("*", (await CreateAsync(acme, s_daily with { FeatureName = " " })).FeatureName);
    }

    [Theory]
    [InlineData("""{"featureName":"ex*port"}""", "featureName: “ex*port” has a * that is not at its end.")]
    [InlineData("""{"featureName":"a\u0001b"}""", "featureName: “a\u0001b” has control characters.")]
    [InlineData("""{"scope":null}""", "scope: must be one of USER, ROLE, ENTERPRISE.")]
    [InlineData("""{"scope":"user"}""", "scope: must be one of USER, ROLE, ENTERPRISE.")]
    [InlineData("""{"scope":"ROLE"}""", "subject: is missing; when the scope is ROLE it is the role's name.")]
    [InlineData("""{"scope":"ROLE","subject":"Nobody"}""", "subject: there is no role “Nobody”.")]
    [InlineData("""{"scope":"ROLE","subject":"Operator"}""", "subject: there is no role “Operator”.")]
    [InlineData("""{"scope":"ENTERPRISE","subject":"ana"}""", "subject: must be absent when the scope is ENTERPRISE.")]
    [InlineData("""{"subject":"a\u0001b"}""", "subject: “a\u0001b” has control characters.")]
    [InlineData("""{"limitValue":null}""", "limitValue: is missing.")]
    [InlineData("""{"limitValue":-1}""", "limitValue: must be 0 to 1000000000000.")]
    [InlineData("""{"limitValue":1000000000001}""", "limitValue: must be 0 to 1000000000000.")]
    [InlineData("""{"limitValue":1.5}""", "The body is not the JSON that was expected at $.limitValue.")]
    [InlineData("""{"windowType":"WEEKLY"}""", "windowType: must be one of HOURLY, DAILY, MONTHLY.")]
    [InlineData("""{"action":null}""", "action: must be one of ALERT, BLOCK.")]
    [InlineData("""{"status":"DELETED"}""", "status: must be one of ACTIVE, INACTIVE.")]
    [InlineData("""{"startsAt":"soon"}""", "The body is not the JSON that was expected at $.startsAt.")]
    [InlineData("""{"startsAt":"1999-01-01T00:00:00Z"}""", "startsAt: must be between the years 2000 and 2200.")]
    [InlineData("""{"expiresAt":"2201-01-01T00:00:00Z"}""", "expiresAt: must be between the years 2000 and 2200.")]
    [InlineData("""{"expiresAt":"2020-01-01T00:00:00Z"}""", "expiresAt: must be in the future.")]
    [InlineData(
        """{"startsAt":"2100-01-01T00:00:00Z","expiresAt":"2100-01-01T00:00:00Z"}""",
        "expiresAt: must be after startsAt."
    )]
    public async Task Post_WhenAFieldIsBad_ShouldSayWhichAndWhy(string changes, string expected)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        var body = System
            .Text.Json.Nodes.JsonNode.Parse(
                """{"featureName":"export","scope":"USER","limitValue":5,"windowType":"DAILY","action":"BLOCK"}"""
            )!
            .AsObject();
        foreach (
            (string field, System.Text.Json.Nodes.JsonNode? value) in System
                .Text.Json.Nodes.JsonNode.Parse(changes)!
                .AsObject()
        )
        {
            body[field] = value?.DeepClone();
        }

        using var content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json");
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Post,
            Address,
            acme.Admin.AccessToken,
            content
        );

        Assert.Equal(expected, await AssertProblemAsync(response, 400, "invalid_request"));
        Assert.Empty((await ListAsync(acme)).Limits);
    }

    [Fact]
    public async Task Post_WhenNamesAreTooLong_ShouldRefuse()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await AssertRefusedAsync(s_daily with { FeatureName = new string('f', 101) }, "featureName");
        await AssertRefusedAsync(s_daily with { FeatureName = new string('f', 101) + "*" }, "featureName");
        await AssertRefusedAsync(s_daily with { Subject = new string('u', 129) }, "subject");
        await CreateAsync(
            acme,
            s_daily with
            {
                FeatureName = new string('f', 100) + "*",
                Subject = new string('u', 128),
            }
        );

        async Task AssertRefusedAsync(LimitRequest request, string field)
        {
            using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Post, Address, request);
            string detail = await AssertProblemAsync(response, 400, "invalid_request");
            Assert.StartsWith(field + ": ", detail, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Post_WhenARoleIsBuiltInOrOnesOwn_ShouldTakeIt()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await fixture.Server.Database.ExecuteAsync(
            $"INSERT INTO roles VALUES ('{acme.EnterpriseId}', 'Contractor', '', now(), now())"
        );

        LimitResponse own = await CreateAsync(acme, s_daily with { Scope = "ROLE", Subject = "Contractor" });
        LimitResponse builtIn = await CreateAsync(acme, s_daily with { Scope = "ROLE", Subject = "Analyst" });

        Assert.Equal(("Contractor", "Analyst"), (own.Subject, builtIn.Subject));
    }

    [Fact]
    public async Task Post_WhenThereAreAsManyAsMayBe_ShouldRefuse()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await fixture.Server.Database.ExecuteAsync(
            $"""
            INSERT INTO usage_limits SELECT '{acme.EnterpriseId}', gen_random_uuid(), 'f' || n, 'USER', NULL, NULL, NULL, n, 'DAILY', 'ALERT',
                'INACTIVE', NULL, NULL, 1, gen_random_uuid(), now(), now() FROM generate_series(1, {LimitStore.LimitsMax}) AS n
            """
        );

        using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Post, Address, s_daily);

        await AssertProblemAsync(response, 409, "too_many_limits");
    }

    [Fact]
    public async Task Put_WhenTheVersionIsNotTheLast_ShouldRefuseAndElseKeepEveryVersion()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        LimitResponse made = await CreateAsync(acme, s_daily);
        string address = $"{Address}/{made.LimitId}";

        using HttpResponseMessage changed = await SendAsync(
            acme,
            HttpMethod.Put,
            address,
            s_daily with
            {
                LimitValue = 200,
                WindowType = "MONTHLY",
                Version = 1,
            }
        );
        using HttpResponseMessage late = await SendAsync(
            acme,
            HttpMethod.Put,
            address,
            s_daily with
            {
                LimitValue = 300,
                Version = 1,
            }
        );
        using HttpResponseMessage bad = await SendAsync(
            acme,
            HttpMethod.Put,
            address,
            s_daily with
            {
                Action = "NONE",
            }
        );

        LimitResponse second = await ReadAsync<LimitResponse>(changed, HttpStatusCode.OK);
        Assert.Equal(
            (2, 200, "MONTHLY", made.CreatedAt),
            (second.Version, second.LimitValue, second.WindowType, second.CreatedAt)
        );
        await AssertProblemAsync(late, 409, "version_conflict");
        await AssertProblemAsync(bad, 400, "invalid_request");
        using HttpResponseMessage ended = await SendAsync<object>(acme, HttpMethod.Delete, address, null);
        using HttpResponseMessage again = await SendAsync<object>(acme, HttpMethod.Delete, address, null);
        Assert.Equal(HttpStatusCode.NoContent, ended.StatusCode);
        await AssertProblemAsync(again, 404, "not_found");

        LimitVersionsResponse all = await GetAsync<LimitVersionsResponse>(acme, address + "/versions");
        LimitVersionsResponse newest = await GetAsync<LimitVersionsResponse>(acme, address + "/versions?limit=1");
        LimitVersionsResponse before = await GetAsync<LimitVersionsResponse>(
            acme,
            $"{address}/versions?limit=1&before={newest.Next}"
        );
        Assert.Equal(
            [("DELETED", 3, 200L, "DELETED"), ("CHANGED", 2, 200L, "ACTIVE"), ("CREATED", 1, 100L, "ACTIVE")],
            all.Versions.Select(each => (each.Change, each.Limit.Version, each.Limit.LimitValue, each.Limit.Status))
        );
        Assert.All(all.Versions, each => Assert.Equal(acme.Admin.User.UserId, each.ChangedBy));
        Assert.Equal(3, newest.Next);
        Assert.Equal(2, Assert.Single(before.Versions).Limit.Version);
        Assert.Empty((await ListAsync(acme)).Limits);
    }

    [Fact]
    public async Task Put_WhenManyChangeAtOnce_ShouldLetOneOfEachVersionThrough()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        LimitResponse made = await CreateAsync(acme, s_daily);

        HttpStatusCode[] answers = await Task.WhenAll(
            Enumerable
                .Range(1, 8)
                .Select(async number =>
                {
                    using HttpResponseMessage response = await SendAsync(
                        acme,
                        HttpMethod.Put,
                        $"{Address}/{made.LimitId}",
                        s_daily with
                        {
                            LimitValue = number,
                            Version = 1,
                        }
                    );
                    return response.StatusCode;
                })
        );

        Assert.Single(answers, HttpStatusCode.OK);
        Assert.Equal(7, answers.Count(answer => answer == HttpStatusCode.Conflict));
        Assert.Equal(2, (await GetAsync(acme, made.LimitId)).Version);
    }

    [Fact]
    public async Task Put_WhenTheLimitHasEnded_ShouldStillLetItBeChanged()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        LimitResponse made = await CreateAsync(acme, s_daily with { ExpiresAt = DateTimeOffset.UtcNow.AddDays(1) });
        await fixture.Server.Database.ExecuteAsync(
            $"UPDATE usage_limits SET expires_at = '2026-01-01Z' WHERE limit_id = '{made.LimitId}'"
        );

        using HttpResponseMessage same = await SendAsync(
            acme,
            HttpMethod.Put,
            $"{Address}/{made.LimitId}",
            s_daily with
            {
                Status = "INACTIVE",
                ExpiresAt = new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero),
            }
        );

        Assert.Equal("INACTIVE", (await ReadAsync<LimitResponse>(same, HttpStatusCode.OK)).Status);
    }

    [Fact]
    public async Task Anything_WhenTheLimitIsAnothers_ShouldBeAsIfThereWereNone()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        LimitResponse made = await CreateAsync(acme, s_daily);
        string address = $"{Address}/{made.LimitId}";

        foreach (string path in new[] { address, address + "/versions" })
        {
            using HttpResponseMessage read = await SendAsync<object>(other, HttpMethod.Get, path, null);
            await AssertProblemAsync(read, 404, "not_found");
        }

        using HttpResponseMessage changed = await SendAsync(other, HttpMethod.Put, address, s_daily);
        using HttpResponseMessage ended = await SendAsync<object>(other, HttpMethod.Delete, address, null);
        await AssertProblemAsync(changed, 404, "not_found");
        await AssertProblemAsync(ended, 404, "not_found");
        Assert.Empty((await ListAsync(other)).Limits);
        Assert.Equal(1, (await GetAsync(acme, made.LimitId)).Version);
    }

    [Fact]
    public async Task Get_WhenThereAreMany_ShouldPageAndFilter()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        LimitResponse[] made =
        [
            await CreateAsync(acme, s_daily),
            await CreateAsync(acme, s_daily with { FeatureName = "export.pdf", Status = "INACTIVE" }),
            await CreateAsync(acme, s_daily with { FeatureName = "*", Scope = "ENTERPRISE" }),
            await CreateAsync(acme, s_daily with { FeatureName = "search" }),
        ];

        LimitListResponse first = await ListAsync(acme, "?limit=3");
        LimitListResponse second = await ListAsync(acme, $"?limit=3&after={first.Next}");

        Assert.Equal(
            made.Select(limit => limit.LimitId),
            first.Limits.Concat(second.Limits).Select(limit => limit.LimitId)
        );
        Assert.Equal((made[2].LimitId, null), (first.Next, second.Next));
        Assert.Equal(["export*", "export.pdf", "*"], Names(await ListAsync(acme, "?feature=export.pdf")));
        Assert.Equal(["export*", "*"], Names(await ListAsync(acme, "?feature=export.doc")));
        Assert.Equal(["*"], Names(await ListAsync(acme, "?scope=ENTERPRISE")));
        Assert.Equal(["export.pdf"], Names(await ListAsync(acme, "?status=INACTIVE")));
        foreach (
            string wrong in new[] { "?scope=x", "?status=DELETED", "?limit=51", "?limit=0", "?after=x", "?feature=%01" }
        )
        {
            using HttpResponseMessage response = await SendAsync<object>(acme, HttpMethod.Get, Address + wrong, null);
            await AssertProblemAsync(response, 400, "invalid_request");
        }

        static IEnumerable<string> Names(LimitListResponse list) => list.Limits.Select(limit => limit.FeatureName);
    }

    [Fact]
    public async Task Settings_WhenSet_ShouldBeWhatTheEnterpriseChose()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        string address = Address + "/settings";
        Assert.Equal("OPEN", (await GetAsync<LimitSettings>(acme, address)).WhenUncounted);

        using HttpResponseMessage wrong = await SendAsync(acme, HttpMethod.Put, address, new LimitSettings("SHUT"));
        using HttpResponseMessage none = await SendAsync(acme, HttpMethod.Put, address, new LimitSettings(null));
        using HttpResponseMessage set = await SendAsync(acme, HttpMethod.Put, address, new LimitSettings("CLOSED"));

        await AssertProblemAsync(wrong, 400, "invalid_request");
        await AssertProblemAsync(none, 400, "invalid_request");
        Assert.Equal("CLOSED", (await ReadAsync<LimitSettings>(set, HttpStatusCode.OK)).WhenUncounted);
        Assert.Equal("CLOSED", (await GetAsync<LimitSettings>(acme, address)).WhenUncounted);
        EnterpriseInfo? enterprise = await Service<EnterpriseDirectory>()
            .FindAsync(acme.EnterpriseId, TestContext.Current.CancellationToken);
        Assert.True(enterprise!.IsClosedWhenUncounted);
    }

    private T Service<T>()
        where T : notnull => (T)fixture.Server.Services.GetService(typeof(T))!;

    private async Task<LimitResponse> CreateAsync(Acme acme, LimitRequest request)
    {
        using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Post, Address, request);
        LimitResponse made = await ReadAsync<LimitResponse>(response, HttpStatusCode.Created);
        Assert.Equal($"{Address}/{made.LimitId}", response.Headers.Location!.ToString());
        return made;
    }

    private Task<LimitResponse> GetAsync(Acme acme, Guid limitId) =>
        GetAsync<LimitResponse>(acme, $"{Address}/{limitId}");

    private Task<LimitListResponse> ListAsync(Acme acme, string query = "") =>
        GetAsync<LimitListResponse>(acme, Address + query);

    private async Task<T> GetAsync<T>(Acme acme, string path)
    {
        using HttpResponseMessage response = await SendAsync<object>(acme, HttpMethod.Get, path, null);
        return await ReadAsync<T>(response, HttpStatusCode.OK);
    }

    private Task<HttpResponseMessage> SendAsync<T>(Acme acme, HttpMethod method, string path, T? body)
        where T : class =>
        fixture.Server.SendAsync(method, path, acme.Admin.AccessToken, body is null ? null : JsonContent.Create(body));
}
