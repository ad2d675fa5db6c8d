using System.Net;
using System.Net.Http.Json;
using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Alerts;

/// <summary>A whole server with a mail server, whose webhooks may be on this machine.</summary>
public sealed class AlertingServerFixture(Engines engines) : IAsyncLifetime
{
    internal SmtpServer Mail { get; private set; } = null!;

    internal RunningServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Mail = await SmtpServer.StartAsync();
        Server = await RunningServer.StartAsync(
            engines,
            [.. Mail.Settings, ("Webhooks:AllowPrivateAddresses", "true")]
        );
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        await Mail.DisposeAsync();
    }
}

/// <summary>Rules, webhooks, the log and the page over HTTP.</summary>
public sealed partial class AlertApiTests(AlertingServerFixture fixture) : IClassFixture<AlertingServerFixture>
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private static AlertRuleRequest Rule(params string[] recipients) =>
        new("export*", "DAILY", AlertRule.Email, recipients, ThresholdPct: 80);

    [Fact]
    public async Task Rules_WhenMadeChangedAndDeleted_ShouldAnswerWhatTheyAre()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        AlertRuleResponse made = await SendAsync<AlertRuleResponse>(
            acme,
            HttpMethod.Post,
            "/v1/admin/alerts",
            Rule("Ops@Acme.example", "ops@acme.example", "b@acme.example"),
            HttpStatusCode.Created
        );
        Assert.Equal(["ops@acme.example", "b@acme.example"], made.Recipients);
        Assert.Equal(
            (80, null, null, "ACTIVE", 1),
            (made.ThresholdPct, made.ThresholdValue, made.Scope, made.Status, made.Version)
        );
        string path = $"/v1/admin/alerts/{made.AlertId}";
        Assert.Equivalent(made, await SendAsync<AlertRuleResponse>(acme, HttpMethod.Get, path));

        var change = new AlertRuleRequest(
            "*",
            "HOURLY",
            AlertRule.Email,
            ["c@acme.example"],
            null,
            50,
            "USER",
            "INACTIVE",
            1
        );
        AlertRuleResponse changed = await SendAsync<AlertRuleResponse>(acme, HttpMethod.Put, path, change);
        Assert.Equal(
            (2, 50, "USER", "INACTIVE"),
            (changed.Version, changed.ThresholdValue, changed.Scope, changed.Status)
        );
        await RefusedAsync(acme, HttpMethod.Put, path, change, 409, "version_conflict");
        Assert.Single((await SendAsync<AlertRuleListResponse>(acme, HttpMethod.Get, "/v1/admin/alerts")).Alerts);
        using HttpResponseMessage gone = await AskAsync(acme, HttpMethod.Delete, path);
        Assert.Equal(HttpStatusCode.NoContent, gone.StatusCode);
        await RefusedAsync(acme, HttpMethod.Get, path, null, 404, "not_found");
    }

    [Fact]
    public async Task Rules_WhenRecipientsCannotBeRead_ShouldShowThemAsBrokenUntilTheyAreGivenAgain()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        AlertRuleResponse made = await SendAsync<AlertRuleResponse>(
            acme,
            HttpMethod.Post,
            "/v1/admin/alerts",
            Rule("a@acme.example"),
            HttpStatusCode.Created
        );
        await using var owner = NpgsqlDataSource.Create(fixture.Server.Database.OwnerConnectionString);
        await using NpgsqlCommand spoil = owner.CreateCommand(
            "UPDATE usage_alerts SET recipients = sha256(recipients) WHERE alert_id = $1"
        );
        spoil.Parameters.AddWithValue(made.AlertId);
        await spoil.ExecuteNonQueryAsync(Stop);

        string path = $"/v1/admin/alerts/{made.AlertId}";
        AlertRuleResponse broken = await SendAsync<AlertRuleResponse>(acme, HttpMethod.Get, path);
        Assert.Equal(("BROKEN", 0), (broken.Status, broken.Recipients.Count));
        Assert.Equal(
            "BROKEN",
            Assert
                .Single((await SendAsync<AlertRuleListResponse>(acme, HttpMethod.Get, "/v1/admin/alerts")).Alerts)
                .Status
        );
        using HttpClient browser = await SignInAsync(acme);
        Assert.Contains(
            ">Broken<",
            await browser.GetStringAsync(new Uri("/alerts", UriKind.Relative), Stop),
            StringComparison.Ordinal
        );

        AlertRuleResponse mended = await SendAsync<AlertRuleResponse>(
            acme,
            HttpMethod.Put,
            path,
            Rule("b@acme.example")
        );
        Assert.Equal(("ACTIVE", 2), (mended.Status, mended.Version));
        Assert.Equivalent(mended, await SendAsync<AlertRuleResponse>(acme, HttpMethod.Get, path));
    }

    [Fact]
    public async Task CreateRule_WhenThereAreAsManyAsThereMayBe_ShouldRefuseAnother()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await SendAsync<AlertRuleResponse>(
            acme,
            HttpMethod.Post,
            "/v1/admin/alerts",
            Rule([.. Enumerable.Range(0, AlertRuleDraft.RecipientsMax).Select(i => $"a{i}@acme.example")]),
            HttpStatusCode.Created
        );
        await using var owner = NpgsqlDataSource.Create(fixture.Server.Database.OwnerConnectionString);
        await using NpgsqlCommand fill = owner.CreateCommand(
            """
            INSERT INTO usage_alerts
            SELECT (a).* FROM (SELECT jsonb_populate_record(u, jsonb_build_object('alert_id', gen_random_uuid())) AS a
                                 FROM usage_alerts AS u CROSS JOIN generate_series(2, $2) WHERE u.enterprise_id = $1) AS copies
            """
        );
        fill.Parameters.AddWithValue(acme.EnterpriseId);
        fill.Parameters.AddWithValue(AlertRuleWriter.RulesMax - 1);
        await fill.ExecuteNonQueryAsync(Stop);

        await SendAsync<AlertRuleResponse>(
            acme,
            HttpMethod.Post,
            "/v1/admin/alerts",
            Rule("the-last@acme.example"),
            HttpStatusCode.Created
        );
        await RefusedAsync(
            acme,
            HttpMethod.Post,
            "/v1/admin/alerts",
            Rule("one-more@acme.example"),
            409,
            "too_many_alerts"
        );

        for (int i = 0; i < Webhook.WebhooksMax; i++)
        {
            await MakeWebhookAsync(acme, $"hook {i}", "http://127.0.0.1:9/");
        }

        await RefusedAsync(
            acme,
            HttpMethod.Post,
            "/v1/admin/webhooks",
            new WebhookRequest("one more", "http://127.0.0.1:9/"),
            409,
            "too_many_webhooks"
        );
    }

    [Fact]
    public async Task CreateRule_WhenSomethingIsWrong_ShouldNameTheField()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        AlertRuleRequest good = Rule("a@acme.example");
        (AlertRuleRequest Request, string Field)[] wrong =
        [
            (good with { FeatureName = "a*b" }, "featureName"),
            (good with { FeatureName = " " }, "featureName"),
            (good with { ThresholdValue = 5 }, "thresholdPct"),
            (good with { ThresholdPct = null }, "thresholdPct"),
            (good with { ThresholdPct = 1_001 }, "thresholdPct"),
            (good with { ThresholdPct = null, ThresholdValue = 0 }, "thresholdValue"),
            (good with { Scope = "USER" }, "scope"),
            (good with { ThresholdPct = null, ThresholdValue = 5, Scope = "ROLE" }, "scope"),
            (good with { WindowType = "WEEKLY" }, "windowType"),
            (good with { Notification = "PIGEON" }, "notification"),
            (good with { Status = "ON" }, "status"),
            (good with { Recipients = [] }, "recipients"),
            (good with { Recipients = [.. Enumerable.Range(0, 21).Select(i => $"a{i}@acme.example")] }, "recipients"),
            (good with { Recipients = ["a@acme.example\r\nBcc: b@acme.example"] }, "recipients"),
            (good with { Recipients = ["a@acme.example, b@acme.example"] }, "recipients"),
            (good with { Notification = AlertRule.Webhook, Recipients = [Guid.NewGuid().ToString()] }, "recipients"),
        ];

        foreach ((AlertRuleRequest request, string field) in wrong)
        {
            string detail = await RefusedAsync(
                acme,
                HttpMethod.Post,
                "/v1/admin/alerts",
                request,
                400,
                "invalid_request"
            );
            Assert.StartsWith(field + ":", detail, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Webhooks_WhenAnotherEnterpriseNamesThem_ShouldBeAsIfTheyDidNotExist()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        WebhookSecretResponse made = await MakeWebhookAsync(acme, "hook", "http://127.0.0.1:9/");
        string path = $"/v1/admin/webhooks/{made.Webhook.WebhookId}";
        var request = new WebhookRequest("mine", "http://127.0.0.1:9/");

        await RefusedAsync(other, HttpMethod.Get, path, null, 404, "not_found");
        await RefusedAsync(other, HttpMethod.Put, path, request, 404, "not_found");
        await RefusedAsync(other, HttpMethod.Delete, path, null, 404, "not_found");
        await RefusedAsync(other, HttpMethod.Post, path + "/rotate-secret", null, 404, "not_found");
        await RefusedAsync(other, HttpMethod.Post, path + "/test", null, 404, "not_found");
        foreach (string name in new[] { "hook", made.Webhook.WebhookId.ToString() })
        {
            AlertRuleRequest rule = Rule(name) with { Notification = AlertRule.Webhook };
            await RefusedAsync(other, HttpMethod.Post, "/v1/admin/alerts", rule, 400, "invalid_request");
        }

        AlertRuleResponse own = await SendAsync<AlertRuleResponse>(
            acme,
            HttpMethod.Post,
            "/v1/admin/alerts",
            Rule("HOOK") with
            {
                Notification = AlertRule.Webhook,
            },
            HttpStatusCode.Created
        );
        Assert.Equal([made.Webhook.WebhookId.ToString()], own.Recipients);
        await RefusedAsync(acme, HttpMethod.Delete, path, null, 409, "webhook_in_use");
        await RefusedAsync(
            acme,
            HttpMethod.Post,
            "/v1/admin/webhooks",
            request with
            {
                Name = "Hook",
            },
            409,
            "name_taken"
        );
    }

    [Fact]
    public async Task RotateSecret_WhenDone_ShouldSignWithBothSecrets()
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        Acme acme = await Acme.CreateAsync(fixture.Server);
        WebhookSecretResponse made = await MakeWebhookAsync(acme, "hook", receiver.Url);
        string path = $"/v1/admin/webhooks/{made.Webhook.WebhookId}";
        Assert.Matches("^whsec_[A-Za-z0-9+/]{43}=$", made.Secret);

        WebhookSecretResponse rotated = await SendAsync<WebhookSecretResponse>(
            acme,
            HttpMethod.Post,
            path + "/rotate-secret"
        );
        await SendAsync<DeliveryAcceptedResponse>(acme, HttpMethod.Post, path + "/test", null, HttpStatusCode.Accepted);
        await Eventually.TrueAsync(() => receiver.Posts.Count == 1, "the test arrives");

        WebhookReceiver.Posted posted = receiver.Posts[0];
        Assert.NotEqual(made.Secret, rotated.Secret);
        Assert.True(posted.IsSignedBy(made.Secret) && posted.IsSignedBy(rotated.Secret));
        Assert.Equal(2, posted.Signature.Split(' ').Length);
        Assert.Contains("\"type\":\"test\"", posted.Body, StringComparison.Ordinal);
        TimeSpan overlap = rotated.Webhook.FormerSecretUntil!.Value - rotated.Webhook.UpdatedAt;
        Assert.Equal(TimeSpan.FromHours(24), overlap);
    }

    [Fact]
    public async Task Secrets_WhenKept_ShouldBeSealedAndShownToNobody()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        WebhookSecretResponse made = await MakeWebhookAsync(acme, "hook", "http://127.0.0.1:9/a-token-in-the-path");
        await SendAsync<AlertRuleResponse>(
            acme,
            HttpMethod.Post,
            "/v1/admin/alerts",
            Rule("secret@acme.example"),
            HttpStatusCode.Created
        );
        byte[] secret = Convert.FromBase64String(made.Secret["whsec_".Length..]);

        await using var owner = NpgsqlDataSource.Create(fixture.Server.Database.OwnerConnectionString);
        await using NpgsqlCommand dump = owner.CreateCommand(
            "SELECT string_agg(w::text, '') || (SELECT string_agg(a::text, '') FROM usage_alerts a) FROM webhooks w"
        );
        string kept = (string)(await dump.ExecuteScalarAsync(Stop))!;

        foreach (byte[] clear in new[] { secret, "a-token-in-the-path"u8.ToArray(), "secret@acme.example"u8.ToArray() })
        {
            Assert.DoesNotContain(Convert.ToHexStringLower(clear), kept, StringComparison.Ordinal);
        }

        string list = await (await AskAsync(acme, HttpMethod.Get, "/v1/admin/webhooks")).Content.ReadAsStringAsync(
            Stop
        );
        Assert.Contains("a-token-in-the-path", list, StringComparison.Ordinal); // to who may change it
        Assert.DoesNotContain("whsec_", list, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Deliveries_WhenAnAlertWasOpened_ShouldArriveBeLoggedAndBeSentAgain()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        string address = $"ops-{Guid.NewGuid():N}@acme.example";
        Guid alertEventId = await OpenAlertAsync(acme, address);

        MimeKit.MimeMessage mail = await fixture.Mail.MailAsync(address, "[HIGH] export.pdf");
        Assert.Contains("What to do", mail.TextBody, StringComparison.Ordinal);
        DeliveryResponse first = null!;
        await Eventually.TrueAsync(
            async () =>
            {
                var log = await SendAsync<DeliveryListResponse>(acme, HttpMethod.Get, "/v1/admin/alerts/deliveries");
                first = Assert.Single(log.Deliveries);
                return first.State == "DELIVERED";
            },
            "the log tells that it arrived"
        );
        Assert.Equal((address, "OPENED", 1), (first.Recipient, first.Cause, first.Attempts));
        Assert.Equal(("DELIVERED", 250), (first.AttemptLog[0].Outcome, first.AttemptLog[0].StatusCode));

        string resend = $"/v1/admin/alerts/deliveries/{first.DeliveryId}/resend";
        DeliveryAcceptedResponse again = await SendAsync<DeliveryAcceptedResponse>(
            acme,
            HttpMethod.Post,
            resend,
            null,
            HttpStatusCode.Accepted
        );
        MimeKit.MimeMessage second = await fixture.Mail.MailAsync(address, "[HIGH]", number: 2);
        Assert.Equal(
            new[] { first.DeliveryId.ToString("N"), again.DeliveryId.ToString("N") }.Order(),
            fixture.Mail.MailsTo(address).Select(each => each.MessageId!.Split('@')[0]).Order()
        );
        Assert.Equal(mail.TextBody, second.TextBody);

        AlertEventResponse alert = await SendAsync<AlertEventResponse>(
            acme,
            HttpMethod.Get,
            $"/v1/dashboard/alerts/{alertEventId}"
        );
        Assert.Equal(
            ("HIGH", "export.pdf", null, 2),
            (alert.Severity, alert.FeatureName, alert.Subject, alert.Deliveries.Count)
        );
        Assert.Single(
            (
                await SendAsync<AlertEventListResponse>(
                    acme,
                    HttpMethod.Get,
                    "/v1/dashboard/alerts?open=true&severity=HIGH&feature=export.pdf"
                )
            ).Alerts
        );
        Assert.Empty(
            (await SendAsync<AlertEventListResponse>(acme, HttpMethod.Get, "/v1/dashboard/alerts?open=false")).Alerts
        );
        Assert.Empty(
            (
                await SendAsync<DeliveryListResponse>(acme, HttpMethod.Get, "/v1/admin/alerts/deliveries?state=FAILED")
            ).Deliveries
        );

        Acme other = await Acme.CreateAsync(fixture.Server);
        await RefusedAsync(other, HttpMethod.Post, resend, null, 404, "not_found");
        await RefusedAsync(other, HttpMethod.Get, $"/v1/dashboard/alerts/{alertEventId}", null, 404, "not_found");
        Assert.Empty((await SendAsync<AlertEventListResponse>(other, HttpMethod.Get, "/v1/dashboard/alerts")).Alerts);
    }

    [Fact]
    public async Task Lists_WhenThereAreMoreThanAPage_ShouldGoOnWhereItEnded()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        for (int i = 0; i < 3; i++)
        {
            await OpenAlertAsync(acme, $"page-{i}@acme.example");
        }

        var alerts = new List<Guid>();
        var deliveries = new List<Guid>();
        (string alertsAt, string deliveriesAt) = ("", "");
        for (int page = 0; page < 2; page++)
        {
            AlertEventListResponse some = await SendAsync<AlertEventListResponse>(
                acme,
                HttpMethod.Get,
                "/v1/dashboard/alerts?limit=2" + alertsAt
            );
            DeliveryListResponse log = await SendAsync<DeliveryListResponse>(
                acme,
                HttpMethod.Get,
                "/v1/admin/alerts/deliveries?limit=2" + deliveriesAt
            );
            alerts.AddRange(some.Alerts.Select(alert => alert.AlertEventId));
            deliveries.AddRange(log.Deliveries.Select(delivery => delivery.DeliveryId));
            Assert.Equal(page == 1, some.Next is null && log.Next is null);
            (alertsAt, deliveriesAt) = ($"&before={some.Next}", $"&before={log.Next}");
        }

        Assert.Equal((3, 3), (alerts.Distinct().Count(), deliveries.Distinct().Count()));
        Assert.Equal(alerts.OrderDescending(), alerts);
    }

    [Fact]
    public async Task Test_WhenAskedForWithoutEnd_ShouldBeRefused()
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        Acme acme = await Acme.CreateAsync(fixture.Server);
        WebhookSecretResponse made = await MakeWebhookAsync(acme, "hook", receiver.Url);
        string path = $"/v1/admin/webhooks/{made.Webhook.WebhookId}/test";

        for (int i = 0; i < DeliveryWriter.AskedPerMinuteMax; i++)
        {
            await SendAsync<DeliveryAcceptedResponse>(acme, HttpMethod.Post, path, null, HttpStatusCode.Accepted);
        }

        await RefusedAsync(acme, HttpMethod.Post, path, null, 429, "too_many_deliveries");
    }

    [Fact]
    public async Task Page_WhenAnAdminUsesItsForms_ShouldMakeRulesAndWebhooksAndSendAgain()
    {
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpClient browser = await SignInAsync(acme);
        Assert.Contains(
            "No rules yet",
            await browser.GetStringAsync(new Uri("/alerts", UriKind.Relative), Stop),
            StringComparison.Ordinal
        );

        string made = await PostFormAsync(browser, "/alerts/webhooks", 200, ("name", "<Chat>"), ("url", receiver.Url));
        string secret = ShownSecret().Match(made).Value;
        Assert.NotEmpty(secret);
        string wrong = await PostFormAsync(
            browser,
            "/alerts/rules",
            400,
            ("featureName", "x"),
            ("threshold", "many"),
            ("of", "PCT"),
            ("windowType", "DAILY"),
            ("notification", "WEBHOOK"),
            ("recipients", "<Chat>")
        );
        Assert.Contains("Threshold: must be from 1 to 1000", wrong, StringComparison.Ordinal);
        await PostFormAsync(
            browser,
            "/alerts/rules",
            303,
            ("featureName", "x"),
            ("threshold", "90"),
            ("of", "PCT"),
            ("windowType", "DAILY"),
            ("notification", "WEBHOOK"),
            ("recipients", "<Chat>\r\n")
        );
        AlertRuleResponse rule = Assert.Single(
            (await SendAsync<AlertRuleListResponse>(acme, HttpMethod.Get, "/v1/admin/alerts")).Alerts
        );
        WebhookResponse webhook = Assert.Single(
            (await SendAsync<WebhookListResponse>(acme, HttpMethod.Get, "/v1/admin/webhooks")).Webhooks
        );
        Assert.Equal([webhook.WebhookId.ToString()], rule.Recipients);
        string page = await browser.GetStringAsync(new Uri($"/alerts?rule={rule.AlertId}", UriKind.Relative), Stop);
        Assert.Contains("90% of each limit", page, StringComparison.Ordinal);
        Assert.Contains("&lt;Chat&gt;", page, StringComparison.Ordinal);
        Assert.Contains("Save the change", page, StringComparison.Ordinal);
        Assert.DoesNotContain("whsec_", page, StringComparison.Ordinal);

        await PostFormAsync(browser, $"/alerts/webhooks/{webhook.WebhookId}/test", 303);
        await Eventually.TrueAsync(() => receiver.Posts.Count == 1, "the test arrives");
        Assert.True(receiver.Posts[0].IsSignedBy(WebUtility.HtmlDecode(secret)));
        string deliveryId = "";
        await Eventually.TrueAsync(
            async () =>
            {
                string log = await browser.GetStringAsync(new Uri("/alerts", UriKind.Relative), Stop);
                deliveryId = ResendForm().Match(log).Groups[1].Value;
                return log.Contains("Arrived", StringComparison.Ordinal) && deliveryId.Length > 0;
            },
            "the page tells that it arrived"
        );
        await PostFormAsync(browser, $"/alerts/deliveries/{deliveryId}/resend", 303);
        await Eventually.TrueAsync(() => receiver.Posts.Count == 2, "it arrives again");
        await PostFormAsync(browser, $"/alerts/webhooks/{webhook.WebhookId}/delete", 409);
        await PostFormAsync(browser, $"/alerts/rules/{rule.AlertId}/delete", 303);
        await PostFormAsync(browser, $"/alerts/webhooks/{webhook.WebhookId}/delete", 303);
        Assert.Empty((await SendAsync<WebhookListResponse>(acme, HttpMethod.Get, "/v1/admin/webhooks")).Webhooks);
    }

    private Task<WebhookSecretResponse> MakeWebhookAsync(Acme acme, string name, string url) =>
        SendAsync<WebhookSecretResponse>(
            acme,
            HttpMethod.Post,
            "/v1/admin/webhooks",
            new WebhookRequest(name, url),
            HttpStatusCode.Created
        );

    // As processing does: the alert and its delivery in one transaction.
    private async Task<Guid> OpenAlertAsync(Acme acme, string address)
    {
        DateTime now = TimeProvider.System.GetUtcNow().UtcDateTime;
        AlertNotice notice = AlertMailTests.Notice(now) with { Subject = null, Scope = "ENTERPRISE" };
        EnterpriseInfo enterprise = (
            await fixture.Server.Services.GetRequiredService<EnterpriseDirectory>().FindAsync(acme.EnterpriseId, Stop)
        )!;
        NpgsqlDataSource pipeline = fixture.Server.Services.GetRequiredService<Database>().Pipeline;
        await using NpgsqlBatch batch = pipeline.CreateBatch();
        var insert = new NpgsqlBatchCommand(
            """
            INSERT INTO alert_events (enterprise_id, alert_event_id, alert_id, limit_id, subject_id, feature_name, scope, window_type,
                window_start, window_end, severity, threshold, limit_value, used, opened_at)
            VALUES ($1, $2, $2, $3, $3, 'export.pdf', 'ENTERPRISE', 'DAILY', $4, $5, 'HIGH', 1000, 1000, 1000, $4)
            """
        );
        object[] values = [acme.EnterpriseId, notice.AlertEventId, Guid.Empty, now, now.AddDays(1)];
        Array.ForEach(values, value => insert.Parameters.Add(new NpgsqlParameter { Value = value }));
        batch.BatchCommands.Add(insert);
        batch.BatchCommands.Add(
            AlertOutbox.Insert([new NewDelivery(enterprise, AlertRule.Email, address, notice, NewDelivery.Opened)])
        );
        await batch.ExecuteNonQueryAsync(Stop);
        fixture.Server.Services.GetRequiredService<DeliverySignal>().Wake();
        return notice.AlertEventId;
    }

    private Task<HttpResponseMessage> AskAsync(Acme acme, HttpMethod method, string path, object? body = null) =>
        fixture.Server.SendAsync(method, path, acme.Admin.AccessToken, body is null ? null : JsonContent.Create(body));

    private async Task<T> SendAsync<T>(
        Acme acme,
        HttpMethod method,
        string path,
        object? body = null,
        HttpStatusCode expected = HttpStatusCode.OK
    )
    {
        using HttpResponseMessage response = await AskAsync(acme, method, path, body);
        return await RunningServer.ReadAsync<T>(response, expected);
    }

    private async Task<string> RefusedAsync(
        Acme acme,
        HttpMethod method,
        string path,
        object? body,
        int status,
        string code
    )
    {
        using HttpResponseMessage response = await AskAsync(acme, method, path, body);
        return await RunningServer.AssertProblemAsync(response, status, code);
    }

    private async Task<HttpClient> SignInAsync(Acme acme)
    {
        var browser = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false })
        {
            BaseAddress = fixture.Server.Client.BaseAddress,
        };
        browser.DefaultRequestHeaders.Accept.ParseAdd("text/html");
        browser.DefaultRequestHeaders.Add("Origin", browser.BaseAddress!.GetLeftPart(UriPartial.Authority));
        await PostFormAsync(
            browser,
            "/sign-in",
            303,
            ("email", acme.Admin.User.Email),
            ("password", Acme.AdminPassword)
        );
        return browser;
    }

    private static async Task<string> PostFormAsync(
        HttpClient browser,
        string path,
        int expected,
        params (string Name, string Value)[] fields
    )
    {
        string formAt = path == "/sign-in" ? path : "/alerts";
        string token = FormToken()
            .Match(await browser.GetStringAsync(new Uri(formAt, UriKind.Relative), Stop))
            .Groups[1]
            .Value;
        using var content = new FormUrlEncodedContent(
            fields.Append(("_form", token)).Select(field => KeyValuePair.Create(field.Item1, field.Item2))
        );
        using HttpResponseMessage response = await browser.PostAsync(new Uri(path, UriKind.Relative), content, Stop);
        string body = await response.Content.ReadAsStringAsync(Stop);
        Assert.True((int)response.StatusCode == expected, $"{path}: {response.StatusCode}: {body}");
        return body;
    }

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();

    [GeneratedRegex("whsec_[A-Za-z0-9+/&#;=]+")]
    private static partial Regex ShownSecret();

    [GeneratedRegex("/alerts/deliveries/([0-9a-f-]{36})/resend")]
    private static partial Regex ResendForm();
}
