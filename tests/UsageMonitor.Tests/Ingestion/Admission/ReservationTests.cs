using System.Net;
using System.Net.Http.Json;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Ingestion.Admission;

/// <summary>What is held and what is committed never is more than the limit, and what is given up can be had again.</summary>
public sealed class ReservationTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const int Limit = 3;
    private readonly RunningServer _server = fixture.Server;

    [Fact]
    public async Task Reserve_WhenManyAskAtOnce_ShouldHoldTheLimitAndGiveBackWhatIsReleased()
    {
        Acme acme = await LimitedAsync();
        HttpStatusCode[] answers = new HttpStatusCode[12];
        var held = new List<Guid>();
        await Parallel.ForAsync(
            0,
            answers.Length,
            TestContext.Current.CancellationToken,
            async (i, _) =>
            {
                using HttpResponseMessage response = await ReserveAsync(acme);
                answers[i] = response.StatusCode;
                if (response.StatusCode == HttpStatusCode.Created)
                {
                    ReserveResponse answer = await RunningServer.ReadAsync<ReserveResponse>(
                        response,
                        HttpStatusCode.Created
                    );
                    lock (held)
                    {
                        held.Add(answer.ReservationId);
                    }
                }
            }
        );
        Assert.Equal(Limit, held.Count);
        Assert.Equal(answers.Length - Limit, answers.Count(one => one == HttpStatusCode.TooManyRequests));

        using HttpResponseMessage refused = await ReserveAsync(acme);
        CheckResponse refusal = await RunningServer.ReadAsync<CheckResponse>(refused, HttpStatusCode.TooManyRequests);
        Assert.Equal(
            (false, DecisionCodes.LimitReached, Limit, Limit, 0L),
            (refusal.Allowed, refusal.Reason, refusal.Limit!.Value, refusal.Used!.Value, refusal.Remaining!.Value)
        );
        using HttpResponseMessage decision = await _server.SendAsync(
            HttpMethod.Get,
            $"/v1/admin/decisions/{refusal.ReceiptId}",
            acme.Admin.AccessToken
        );
        Assert.Equal(HttpStatusCode.OK, decision.StatusCode);

        Assert.Equal(HttpStatusCode.NoContent, await EndAsync(acme, held[0], "release"));
        Assert.Equal(HttpStatusCode.NoContent, await EndAsync(acme, held[0], "release"));
        Assert.Equal(HttpStatusCode.Conflict, await EndAsync(acme, held[0], "commit"));
        using HttpResponseMessage again = await ReserveAsync(acme);
        Assert.Equal(HttpStatusCode.Created, again.StatusCode);
        using HttpResponseMessage full = await ReserveAsync(acme);
        Assert.Equal(HttpStatusCode.TooManyRequests, full.StatusCode);

        Assert.Equal(HttpStatusCode.Accepted, await EndAsync(acme, held[1], "commit"));
        Assert.Equal(HttpStatusCode.Accepted, await EndAsync(acme, held[1], "commit"));
        Assert.Equal(HttpStatusCode.Conflict, await EndAsync(acme, held[1], "release"));
        await acme.ProcessedAsync();
        LedgerCounts ledger = await acme.LedgerAsync();
        Assert.Equal(1, ledger.Stored);
    }

    [Fact]
    public async Task Commit_WhenTheReservationIsAnothers_ShouldSayThatThereIsNone()
    {
        Acme acme = await Acme.CreateAsync(_server);
        Acme other = await Acme.CreateAsync(_server);
        using HttpResponseMessage response = await ReserveAsync(acme);
        ReserveResponse held = await RunningServer.ReadAsync<ReserveResponse>(response, HttpStatusCode.Created);

        Assert.Null(held.Limit);
        Assert.Equal(HttpStatusCode.NotFound, await EndAsync(other, held.ReservationId, "commit"));
        Assert.Equal(HttpStatusCode.NotFound, await EndAsync(other, held.ReservationId, "release"));
        Assert.Equal(HttpStatusCode.Accepted, await EndAsync(acme, held.ReservationId, "commit"));
    }

    [Fact]
    public async Task Commit_WhenThereIsNoBody_ShouldCommitAsReservedAndRefuseOneThatIsNoJson()
    {
        Acme acme = await Acme.CreateAsync(_server);
        using HttpResponseMessage response = await ReserveAsync(acme);
        ReserveResponse held = await RunningServer.ReadAsync<ReserveResponse>(response, HttpStatusCode.Created);
        string address = $"/v1/usage/reservations/{held.ReservationId}/commit";

        using HttpResponseMessage wrong = await _server.SendAsync(
            HttpMethod.Post,
            address,
            acme.ApiKey,
            new StringContent("{", System.Text.Encoding.UTF8, "application/json")
        );
        await RunningServer.AssertProblemAsync(wrong, 400, "invalid_request");
        using HttpResponseMessage done = await _server.SendAsync(HttpMethod.Post, address, acme.ApiKey);

        Assert.Equal(HttpStatusCode.Accepted, done.StatusCode);
        await acme.ProcessedAsync();
        Assert.Equal(1, (await acme.LedgerAsync()).Stored);
    }

    private Task<HttpResponseMessage> ReserveAsync(Acme acme) =>
        _server.SendAsync(
            HttpMethod.Post,
            "/v1/usage/reservations",
            acme.ApiKey,
            JsonContent.Create(new ReserveRequest("zoe", "export"))
        );

    private async Task<HttpStatusCode> EndAsync(Acme acme, Guid reservationId, string how)
    {
        using HttpResponseMessage response = await _server.SendAsync(
            HttpMethod.Post,
            $"/v1/usage/reservations/{reservationId}/{how}",
            acme.ApiKey,
            how == "commit" ? JsonContent.Create(new { properties = new { pages = 3 } }) : null
        );
        return response.StatusCode;
    }

    private async Task<Acme> LimitedAsync()
    {
        Acme acme = await Acme.CreateAsync(_server);
        await using var connection = new NpgsqlConnection(_server.Database.OwnerConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(
            $"""
            INSERT INTO usage_limits (enterprise_id, limit_id, feature_name, scope, limit_value, window_type, action, status,
                                      version, created_by, created_at, updated_at)
            VALUES ('{acme.EnterpriseId}', gen_random_uuid(), 'export', 'ENTERPRISE', {Limit}, 'MONTHLY', 'BLOCK', 'ACTIVE', 1,
                    gen_random_uuid(), now(), now());
            UPDATE identity_version SET version = version + 1
            """,
            connection
        );
        await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        LimitSets sets = _server.Services.GetRequiredService<LimitSets>();
        await Eventually.TrueAsync(
            async () => (await sets.FindAsync(acme.EnterpriseId, TestContext.Current.CancellationToken)).HasBlocking,
            "the instance knows the limit"
        );
        return acme;
    }
}
