using System.Net;
using System.Net.Http.Json;
using System.Text.RegularExpressions;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using static UsageMonitor.Tests.Fixtures.RunningServer;

namespace UsageMonitor.Tests.Dashboard;

/// <summary>Violations from the event to whoever resolves them, over HTTP and as a browser without JavaScript does it.</summary>
public sealed partial class ViolationEndpointTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Path = "/v1/dashboard/violations";

    [Fact]
    public async Task List_WhenFilteredAndPaged_ShouldShowEachOnceNewestFirst()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Guid export = await AddLimitAsync(acme, "export", 1);
        await AddLimitAsync(acme, "search", 0);
        await UseAsync(acme, ("ana@acme.example", "export", 4), ("ben", "export", 2), ("ben", "search", 1));

        var all = await GetAsync<ViolationListResponse>(acme, Path);
        Assert.Equal(
            new[] { ("ana@acme.example", "export", 3L), ("ben", "export", 1L), ("ben", "search", 1L) },
            all.Violations.Select(one => (one.UserId!, one.FeatureName, one.Over)).Order()
        );
        Assert.Equal(
            all.Violations.OrderByDescending(one => one.ViolationId.ToString(), StringComparer.Ordinal),
            all.Violations
        );
        var paged = new List<Guid>();
        Guid? next = null;
        do
        {
            var page = await GetAsync<ViolationListResponse>(acme, $"{Path}?limit=1&before={next}");
            paged.Add(Assert.Single(page.Violations).ViolationId);
            next = page.Next;
        } while (next is not null);
        Assert.Equal(all.Violations.Select(one => one.ViolationId), paged);
        Assert.Equal(2, await CountAsync(acme, "user=ben"));
        Assert.Equal(1, await CountAsync(acme, "user=Ana@ACME.example&status=OPEN"));
        Assert.Equal(2, await CountAsync(acme, $"limitId={export}"));
        Assert.Equal(1, await CountAsync(acme, "feature=search"));
        Assert.Equal(0, await CountAsync(acme, "status=RESOLVED"));
        Assert.Equal(0, await CountAsync(acme, "from=2026-01-01&to=2026-01-02"));
    }

    [Theory]
    [InlineData("status=open")]
    [InlineData("limit=0")]
    [InlineData("limit=201")]
    [InlineData("limitId=x")]
    [InlineData("before=x")]
    [InlineData("from=yesterday")]
    [InlineData("user=a%00b")]
    public async Task List_WhenAskedWrongly_ShouldSayWhatIsWrong(string query)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Get,
            $"{Path}?{query}",
            acme.Admin.AccessToken
        );

        await AssertProblemAsync(response, 400, "invalid_request");
    }

    [Fact]
    public async Task ExceededLimits_WhenUsersAreBeyond_ShouldShowWhoIsFurthestFirst()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await AddLimitAsync(acme, "export", 1);
        await AddLimitAsync(acme, "search", 1);
        await AddLimitAsync(acme, "*", 1, scope: "ENTERPRISE");
        await UseAsync(acme, ("ana", "export", 4), ("ben", "export", 3), ("ben", "search", 5), ("eve", "search", 1));

        const string Users = "/v1/dashboard/users/exceeded-limits";
        var all = await GetAsync<ExceedingUsersResponse>(acme, Users);
        Assert.Equal(
            [("ben", 2, 6L), ("ana", 1, 3L)],
            all.Users.Select(user => (user.UserId, user.OpenViolations, user.Over))
        );
        Assert.Equal(["export", "search"], all.Users[0].Violations.Select(one => one.FeatureName).Order());
        Assert.Equal(all.Users[1].Violations[0].OpenedAt, all.Users[1].Since);
        var first = await GetAsync<ExceedingUsersResponse>(acme, Users + "?limit=1");
        var second = await GetAsync<ExceedingUsersResponse>(acme, $"{Users}?limit=1&after={first.Next}");
        Assert.Equal(["ben", "ana"], first.Users.Concat(second.Users).Select(user => user.UserId));
        Assert.Null(second.Next);
    }

    [Fact]
    public async Task Resolve_WhenOpenResolvedOrUnknown_ShouldSayWhich()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        await AddLimitAsync(acme, "export", 0);
        await UseAsync(acme, ("ana", "export", 1), ("ben", "export", 1), ("eve", "export", 1));
        Guid[] ids = [.. (await GetAsync<ViolationListResponse>(acme, Path)).Violations.Select(one => one.ViolationId)];
        var reason = new ResolveViolationRequest(" A planned test ");

        using HttpResponseMessage foreign = await PostAsync(other, $"{Path}/{ids[0]}/resolve", reason);
        await AssertProblemAsync(foreign, 404, "not_found");
        foreach (string wrong in new[] { "", "   ", new string('x', 501) })
        {
            using HttpResponseMessage refused = await PostAsync(
                acme,
                $"{Path}/{ids[0]}/resolve",
                new ResolveViolationRequest(wrong)
            );
            await AssertProblemAsync(refused, 400, "invalid_request");
        }

        using HttpResponseMessage first = await PostAsync(acme, $"{Path}/{ids[0]}/resolve", reason);
        Assert.Equal([ids[0]], (await ReadAsync<ResolveViolationsResponse>(first, HttpStatusCode.OK)).Resolved);
        using HttpResponseMessage again = await PostAsync(acme, $"{Path}/{ids[0]}/resolve", reason);
        await AssertProblemAsync(again, 409, "already_resolved");
        var unknown = Guid.NewGuid();
        using HttpResponseMessage bulk = await PostAsync(
            acme,
            Path + "/resolve",
            new ResolveViolationsRequest([ids[0], ids[1], ids[1], unknown], "the rest")
        );
        ResolveViolationsResponse became = await ReadAsync<ResolveViolationsResponse>(bulk, HttpStatusCode.OK);
        Assert.Equal([ids[1]], became.Resolved);
        Assert.Equal([ids[0]], became.AlreadyResolved);
        Assert.Equal([unknown], became.NotFound);
        using HttpResponseMessage many = await PostAsync(
            acme,
            Path + "/resolve",
            new ResolveViolationsRequest([.. Enumerable.Range(0, 101).Select(_ => Guid.NewGuid())], "too many")
        );
        await AssertProblemAsync(many, 400, "invalid_request");

        var left = await GetAsync<ViolationListResponse>(acme, Path + "?status=RESOLVED");
        ViolationSummary resolved = left.Violations.Single(one => one.ViolationId == ids[0]);
        Assert.Equal(("A planned test", acme.Admin.User.UserId), (resolved.ResolvedReason, resolved.ResolvedBy!.Value));
        Assert.Equal(1, await CountAsync(acme, "status=OPEN"));
    }

    [Fact]
    public async Task Page_WhenViolationsAreTicked_ShouldResolveThemWithoutJavaScript()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await AddLimitAsync(acme, "<b>export", 0);
        await UseAsync(acme, ("ana", "<b>export", 1), ("ben", "<b>export", 1));
        using HttpClient browser = await SignInAsync(acme);
        string list = await GetPageAsync(browser, "/violations?user=ana");
        Assert.Contains("&lt;b&gt;export", list, StringComparison.Ordinal);
        Assert.DoesNotContain("<b>export", list, StringComparison.Ordinal);
        string id = Assert.Single(Ticks().Matches(list)).Groups[1].Value;

        await SubmitAsync(browser, "/violations/resolve", HttpStatusCode.BadRequest, [("reason", "none ticked")]);
        await SubmitAsync(browser, "/violations/resolve", HttpStatusCode.BadRequest, [("ids", id), ("reason", "")]);
        string wrong = await GetPageAsync(browser, "/violations?status=RESOLVED");
        Assert.Contains("No violation fits", wrong, StringComparison.Ordinal);
        await SubmitAsync(
            browser,
            "/violations/resolve",
            HttpStatusCode.SeeOther,
            [("ids", id), ("reason", "agreed with <ana>"), ("back", "https://elsewhere.example")]
        );

        string resolved = await GetPageAsync(browser, "/violations?status=ALL");
        Assert.Contains("agreed with &lt;ana&gt;", resolved, StringComparison.Ordinal);
        Assert.Single(Ticks().Matches(resolved));
        Assert.Contains("href=\"/violations\"", resolved, StringComparison.Ordinal);
    }

    private async Task<int> CountAsync(Acme acme, string query) =>
        (await GetAsync<ViolationListResponse>(acme, $"{Path}?{query}")).Violations.Count;

    private async Task<T> GetAsync<T>(Acme acme, string path)
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Get,
            path,
            acme.Admin.AccessToken
        );
        return await ReadAsync<T>(response, HttpStatusCode.OK);
    }

    private Task<HttpResponseMessage> PostAsync<T>(Acme acme, string path, T body) =>
        fixture.Server.SendAsync(HttpMethod.Post, path, acme.Admin.AccessToken, JsonContent.Create(body));

    private static async Task UseAsync(Acme acme, params (string User, string Feature, int Count)[] uses)
    {
        await acme.SendAsync([
            .. uses.SelectMany(use => Enumerable.Repeat(new UsageEvent(use.User, use.Feature), use.Count)),
        ]);
        await acme.ProcessedAsync();
    }

    /// <summary>As the API of limits does it, and raises the version that caches are held against.</summary>
    private async Task<Guid> AddLimitAsync(Acme acme, string feature, long value, string scope = "USER")
    {
        var limitId = Guid.CreateVersion7();
        await using (var connection = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString))
        {
            await connection.OpenAsync(TestContext.Current.CancellationToken);
            await using var command = new NpgsqlCommand(
                """
                INSERT INTO usage_limits (enterprise_id, limit_id, feature_name, scope, limit_value, window_type, action, status, version,
                                          created_by, created_at, updated_at)
                VALUES ($1, $2, $3, $4, $5, 'MONTHLY', 'ALERT', 'ACTIVE', 1, $1, now(), now())
                """,
                connection
            )
            {
                Parameters =
                {
                    new() { Value = acme.EnterpriseId },
                    new() { Value = limitId },
                    new() { Value = feature },
                    new() { Value = scope },
                    new() { Value = value },
                },
            };
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        // Any change of the enterprise's identity that goes through the server is noticed at once by the same server.
        await acme.CreateKeyAsync("usage:read");
        return limitId;
    }

    private async Task<HttpClient> SignInAsync(Acme acme)
    {
        var browser = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false })
        {
            BaseAddress = fixture.Server.Client.BaseAddress,
        };
        browser.DefaultRequestHeaders.Accept.ParseAdd("text/html");
        browser.DefaultRequestHeaders.Add("Origin", browser.BaseAddress!.GetLeftPart(UriPartial.Authority));
        await SubmitAsync(
            browser,
            "/sign-in",
            HttpStatusCode.SeeOther,
            [("email", acme.Admin.User.Email), ("password", Acme.AdminPassword)],
            formAt: "/sign-in"
        );
        return browser;
    }

    private static Task<string> GetPageAsync(HttpClient browser, string path) =>
        browser.GetStringAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken);

    private static async Task SubmitAsync(
        HttpClient browser,
        string path,
        HttpStatusCode expected,
        IEnumerable<(string Name, string Value)> fields,
        string formAt = "/violations"
    )
    {
        string token = FormToken().Match(await GetPageAsync(browser, formAt)).Groups[1].Value;
        using var content = new FormUrlEncodedContent(
            fields.Append(("_form", token)).Select(field => KeyValuePair.Create(field.Item1, field.Item2))
        );
        using HttpResponseMessage response = await browser.PostAsync(
            new Uri(path, UriKind.Relative),
            content,
            TestContext.Current.CancellationToken
        );
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.StatusCode == expected, $"{path}: {response.StatusCode}: {body}");
        if (expected == HttpStatusCode.SeeOther && path != "/sign-in")
        {
            Assert.StartsWith("/violations", response.Headers.Location!.OriginalString, StringComparison.Ordinal);
        }
    }

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();

    [GeneratedRegex("name=\"ids\" value=\"([^\"]+)\"")]
    private static partial Regex Ticks();
}
