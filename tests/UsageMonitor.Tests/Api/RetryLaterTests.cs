using System.Net;
using System.Net.Http.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Api;

/// <summary>When events are not taken now: the answer says when to come back, and coming back counts nothing twice.</summary>
public sealed class RetryLaterTests(Engines engines)
{
    // These make the server fail on purpose.
    private static readonly (string, string) s_quiet = ("Logging:LogLevel:Default", "None");

    [Fact]
    public async Task Post_WhenOverTheRate_ShouldAnswer429AndWhenToComeBack()
    {
        await using RunningServer server = await RunningServer.StartAsync(
            engines,
            ("RateLimits:EventsPerSecondPerKey", "1")
        );
        Acme acme = await Acme.CreateAsync(server);
        UsageEvent[] ten = [.. Enumerable.Range(0, 10).Select(_ => new UsageEvent("ana", "search"))];
        await acme.SendAsync(ten); // more than the bucket holds: passes, and leaves a debt

        using HttpResponseMessage response = await acme.PostAsync(JsonContent.Create(ten[0]));

        await RunningServer.AssertProblemAsync(response, 429, "rate_limited");
        Assert.InRange(response.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 11);
        await acme.ProcessedAsync();
        Assert.Equal(10, (await acme.LedgerAsync()).Received);

        // Each key has a rate of its own.
        using HttpResponseMessage other = await acme.PostAsync(
            JsonContent.Create(ten[0]),
            await acme.CreateKeyAsync("usage:write")
        );
        Assert.Equal(HttpStatusCode.Accepted, other.StatusCode);
    }

    [Fact]
    public async Task Post_WhenTheLogIsDown_ShouldAnswer503AndTakeTheRetryOnce()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines, s_quiet);
        Acme acme = await Acme.CreateAsync(server);
        var sent = new UsageEvent("ana", "search", Guid.NewGuid(), EventTimestamp: DateTimeOffset.UtcNow);
        await acme.SendAsync(sent);
        await acme.ProcessedAsync();

        await ExecuteAsync(server, "ALTER TABLE log_partitions RENAME TO log_partitions_away");
        using HttpResponseMessage refused = await acme.PostAsync(
            JsonContent.Create(sent with { EventId = Guid.NewGuid() })
        );
        await RunningServer.AssertProblemAsync(refused, 503, "log_unavailable");
        Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 10);
        using HttpResponseMessage failed = await server.SendAsync(HttpMethod.Get, "/v1/dashboard/summary", acme.ApiKey);
        await RunningServer.AssertProblemAsync(failed, 500, "internal_error");
        await ExecuteAsync(server, "ALTER TABLE log_partitions_away RENAME TO log_partitions");

        await acme.SendAsync(sent);
        await acme.ProcessedAsync();
        Assert.Equal(
            new LedgerCounts(Received: 2, Accepted: 2, Rejected: 0, Blocked: 0, Stored: 1, Duplicate: 1, Pending: 0),
            await acme.LedgerAsync()
        );
    }

    [Fact]
    public async Task Get_WhenPostgresEndsTheConnection_ShouldAnswer503AndRecover()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines, s_quiet);
        Acme acme = await Acme.CreateAsync(server);
        await ExecuteAsync(server, "REVOKE CONNECT ON DATABASE " + server.Database.Name + " FROM PUBLIC");
        await ExecuteAsync(
            server,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        );

        using HttpResponseMessage response = await server.SendAsync(
            HttpMethod.Get,
            "/v1/dashboard/summary?from=2026-03-01",
            acme.ApiKey
        );

        await RunningServer.AssertProblemAsync(response, 503, "unavailable");
        Assert.NotNull(response.Headers.RetryAfter);
        await ExecuteAsync(server, "GRANT CONNECT ON DATABASE " + server.Database.Name + " TO PUBLIC");
        await Eventually.TrueAsync(
            async () => (await acme.GetAsync<SummaryResponse>("/v1/dashboard/summary?from=2026-03-01")).UsageCount == 0,
            "the server is itself again"
        );
    }

    private static async Task ExecuteAsync(RunningServer server, string sql)
    {
        await using var connection = new NpgsqlConnection(server.Database.OwnerConnectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync();
    }
}
