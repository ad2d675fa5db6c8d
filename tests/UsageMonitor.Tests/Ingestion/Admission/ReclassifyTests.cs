using System.Net;
using System.Net.Http.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Limits;
using Xunit;

namespace UsageMonitor.Tests.Ingestion.Admission;

/// <summary>What was refused counts after all, once, whoever asks and whatever fails on the way.</summary>
public sealed class ReclassifyTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const int AtOnce = 20;
    private readonly RunningServer _server = fixture.Server;

    [Fact]
    public async Task Reclassify_WhenAnEventWasRefused_ShouldCountItAsItWasSent()
    {
        Acme acme = await ForbiddingAsync();
        var eventId = Guid.NewGuid();
        Guid receipt = await RefusedAsync(acme, eventId);
        await acme.ProcessedAsync();
        Assert.Equal(2, (await acme.LedgerAsync()).Stored);

        DecisionResponse answer = await RunningServer.ReadAsync<DecisionResponse>(
            await ReclassifyAsync(acme, receipt, " agreed with Ana "),
            HttpStatusCode.OK
        );

        Assert.Equal("agreed with Ana", answer.Decision.ReclassifiedReason);
        Assert.NotNull(answer.Decision.ReclassifiedAt);
        await acme.ProcessedAsync();

        // Two events and the attempt were received once each, and the usage once more.
        LedgerCounts ledger = await acme.LedgerAsync();
        Assert.Equal((4L, 3L, 1L, 3L), (ledger.Received, ledger.Accepted, ledger.Blocked, ledger.Stored));
        Assert.Equal(3, (await acme.GetAsync<SummaryResponse>("/v1/dashboard/summary")).UsageCount);
        using HttpResponseMessage exported = await _server.SendAsync(
            HttpMethod.Get,
            "/v1/dashboard/events?feature=export&limit=10",
            acme.Admin.AccessToken
        );
        string events = await exported.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(exported.IsSuccessStatusCode, events);
        Assert.Contains(eventId.ToString(), events, StringComparison.Ordinal);
        Assert.Contains("the third of three", events, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Reclassify_WhenManyAskAtOnce_ShouldDoItOnceAndTellTheOthers()
    {
        Acme acme = await ForbiddingAsync();
        Guid receipt = await RefusedAsync(acme, Guid.NewGuid());
        var answers = new HttpStatusCode[AtOnce];
        await Parallel.ForAsync(
            0,
            AtOnce,
            TestContext.Current.CancellationToken,
            async (i, _) =>
            {
                using HttpResponseMessage response = await ReclassifyAsync(acme, receipt, "agreed");
                answers[i] = response.StatusCode;
            }
        );

        Assert.Equal(1, answers.Count(one => one == HttpStatusCode.OK));
        Assert.Equal(AtOnce - 1, answers.Count(one => one == HttpStatusCode.Conflict));
        await RunningServer.AssertProblemAsync(
            await ReclassifyAsync(acme, receipt, "agreed"),
            409,
            "already_reclassified"
        );
        await acme.ProcessedAsync();
        LedgerCounts ledger = await acme.LedgerAsync();
        Assert.Equal((3L, 3L, 0L), (ledger.Accepted, ledger.Stored, ledger.Duplicate));
    }

    [Fact]
    public async Task Reclassify_WhenItWasAppendedButNotMarked_ShouldCountItOnce()
    {
        Acme acme = await ForbiddingAsync();
        Guid receipt = await RefusedAsync(acme, Guid.NewGuid());
        Assert.Equal(HttpStatusCode.OK, (await ReclassifyAsync(acme, receipt, "agreed")).StatusCode);

        // As a crash between the append and the commit leaves it.
        await _server.Database.ExecuteAsync(
            $"UPDATE decisions SET reclassified_at = NULL, reclassified_by = NULL, reclassified_reason = NULL WHERE receipt_id = '{receipt}'"
        );
        Assert.Equal(HttpStatusCode.OK, (await ReclassifyAsync(acme, receipt, "agreed, again")).StatusCode);

        await acme.ProcessedAsync();
        LedgerCounts ledger = await acme.LedgerAsync();
        Assert.Equal((4L, 3L, 1L), (ledger.Accepted, ledger.Stored, ledger.Duplicate));
    }

    [Fact]
    public async Task Reclassify_WhenALimitRefused_ShouldCountBeyondTheLimitAndLeaveNoRoom()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await BlockAsync(acme, 2);
        using HttpResponseMessage response = await acme.PostAsync(
            JsonContent.Create(new[] { Export(), Export(), Export() })
        );
        BlockedEvent blocked = Assert.Single(
            (await RunningServer.ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted)).Blocked!
        );
        await DecisionAsync(acme, blocked.ReceiptId);
        Assert.Equal(HttpStatusCode.OK, (await ReclassifyAsync(acme, blocked.ReceiptId, "a paid extra")).StatusCode);

        using HttpResponseMessage check = await _server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/check",
            await acme.CreateKeyAsync("usage:check"),
            JsonContent.Create(new { userId = "ana", featureName = "export" })
        );
        CheckResponse answer = await RunningServer.ReadAsync<CheckResponse>(check, HttpStatusCode.OK);
        Assert.Equal(
            (false, 2L, 3L, 0L),
            (answer.Allowed, answer.Limit!.Value, answer.Used!.Value, answer.Remaining!.Value)
        );
        using HttpResponseMessage more = await acme.PostAsync(JsonContent.Create(new[] { Export() }));
        Assert.Single((await RunningServer.ReadAsync<IngestResponse>(more, HttpStatusCode.Accepted)).Blocked!);
        await acme.ProcessedAsync();
        Assert.Equal(3, (await acme.LedgerAsync()).Stored);

        static UsageEvent Export() => new("ana", "export");
    }

    [Fact]
    public async Task Reclassify_WhenItCannotBe_ShouldSayWhyAndCountNothing()
    {
        Acme acme = await ForbiddingAsync();
        Acme other = await Acme.CreateAsync(_server);
        Guid receipt = await RefusedAsync(acme, Guid.NewGuid());
        await RunningServer.AssertProblemAsync(await ReclassifyAsync(other, receipt, "mine"), 404, "not_found");
        await RunningServer.AssertProblemAsync(await ReclassifyAsync(acme, Guid.NewGuid(), "whose"), 404, "not_found");
        await RunningServer.AssertProblemAsync(await ReclassifyAsync(acme, receipt, "  "), 400, "invalid_request");
        await RunningServer.AssertProblemAsync(
            await ReclassifyAsync(acme, receipt, new string('x', 501)),
            400,
            "invalid_request"
        );
        using HttpResponseMessage byKey = await _server.SendAsync(
            HttpMethod.Post,
            Path(receipt),
            acme.ApiKey,
            JsonContent.Create(new ReclassifyRequest("a key"))
        );
        Assert.Equal(HttpStatusCode.Forbidden, byKey.StatusCode);

        using HttpResponseMessage check = await _server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/check",
            await acme.CreateKeyAsync("usage:check"),
            JsonContent.Create(new { userId = "ana", featureName = "export" })
        );
        Guid asked = (await RunningServer.ReadAsync<CheckResponse>(check, HttpStatusCode.OK)).ReceiptId!.Value;
        await RunningServer.AssertProblemAsync(
            await ReclassifyAsync(acme, asked, "agreed"),
            409,
            "nothing_to_reclassify"
        );

        await _server.Database.ExecuteAsync(
            $"UPDATE decisions SET segment_offset = segment_offset + 1000000 WHERE receipt_id = '{receipt}'"
        );
        await RunningServer.AssertProblemAsync(await ReclassifyAsync(acme, receipt, "agreed"), 409, "properties_gone");
        await acme.ProcessedAsync();
        Assert.Equal(2, (await acme.LedgerAsync()).Accepted);
    }

    [Fact]
    public async Task Reclassify_WhenDone_ShouldBeInTheAuditLogWithItsReason()
    {
        Acme acme = await ForbiddingAsync();
        Guid receipt = await RefusedAsync(acme, Guid.NewGuid());
        Assert.Equal(HttpStatusCode.OK, (await ReclassifyAsync(acme, receipt, "a paid extra")).StatusCode);

        using HttpResponseMessage response = await _server.SendAsync(
            HttpMethod.Get,
            "/v1/audit?action=decision.reclassified",
            acme.Admin.AccessToken
        );
        string entries = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.IsSuccessStatusCode, entries);
        Assert.Contains(receipt.ToString(), entries, StringComparison.Ordinal);
        Assert.Contains("a paid extra", entries, StringComparison.Ordinal);
    }

    private static string Path(Guid receipt) => $"/v1/admin/decisions/{receipt}/reclassify";

    private Task<HttpResponseMessage> ReclassifyAsync(Acme acme, Guid receipt, string reason) =>
        _server.SendAsync(
            HttpMethod.Post,
            Path(receipt),
            acme.Admin.AccessToken,
            JsonContent.Create(new ReclassifyRequest(reason))
        );

    private async Task<Acme> ForbiddingAsync()
    {
        Acme acme = await Acme.CreateAsync(_server);
        using HttpResponseMessage response = await _server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/policies",
            acme.Admin.AccessToken,
            JsonContent.Create(new PolicyRequest("No export", "FORBID", Features: ["export"]))
        );
        Assert.Equal(HttpStatusCode.Created, response.StatusCode);
        return acme;
    }

    // One of three, so that it is not the first slot of its segment.
    private async Task<Guid> RefusedAsync(Acme acme, Guid eventId)
    {
        using HttpResponseMessage response = await acme.PostAsync(
            JsonContent.Create(
                new object[]
                {
                    new
                    {
                        userId = "bob",
                        featureName = "search",
                        properties = new { note = "the first of three" },
                    },
                    new
                    {
                        userId = "ana",
                        featureName = "search",
                        properties = new { note = "the second of three" },
                    },
                    new
                    {
                        userId = "ana",
                        featureName = "export",
                        eventId,
                        properties = new { note = "the third of three" },
                    },
                }
            )
        );
        Guid receipt = Assert
            .Single((await RunningServer.ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted)).Blocked!)
            .ReceiptId;
        await DecisionAsync(acme, receipt);
        return receipt;
    }

    private Task<DecisionResponse> DecisionAsync(Acme acme, Guid receipt) =>
        Eventually.ValueAsync(async () =>
        {
            using HttpResponseMessage response = await _server.SendAsync(
                HttpMethod.Get,
                $"/v1/admin/decisions/{receipt}",
                acme.Admin.AccessToken
            );
            return await RunningServer.ReadAsync<DecisionResponse>(response, HttpStatusCode.OK);
        });

    private async Task BlockAsync(Acme acme, long value)
    {
        using HttpResponseMessage response = await _server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/usage/limits",
            acme.Admin.AccessToken,
            JsonContent.Create(
                new
                {
                    featureName = "export",
                    scope = "ENTERPRISE",
                    limitValue = value,
                    windowType = "MONTHLY",
                    action = "BLOCK",
                }
            )
        );
        Assert.Equal(HttpStatusCode.Created, response.StatusCode);
    }
}
