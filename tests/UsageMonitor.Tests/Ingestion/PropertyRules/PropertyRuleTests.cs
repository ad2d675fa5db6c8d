using System.Net;
using System.Net.Http.Json;
using System.Text;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Ingestion.PropertyRules;

/// <summary>Property rules from the admin to the log, over HTTP.</summary>
public sealed class PropertyRuleTests(ServerFixture fixture, Engines engines) : IClassFixture<ServerFixture>
{
    private const string Address = "/v1/admin/privacy/property-rules";
    private const string Secret = "a-value-that-must-not-be-kept";

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("ACCEPTED")]
    [InlineData("BLOCKED")]
    [InlineData("RESERVED")]
    [InlineData("RECLASSIFIED")]
    public async Task Log_WhenAPropertyIsDropped_ShouldNeverHoldIt(string way)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await CreateAsync(acme, new("secret*", "DROP"));
        await CreateAsync(acme, new("email", "MASK"));
        object properties = new
        {
            secretNote = Secret,
            nested = new { SECRET = Secret },
            email = Secret,
            pages = 3,
        };
        if (way is "BLOCKED" or "RECLASSIFIED")
        {
            await ForbidAsync(acme);
        }

        if (way == "RESERVED")
        {
            await ReserveAsync(acme, properties);
        }
        else
        {
            using HttpResponseMessage sent = await acme.PostAsync(
                JsonContent.Create(
                    new[]
                    {
                        new
                        {
                            userId = "ana",
                            featureName = "export",
                            properties,
                        },
                    }
                )
            );
            IngestResponse answer = await RunningServer.ReadAsync<IngestResponse>(sent, HttpStatusCode.Accepted);
            await acme.ProcessedAsync();
            if (way == "RECLASSIFIED")
            {
                // What was forbidden only afterwards is not kept again either.
                await CreateAsync(acme, new("pages", "DROP"));
                await Eventually.TrueAsync(
                    async () =>
                    {
                        using HttpResponseMessage known = await SendAsync(
                            acme,
                            HttpMethod.Get,
                            $"/v1/admin/decisions/{answer.Blocked![0].ReceiptId}",
                            null
                        );
                        return known.StatusCode == HttpStatusCode.OK;
                    },
                    "the refusal is kept"
                );
                using HttpResponseMessage counted = await SendAsync(
                    acme,
                    HttpMethod.Post,
                    $"/v1/admin/decisions/{answer.Blocked![0].ReceiptId}/reclassify",
                    new ReclassifyRequest("agreed")
                );
                Assert.Equal(HttpStatusCode.OK, counted.StatusCode);
            }
        }

        await acme.ProcessedAsync();
        string[] kept = await LogAsync(acme);

        Assert.NotEmpty(kept);
        Assert.All(kept, text => Assert.DoesNotContain(Secret, text, StringComparison.Ordinal));
        Assert.Matches("\"email\":\"masked:[0-9a-f]{16}\"", kept[0]);
        Assert.Contains("\"pages\":3", kept[0], StringComparison.Ordinal);
        if (way == "RECLASSIFIED")
        {
            Assert.DoesNotContain("pages", kept[^1], StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Post_WhenARetryComesAfterTheRulesChanged_ShouldCountOnce()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        object[] events =
        [
            new
            {
                userId = "ana",
                featureName = "export",
                eventId = Guid.NewGuid(),
                properties = new { secret = Secret },
            },
        ];
        using HttpResponseMessage first = await acme.PostAsync(JsonContent.Create(events));
        await CreateAsync(acme, new("secret", "DROP"));
        using HttpResponseMessage second = await acme.PostAsync(JsonContent.Create(events));

        await acme.ProcessedAsync();
        LedgerCounts ledger = await acme.LedgerAsync();
        Assert.Equal((1L, 1L), (ledger.Stored, ledger.Duplicate));
    }

    [Fact]
    public async Task Rules_WhenMadeOnAnotherInstance_ShouldHoldHereWithinMoments()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await using RunningServer beside = await fixture.Server.StartBesideAsync(engines);
        PropertyRuleSets sets = beside.Services.GetRequiredService<PropertyRuleSets>();
        Assert.True((await sets.FindAsync(acme.EnterpriseId, Cancelled)).IsOpen);

        await CreateAsync(acme, new("secret", "DROP"));

        await Eventually.TrueAsync(
            async () => !(await sets.FindAsync(acme.EnterpriseId, Cancelled)).IsOpen,
            "the other instance knows the rule"
        );
    }

    [Fact]
    public async Task Rules_WhenChanged_ShouldBeListedVersionedAndExplainedByThePreview()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        PropertyRuleResponse made = await CreateAsync(acme, new("note", "DROP", "export"));
        using HttpResponseMessage taken = await SendAsync(
            acme,
            HttpMethod.Post,
            Address,
            new PropertyRuleRequest("NOTE", "ALLOW", "export")
        );
        await RunningServer.AssertProblemAsync(taken, 409, "property_rule_exists");
        using HttpResponseMessage changed = await SendAsync(
            acme,
            HttpMethod.Put,
            $"{Address}/{made.RuleId}",
            new PropertyRuleRequest("note", "MASK", Version: 1)
        );
        Assert.Equal(2, (await RunningServer.ReadAsync<PropertyRuleResponse>(changed, HttpStatusCode.OK)).Version);
        using HttpResponseMessage late = await SendAsync(
            acme,
            HttpMethod.Put,
            $"{Address}/{made.RuleId}",
            new PropertyRuleRequest("note", "DROP", Version: 1)
        );
        await RunningServer.AssertProblemAsync(late, 409, "version_conflict");
        using HttpResponseMessage set = await SendAsync(
            acme,
            HttpMethod.Put,
            Address + "/defaults",
            new PropertyDefaultsRequest("DROP", "DROP")
        );
        Assert.Equal(HttpStatusCode.OK, set.StatusCode);
        await CreateAsync(acme, new("pages", "ALLOW"));

        using HttpResponseMessage response = await SendAsync(
            acme,
            HttpMethod.Post,
            Address + "/preview",
            new
            {
                @event = new
                {
                    userId = "ana",
                    featureName = "search",
                    properties = new
                    {
                        note = "x",
                        pages = 3,
                        other = 1,
                    },
                },
            }
        );

        PropertyPreviewResponse preview = await RunningServer.ReadAsync<PropertyPreviewResponse>(
            response,
            HttpStatusCode.OK
        );
        Assert.Matches("""^\{"note":"masked:[0-9a-f]{16}","pages":3\}$""", preview.Properties!.Value.GetRawText());
        Assert.Equal(
            [("note", "MASK", "RULE"), ("other", "DROP", "DEFAULT")],
            preview.Changes.Select(change => (change.Path, change.Action, change.Because))
        );
        using HttpResponseMessage listed = await SendAsync(acme, HttpMethod.Get, Address, null);
        PropertyRulesResponse list = await RunningServer.ReadAsync<PropertyRulesResponse>(listed, HttpStatusCode.OK);
        Assert.Equal(["note", "pages"], list.Rules.Select(rule => rule.Property));
        Assert.Equal(("DROP", "DROP", "ALLOW"), (list.Defaults.Default, list.Defaults.Emails, list.Defaults.Cards));
        using HttpResponseMessage deleted = await SendAsync(acme, HttpMethod.Delete, $"{Address}/{made.RuleId}", null);
        Assert.Equal(HttpStatusCode.NoContent, deleted.StatusCode);
    }

    [Theory]
    [InlineData("""{"action":"DROP"}""")]
    [InlineData("""{"property":"","action":"DROP"}""")]
    [InlineData("""{"property":"*","action":"DROP"}""")]
    [InlineData("""{"property":"a*b","action":"DROP"}""")]
    [InlineData("""{"property":"a","action":"HIDE"}""")]
    [InlineData("""{"property":"a","action":"DROP","featureName":""}""")]
    [InlineData("""{"property":"a\u0000","action":"DROP"}""")]
    [InlineData("""{"property":5}""")]
    public async Task Create_WhenTheRuleIsWrong_ShouldSaySo(string body)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Post,
            Address,
            acme.Admin.AccessToken,
            new StringContent(body, Encoding.UTF8, "application/json")
        );

        await RunningServer.AssertProblemAsync(response, 400, "invalid_request");
    }

    [Fact]
    public async Task Rules_WhenTheyAreAnothers_ShouldNotHoldAndNotBeThere()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        PropertyRuleResponse rule = await CreateAsync(acme, new("pages", "DROP"));
        foreach (HttpMethod method in new[] { HttpMethod.Put, HttpMethod.Delete })
        {
            using HttpResponseMessage response = await SendAsync(
                other,
                method,
                $"{Address}/{rule.RuleId}",
                method == HttpMethod.Put ? new PropertyRuleRequest("pages", "ALLOW") : null
            );
            await RunningServer.AssertProblemAsync(response, 404, "not_found");
        }

        using HttpResponseMessage sent = await other.PostAsync(
            JsonContent.Create(
                new[]
                {
                    new
                    {
                        userId = "ana",
                        featureName = "export",
                        properties = new { pages = 3 },
                    },
                }
            )
        );
        await other.ProcessedAsync();
        Assert.Contains("\"pages\":3", Assert.Single(await LogAsync(other)), StringComparison.Ordinal);
        using HttpResponseMessage byKey = await fixture.Server.SendAsync(HttpMethod.Get, Address, acme.ApiKey);
        Assert.Equal(HttpStatusCode.Forbidden, byKey.StatusCode);
    }

    private async Task<PropertyRuleResponse> CreateAsync(Acme acme, PropertyRuleRequest rule)
    {
        using HttpResponseMessage response = await SendAsync(acme, HttpMethod.Post, Address, rule);
        return await RunningServer.ReadAsync<PropertyRuleResponse>(response, HttpStatusCode.Created);
    }

    private Task<HttpResponseMessage> SendAsync(Acme acme, HttpMethod method, string path, object? body) =>
        fixture.Server.SendAsync(
            method,
            path,
            acme.Admin.AccessToken,
            body is null ? null : JsonContent.Create(body, body.GetType())
        );

    private async Task ForbidAsync(Acme acme)
    {
        using HttpResponseMessage response = await SendAsync(
            acme,
            HttpMethod.Post,
            "/v1/admin/policies",
            new PolicyRequest("No export", "FORBID", Features: ["export"])
        );
        Assert.Equal(HttpStatusCode.Created, response.StatusCode);
    }

    private async Task ReserveAsync(Acme acme, object properties)
    {
        using HttpResponseMessage held = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/reservations",
            acme.ApiKey,
            JsonContent.Create(new ReserveRequest("ana", "export"))
        );
        ReserveResponse reserved = await RunningServer.ReadAsync<ReserveResponse>(held, HttpStatusCode.Created);
        using HttpResponseMessage committed = await fixture.Server.SendAsync(
            HttpMethod.Post,
            $"/v1/usage/reservations/{reserved.ReservationId}/commit",
            acme.ApiKey,
            JsonContent.Create(new { properties })
        );
        Assert.Equal(HttpStatusCode.Accepted, committed.StatusCode);
    }

    /// <summary>All properties that the log holds of an enterprise, decompressed, in its order.</summary>
    private async Task<string[]> LogAsync(Acme acme)
    {
        EnterpriseInfo enterprise = (
            await fixture
                .Server.Services.GetRequiredService<EnterpriseDirectory>()
                .FindAsync(acme.EnterpriseId, Cancelled)
        )!;
        await using var owner = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString);
        await owner.OpenAsync(Cancelled);
        await using var command = new NpgsqlCommand(
            $"SELECT properties FROM log_segments WHERE log_partition = {enterprise.LogPartition} ORDER BY segment_offset",
            owner
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(Cancelled);
        var all = new List<string>();
        while (await reader.ReadAsync(Cancelled))
        {
            all.AddRange(
                SegmentCodec
                    .OpenAllProperties(enterprise, reader.GetFieldValue<byte[]>(0))
                    .Select(text => Encoding.UTF8.GetString(text.Span))
            );
        }

        return [.. all];
    }
}
