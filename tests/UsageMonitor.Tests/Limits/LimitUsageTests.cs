using System.Net;
using System.Net.Http.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using static UsageMonitor.Tests.Fixtures.RunningServer;

namespace UsageMonitor.Tests.Limits;

/// <summary>What a limit shows of its usage: how much, whose, and when it will be reached.</summary>
public sealed class LimitUsageTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Get_WhenTheMeterIsNotCountedYet_ShouldTakeTheAggregates()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Guid bob = UserIds.Resolve(acme.EnterpriseId, "bob", out _);
        await fixture.Server.Database.ExecuteAsync(
            $"INSERT INTO user_roles VALUES ('{acme.EnterpriseId}', '{bob}', 'Analyst')"
        );
        await acme.SendAsync([
            .. Enumerable.Repeat(new UsageEvent("ana@acme.example", "export.pdf"), 3),
            .. Enumerable.Repeat(new UsageEvent("bob", "export.doc"), 1),
            .. Enumerable.Repeat(new UsageEvent("bob", "search"), 5),
        ]);
        await acme.ProcessedAsync();

        LimitResponse each = await MakeAsync(acme, new("export*", "USER", null, 4, "DAILY", "ALERT"));
        LimitResponse one = await MakeAsync(acme, new("*", "USER", "bob", 20, "MONTHLY", "ALERT"));
        LimitResponse role = await MakeAsync(acme, new("export.doc", "ROLE", "Analyst", 1, "DAILY", "ALERT"));
        LimitResponse all = await MakeAsync(acme, new("*", "ENTERPRISE", null, 36, "MONTHLY", "ALERT"));
        LimitResponse hour = await MakeAsync(acme, new("export*", "ENTERPRISE", null, 8, "HOURLY", "ALERT"));

        Assert.Equal((3, 1), (each.Used, each.Remaining));
        Assert.Equal(
            [new LimitContributor("ana@acme.example", 3, 0.75), new LimitContributor("bob", 1, 0.25)],
            each.Contributors
        );
        Assert.Equal((6, 14), (one.Used, one.Remaining));
        Assert.Equal([new LimitContributor("bob", 6, 0.3)], one.Contributors!);
        Assert.Equal((1, 0, LimitOutcomes.Reached), (role.Used, role.Remaining, role.Forecast!.Outcome));
        Assert.Equal([new LimitContributor("bob", 1, 1)], role.Contributors!);
        Assert.Equal((9, 27, LimitOutcomes.Unknown), (all.Used, all.Remaining, all.Forecast!.Outcome));
        Assert.Equal(["bob", "ana@acme.example"], all.Contributors!.Select(user => user.UserId));
        Assert.Equal((4, 4), (hour.Used, hour.Remaining));
        Assert.Equal(TimeSpan.FromHours(1), hour.ResetsAt - hour.WindowStart);
        Assert.Equal(TimeSpan.FromHours(24), each.ResetsAt - each.WindowStart);
        Assert.Equal(TimeSpan.FromHours(5.5), each.ResetsAt!.Value.Offset);
        Assert.InRange(each.AsOf!.Value, each.WindowStart!.Value, each.ResetsAt.Value);
    }

    [Fact]
    public async Task Get_WhenAUserHasALimitOfTheirOwn_ShouldNotCountThemToThoseNearEachUsers()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await acme.SendAsync([
            .. Enumerable.Repeat(new UsageEvent("ana", "export"), 3),
            new UsageEvent("bob", "export"),
        ]);
        await acme.ProcessedAsync();
        await MakeAsync(acme, new("export", "USER", "ana", 50, "DAILY", "BLOCK"));

        LimitResponse each = await MakeAsync(acme, new("export", "USER", null, 2, "DAILY", "BLOCK"));
        LimitResponse alerting = await MakeAsync(acme, new("export", "USER", null, 2, "DAILY", "ALERT"));

        Assert.Equal((1, "bob"), (each.Used, Assert.Single(each.Contributors!).UserId));
        Assert.Equal((3, "ana"), (alerting.Used, alerting.Contributors![0].UserId));
    }

    [Fact]
    public async Task Get_WhenTheMeterIsCounted_ShouldTakeItsCount()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Guid ana = UserIds.Resolve(acme.EnterpriseId, "ana", out _);
        LocalTime local = LimitMaking.Local("Asia/Kolkata");
        LimitResponse each = await MakeAsync(acme, new("f", "USER", null, 10, "HOURLY", "BLOCK"));
        LimitResponse all = await MakeAsync(acme, new("f", "ENTERPRISE", null, 10, "DAILY", "BLOCK"));
        Assert.Null(each.Used);
        Assert.Equal(LimitOutcomes.Unknown, each.Forecast!.Outcome);

        await CountAsync(LimitScope.User, LimitWindow.Hourly, ana, 7);
        await CountAsync(LimitScope.User, LimitWindow.Hourly, Guid.NewGuid(), 2);
        await CountAsync(LimitScope.Enterprise, LimitWindow.Daily, Guid.Empty, 12);

        each = await GetAsync<LimitResponse>(acme, $"/v1/admin/usage/limits/{each.LimitId}");
        all = await GetAsync<LimitResponse>(acme, $"/v1/admin/usage/limits/{all.LimitId}");
        Assert.Equal((7, 3), (each.Used, each.Remaining));
        Assert.Equal([0.7, 0.2], each.Contributors!.Select(user => user.Share));
        Assert.Equal((12, 0, LimitOutcomes.Reached), (all.Used, all.Remaining, all.Forecast!.Outcome));

        async Task CountAsync(LimitScope scope, LimitWindow window, Guid subject, long used)
        {
            LimitMeter meter = LimitMeter.Of(acme.EnterpriseId, "f", scope, null, window);
            var span = WindowSpan.Of(window, local, DateTime.UtcNow);
            await fixture.Server.Database.ExecuteAsync(
                $"""
                INSERT INTO limit_meters VALUES ('{acme.EnterpriseId}', '{meter.MeterId}', 'f', '{scope.Word()}', NULL, '{window.Word()}', now())
                    ON CONFLICT DO NOTHING;
                INSERT INTO limit_usage VALUES ('{acme.EnterpriseId}', '{meter.MeterId}', '{subject}', '{span.Start:O}', '{span.End:O}',
                    {used}, now(), now())
                """
            );
        }
    }

    [Fact]
    public async Task Get_WhenThereAreWeeksOfUsage_ShouldForecastFromThem()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server, "UTC");

        // 60 an hour, day and night, for 28 days and today until now.
        await fixture.Server.Database.ExecuteAsync(
            $"""
            SELECT ensure_month_partition('usage_aggregates', (now() - n * interval '15 days')::date) FROM generate_series(0, 3) AS n;
            INSERT INTO usage_aggregates
            SELECT '{acme.EnterpriseId}', 'usage_count', 'hour', 'f', bucket, 60
              FROM generate_series(date_trunc('day', now(), 'UTC') - interval '28 days', now() - interval '1 hour', interval '1 hour') AS bucket
            """
        );

        LimitResponse near = await MakeAsync(acme, new("f", "ENTERPRISE", null, 44_700, "MONTHLY", "ALERT"));
        LimitResponse far = await MakeAsync(acme, new("f", "ENTERPRISE", null, 1_000_000, "MONTHLY", "ALERT"));

        Assert.Equal(28, near.Forecast!.DaysLearned);
        Assert.Equal(LimitOutcomes.NotInWindow, far.Forecast!.Outcome);
        double expected = (long)far.Used! + (60 * (far.ResetsAt - far.AsOf)!.Value.TotalHours);
        Assert.InRange(far.Forecast.ExpectedAtReset!.Value, expected * 0.97, expected * 1.03);
    }

    private async Task<LimitResponse> MakeAsync(Acme acme, LimitRequest request)
    {
        using HttpResponseMessage made = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/usage/limits",
            acme.Admin.AccessToken,
            JsonContent.Create(request)
        );
        Guid limitId = (await ReadAsync<LimitResponse>(made, HttpStatusCode.Created)).LimitId;
        return await GetAsync<LimitResponse>(acme, $"/v1/admin/usage/limits/{limitId}");
    }

    private async Task<T> GetAsync<T>(Acme acme, string path)
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Get,
            path,
            acme.Admin.AccessToken
        );
        return await ReadAsync<T>(response, HttpStatusCode.OK);
    }
}
