using System.Net;
using System.Net.Http.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Anomalies;

/// <summary>Anomalies over HTTP: the list, what an admin says of one, the ranges and the settings.</summary>
public sealed class AnomalyTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private static readonly DateTime s_hour = DateTime.UtcNow.Date.AddHours(-12);

    [Fact]
    public async Task List_WhenFiltered_ShouldAnswerThosePageByPageNewestFirst()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        var user = Guid.NewGuid();
        Guid spike = await AddAsync(acme, "SPIKE", "export", s_hour);
        Guid drop = await AddAsync(acme, "DROP", "", s_hour.AddHours(1), status: "RESOLVED");
        Guid night = await AddAsync(acme, "UNUSUAL_HOURS", "", s_hour.AddHours(2), user);

        AnomalyListResponse first = await GetAsync<AnomalyListResponse>(acme, "?limit=2");
        Assert.Equal([night, drop], first.Anomalies.Select(one => one.AnomalyId));
        AnomalyListResponse second = await GetAsync<AnomalyListResponse>(acme, $"?limit=2&before={first.Next}");
        Assert.Equal([spike], second.Anomalies.Select(one => one.AnomalyId));
        Assert.Null(second.Next);

        Assert.Equal<Guid[]>([spike], await IdsAsync("?kind=SPIKE"));
        Assert.Equal<Guid[]>([spike], await IdsAsync("?feature=export"));
        Assert.Equal<Guid[]>([night], await IdsAsync($"?user={user}"));
        Assert.Equal<Guid[]>([drop], await IdsAsync("?open=false"));
        Assert.Equal<Guid[]>([night, spike], await IdsAsync("?open=true"));
        Assert.Equal<Guid[]>([], await IdsAsync("?from=2020-01-01&to=2020-02-01"));
        foreach (string wrong in new[] { "?kind=ODD", "?open=1", "?before=x", "?limit=0", "?from=yesterday" })
        {
            using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Get, wrong);
            await RunningServer.AssertProblemAsync(response, 400, "invalid_request");
        }

        AnomalyResponse one = await GetAsync<AnomalyResponse>(acme, $"/{night}");
        Assert.Equal(("UNUSUAL_HOURS", null, user.ToString()), (one.Kind, one.FeatureName, one.UserId));

        async Task<Guid[]> IdsAsync(string query) =>
            [.. (await GetAsync<AnomalyListResponse>(acme, query)).Anomalies.Select(each => each.AnomalyId)];
    }

    [Fact]
    public async Task Feedback_WhenItWasExpected_ShouldResolveItAndKeepTheNoteSealed()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Guid spike = await AddAsync(acme, "SPIKE", "export", s_hour);

        AnomalyResponse doubted = await AnswerAsync(new AnomalyFeedbackRequest(false, null));
        Assert.Equal(("OPEN", false), (doubted.Status, doubted.Feedback!.IsExpected));
        AnomalyResponse answered = await AnswerAsync(new AnomalyFeedbackRequest(true, " the yearly audit "));
        Assert.Equal("RESOLVED", answered.Status);
        Assert.NotNull(answered.ResolvedAt);
        Assert.Equal((true, "the yearly audit"), (answered.Feedback!.IsExpected, answered.Feedback.Note));
        Assert.NotNull(answered.Feedback.By);
        using HttpResponseMessage wrong = await SendAsync(
            acme,
            HttpMethod.Post,
            $"/{spike}/feedback",
            new AnomalyFeedbackRequest(null, "why")
        );
        await RunningServer.AssertProblemAsync(wrong, 400, "invalid_request");
        Assert.Equal(
            "0",
            await ScalarAsync("SELECT count(*)::text FROM anomalies WHERE position('audit'::bytea IN note) > 0")
        );

        async Task<AnomalyResponse> AnswerAsync(AnomalyFeedbackRequest request)
        {
            using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Post, $"/{spike}/feedback", request);
            return await RunningServer.ReadAsync<AnomalyResponse>(response, HttpStatusCode.OK);
        }
    }

    [Fact]
    public async Task Anomaly_WhenItIsAnotherEnterprises_ShouldBeAsOneThatIsNot()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        Guid spike = await AddAsync(acme, "SPIKE", "export", s_hour);

        Assert.Empty((await GetAsync<AnomalyListResponse>(other, "")).Anomalies);
        foreach (Guid id in new[] { spike, Guid.NewGuid() })
        {
            using HttpResponseMessage read = await SendAsync(other, HttpMethod.Get, $"/{id}");
            await RunningServer.AssertProblemAsync(read, 404, "not_found");
            using HttpResponseMessage answer = await SendAsync(
                other,
                HttpMethod.Post,
                $"/{id}/feedback",
                new AnomalyFeedbackRequest(true, null)
            );
            await RunningServer.AssertProblemAsync(answer, 404, "not_found");
        }

        Assert.Equal("OPEN", (await GetAsync<AnomalyResponse>(acme, $"/{spike}")).Status);
    }

    [Fact]
    public async Task Expected_WhenHoursWereFed_ShouldAnswerTheirRanges()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server, "UTC");
        await ScalarAsync(
            $"""
            INSERT INTO anomaly_expectations (enterprise_id, feature_name, time_bucket, series, expected, low, high, score)
            VALUES ('{acme.EnterpriseId}', 'a/b', '{s_hour:O}', 'USAGE', 10, -5, 20, 0.5), ('{acme.EnterpriseId}', '', '{s_hour:O}', 'USAGE', 40, 30, 50, 0.1)
            RETURNING feature_name
            """
        );

        using HttpResponseMessage one = await fixture.Server.SendAsync(
            HttpMethod.Get,
            "/v1/dashboard/expected?feature=a%2Fb",
            acme.Admin.AccessToken
        );
        ExpectedResponse range = await RunningServer.ReadAsync<ExpectedResponse>(one, HttpStatusCode.OK);
        using HttpResponseMessage all = await fixture.Server.SendAsync(
            HttpMethod.Get,
            "/v1/dashboard/expected",
            acme.Admin.AccessToken
        );
        ExpectedResponse allRange = await RunningServer.ReadAsync<ExpectedResponse>(all, HttpStatusCode.OK);

        Assert.Equal((0, 20), (range.Hours[0].Low, range.Hours[0].High));
        Assert.Equal((30, 50), (allRange.Hours[0].Low, allRange.Hours[0].High));
        Assert.Null(allRange.FeatureName);
    }

    [Fact]
    public async Task Settings_WhenChanged_ShouldHoldAndRefuseWhatIsWrong()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Assert.Equal("NORMAL", (await SettingsAsync(HttpMethod.Get, null, HttpStatusCode.OK))!.Sensitivity);

        await SettingsAsync(
            HttpMethod.Put,
            new AnomalySettings("HIGH", ["Ana@acme.example", "ana@acme.example"]),
            HttpStatusCode.OK
        );

        AnomalySettings kept = (await SettingsAsync(HttpMethod.Get, null, HttpStatusCode.OK))!;
        Assert.Equal("HIGH", kept.Sensitivity);
        Assert.Equal(["ana@acme.example"], kept.Recipients!);
        await SettingsAsync(HttpMethod.Put, new AnomalySettings("SOME", []), HttpStatusCode.BadRequest);
        await SettingsAsync(HttpMethod.Put, new AnomalySettings("LOW", ["nobody"]), HttpStatusCode.BadRequest);
        await SettingsAsync(HttpMethod.Put, new AnomalySettings("LOW", null), HttpStatusCode.BadRequest);
        await SettingsAsync(
            HttpMethod.Put,
            new AnomalySettings(
                "LOW",
                [.. Enumerable.Range(0, AnomalyLimits.RecipientsMax + 1).Select(i => $"a{i}@b.example")]
            ),
            HttpStatusCode.BadRequest
        );

        // A webhook by its name or id, and only one's own.
        using HttpResponseMessage made = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/webhooks",
            acme.Admin.AccessToken,
            JsonContent.Create(new WebhookRequest("Hook", "https://hooks.acme.example/"))
        );
        WebhookResponse hook = (
            await RunningServer.ReadAsync<WebhookSecretResponse>(made, HttpStatusCode.Created)
        ).Webhook;
        AnomalySettings named = (
            await SettingsAsync(
                HttpMethod.Put,
                new AnomalySettings("LOW", ["hook", hook.WebhookId.ToString(), "ben@acme.example"]),
                HttpStatusCode.OK
            )
        )!;
        Assert.Equal([hook.WebhookId.ToString(), "ben@acme.example"], named.Recipients!);
        await SettingsAsync(
            HttpMethod.Put,
            new AnomalySettings("LOW", [Guid.NewGuid().ToString()]),
            HttpStatusCode.BadRequest
        );

        async Task<AnomalySettings?> SettingsAsync(HttpMethod method, AnomalySettings? body, HttpStatusCode expected)
        {
            using HttpResponseMessage response = await fixture.Server.SendAsync(
                method,
                "/v1/admin/anomalies/settings",
                acme.Admin.AccessToken,
                body is null ? null : JsonContent.Create(body)
            );
            Assert.Equal(expected, response.StatusCode);
            return expected == HttpStatusCode.OK
                ? await RunningServer.ReadAsync<AnomalySettings>(response, expected)
                : null;
        }
    }

    private async Task<Guid> AddAsync(
        Acme acme,
        string kind,
        string feature,
        DateTime hour,
        Guid user = default,
        string status = "OPEN"
    )
    {
        var id = Guid.CreateVersion7(new DateTimeOffset(hour));
        await ScalarAsync(
            $"""
            INSERT INTO anomalies (enterprise_id, anomaly_id, kind, series, feature_name, user_id, starts_at, ends_at, observed, expected, low,
                                   high, score, status, detail, opened_at)
            VALUES ('{acme.EnterpriseId}', '{id}', '{kind}', '{(
                user == default ? "USAGE" : "USER"
            )}', '{feature}', '{user}', '{hour:O}',
                    '{hour.AddHours(1):O}', 90, 20, 10, 30, 0.9, '{status}', 'in words', '{hour:O}')
            RETURNING kind
            """
        );
        return id;
    }

    private async Task<string?> ScalarAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(sql, connection);
        return await command.ExecuteScalarAsync(TestContext.Current.CancellationToken) as string;
    }

    private async Task<T> GetAsync<T>(Acme acme, string rest)
    {
        using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Get, rest);
        return await RunningServer.ReadAsync<T>(response, HttpStatusCode.OK);
    }

    private Task<HttpResponseMessage> SendAsync(Acme acme, HttpMethod method, string rest, object? body = null) =>
        fixture.Server.SendAsync(
            method,
            "/v1/dashboard/anomalies" + rest,
            acme.Admin.AccessToken,
            body is null ? null : JsonContent.Create(body)
        );
}
