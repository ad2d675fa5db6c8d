using System.Net;
using System.Net.Http.Json;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using static UsageMonitor.Tests.Fixtures.RunningServer;

namespace UsageMonitor.Tests.Limits;

/// <summary>Backtests over usage that was sent, stored and summed, around the night in which Berlin's clocks go back.</summary>
public sealed class LimitBacktestTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Berlin = "Europe/Berlin";
    private const string Address = "/v1/admin/usage/limits/backtest";
    private static readonly string[] s_users = ["ana@acme.example", "bob", "cid"];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Backtest_WhateverTheLimit_ShouldBlockWhatAdmissionWould(bool isArchived)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server, Berlin);
        var random = new Random(4);
        UsageEvent[] events =
        [
            .. Enumerable
                .Range(0, 400)
                .Select(_ => new UsageEvent(
                    s_users[random.Next(s_users.Length)],
                    random.Next(4) == 0 ? "search" : "export.pdf",
                    EventTimestamp: new DateTimeOffset(2025, 10, 24, 22, 0, 0, TimeSpan.Zero).AddSeconds(
                        random.Next(3 * 24 * 3600)
                    )
                )),
        ];
        if (isArchived)
        {
            // Some of each day in the archive, some still live.
            await acme.SendAsync(events[..250]);
            await acme.ProcessedAsync();
            await ArchiveAsync(fixture.Server);
            await acme.SendAsync(events[250..]);
        }
        else
        {
            await acme.SendAsync(events);
        }

        await acme.ProcessedAsync();
        Guid bob = Id(acme, "bob");
        await fixture.Server.Database.ExecuteAsync(
            $"INSERT INTO user_roles VALUES ('{acme.EnterpriseId}', '{bob}', 'Auditor'), ('{acme.EnterpriseId}', '{Id(acme, "cid")}', 'Auditor')"
        );

        foreach (LimitWindow window in new[] { LimitWindow.Hourly, LimitWindow.Daily, LimitWindow.Monthly })
        {
            foreach (
                (LimitScope scope, string? subject, string[] who) in new (LimitScope, string?, string[])[]
                {
                    (LimitScope.User, null, s_users),
                    (LimitScope.User, "bob", ["bob"]),
                    (LimitScope.Role, "Auditor", ["bob", "cid"]),
                    (LimitScope.Enterprise, null, s_users),
                }
            )
            {
                long limit = window == LimitWindow.Hourly ? 2 : 20;
                var request = new LimitRequest("export*", scope.Word(), subject, limit, window.Word(), "BLOCK");
                NaiveAdmission model = NaiveAdmission.Of(
                    Berlin,
                    events
                        .Where(one => one.FeatureName == "export.pdf" && who.Contains(one.UserId))
                        .OrderBy(one => one.EventTimestamp)
                        .Select(one => (Id(acme, one.UserId), one.EventTimestamp!.Value.UtcDateTime)),
                    scope,
                    window,
                    limit
                );
                Assert.NotEmpty(model.Refused);
                LimitBacktestResponse answer = await BacktestAsync(acme, request);
                Compare(acme, model, answer);
                Assert.True(answer.FromEvents);
                Assert.Equal(model.Refused[0].At, answer.FirstAt!.Value.UtcDateTime);

                if (window == LimitWindow.Hourly)
                {
                    continue;
                }

                // The same of a large enterprise, whose events are too many to be put in order.
                LimitBacktestResponse byDays = await RunAsync(
                    acme,
                    request,
                    new(Database, Archived, TimeProvider.System) { EventsMax = 0 }
                );
                Assert.False(byDays.FromEvents);
                Assert.Equal(
                    (answer.Blocked, answer.EventsEvaluated, answer.WindowsEvaluated, answer.WindowsReached),
                    (byDays.Blocked, byDays.EventsEvaluated, byDays.WindowsEvaluated, byDays.WindowsReached)
                );
                Assert.Equal(byDays.Blocked, byDays.Unattributed + byDays.Users.Sum(user => user.Blocked));
                Assert.True(byDays.IsComplete);
                if (scope == LimitScope.User)
                {
                    Compare(acme, model, byDays);
                }
            }
        }
    }

    [Fact]
    public async Task Backtest_WhenADayHas25Hours_ShouldTakeItAsOneDayAndTwoHoursAtTwo()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server, Berlin);
        await acme.SendAsync(
            At("2025-10-24T23:59:59+02:00"),
            At("2025-10-25T00:00:00+02:00"),
            At("2025-10-26T00:00:00+02:00"),
            At("2025-10-26T02:30:00+02:00"),
            At("2025-10-26T02:30:00+01:00"),
            At("2025-10-26T23:59:59+01:00"),
            At("2025-10-27T00:00:00+01:00")
        );
        await acme.ProcessedAsync();

        LimitBacktestResponse daily = await BacktestAsync(acme, new("*", "ENTERPRISE", null, 1, "DAILY", "BLOCK"));
        LimitBacktestResponse hourly = await BacktestAsync(acme, new("*", "ENTERPRISE", null, 1, "HOURLY", "BLOCK"));

        // What is of the 24th by Berlin's clock is not in the range.
        Assert.Equal((3, 3, 1), (daily.Blocked, daily.WindowsEvaluated, daily.WindowsReached));
        BacktestWindow day = Assert.Single(daily.Windows);
        Assert.Equal(TimeSpan.FromHours(25), day.End - day.Start);
        Assert.Equal((4, 3, 1), (day.Attempts, day.Blocked, day.Users));
        Assert.Equal(DateTimeOffset.Parse("2025-10-26T02:30:00+02:00", null), day.FirstAt);
        Assert.Equal((0, 6), (hourly.Blocked, hourly.WindowsEvaluated));

        static UsageEvent At(string time) => new("ana", "f", EventTimestamp: DateTimeOffset.Parse(time, null));
    }

    [Fact]
    public async Task Backtest_WhenThereIsMoreThanItReplays_ShouldSayHowFarItCame()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server, "UTC");
        DateTimeOffset start = new(2025, 10, 25, 12, 0, 0, TimeSpan.Zero);
        await acme.SendAsync([
            .. Enumerable
                .Range(0, 10)
                .Select(n => new UsageEvent($"user-{n}", "f", EventTimestamp: start.AddMinutes(n))),
            .. Enumerable
                .Range(0, 10)
                .Select(n => new UsageEvent($"user-{n}", "f", EventTimestamp: start.AddDays(1).AddMinutes(n))),
        ]);
        await acme.ProcessedAsync();
        var hourly = new LimitRequest("f", "ENTERPRISE", null, 1, "HOURLY", "BLOCK");

        LimitBacktestResponse events = await RunAsync(
            acme,
            hourly,
            new(Database, Archived, TimeProvider.System) { EventsMax = 5 }
        );
        LimitBacktestResponse days = await RunAsync(
            acme,
            hourly with
            {
                WindowType = "DAILY",
            },
            new(Database, Archived, TimeProvider.System) { EventsMax = 5, UserDaysMax = 12 }
        );

        Assert.Equal(
            (false, 5, 4, start.AddMinutes(5)),
            (events.IsComplete, events.EventsEvaluated, events.Blocked, events.EvaluatedThrough)
        );
        Assert.Equal((false, 10, 9), (days.IsComplete, days.EventsEvaluated, days.Blocked));
        Assert.Equal(new DateTimeOffset(2025, 10, 26, 0, 0, 0, TimeSpan.Zero), days.EvaluatedThrough);
        Assert.Equal((1, 1), (events.DaysEvaluated, days.DaysEvaluated));
    }

    private ReadArchivedUses Archived => fixture.Server.Services.GetRequiredService<ReadArchivedUses>();

    private static async Task ArchiveAsync(RunningServer server)
    {
        var plan = server.Services.GetRequiredService<ArchivePlan>();
        foreach (ArchivePass pass in await plan.FindAsync(DateTimeOffset.UtcNow, TestContext.Current.CancellationToken))
        {
            await server.Services.GetRequiredService<Archiver>().RunAsync(pass, TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task Backtest_WhenItIsAnothersUsage_ShouldSeeNone()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        Acme other = await Acme.CreateAsync(fixture.Server);
        await acme.SendAsync(new UsageEvent("ana", "f"), new UsageEvent("ana", "f"));
        await acme.ProcessedAsync();
        var request = new LimitBacktestRequest(new("f", "USER", null, 0, "DAILY", "BLOCK"));

        using HttpResponseMessage own = await PostAsync(acme, request);
        using HttpResponseMessage foreign = await PostAsync(other, request);

        LimitBacktestResponse seen = await ReadAsync<LimitBacktestResponse>(own, HttpStatusCode.OK);
        Assert.Equal((2, 30, true), (seen.Blocked, seen.DaysEvaluated, seen.IsComplete));
        Assert.Equal(0, (await ReadAsync<LimitBacktestResponse>(foreign, HttpStatusCode.OK)).EventsEvaluated);
    }

    [Theory]
    [InlineData("""{}""", "limit: is missing.")]
    [InlineData(
        """{"limit":{"scope":"USER","limitValue":1,"windowType":"DAY","action":"BLOCK"}}""",
        "limit.windowType: must be one of HOURLY, DAILY, MONTHLY."
    )]
    [InlineData("""{"limit":{},"from":"yesterday"}""", "from: must be a date such as 2026-11-01 (inclusive).")]
    [InlineData(
        """{"limit":{},"from":"2026-01-01","to":"2026-04-02"}""",
        "from must be before to, and the range at most 90 days."
    )]
    [InlineData(
        """{"limit":{},"from":"2026-01-02","to":"2026-01-02"}""",
        "from must be before to, and the range at most 90 days."
    )]
    public async Task Backtest_WhenTheRequestIsBad_ShouldSayWhatIsWrong(string body, string expected)
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using var content = new StringContent(body, System.Text.Encoding.UTF8, "application/json");
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Post,
            Address,
            acme.Admin.AccessToken,
            content
        );

        Assert.Equal(expected, await AssertProblemAsync(response, 400, "invalid_request"));
    }

    private Database Database => (Database)fixture.Server.Services.GetService(typeof(Database))!;

    private static Guid Id(Acme acme, string user) => UserIds.Resolve(acme.EnterpriseId, user, out _);

    private static void Compare(Acme acme, NaiveAdmission model, LimitBacktestResponse answer)
    {
        Assert.Equal(
            (model.Refused.Count, model.Windows, model.Refused.Select(one => one.Window).Distinct().Count()),
            (answer.Blocked, answer.WindowsEvaluated, answer.WindowsReached)
        );
        Assert.Equal(
            model
                .Refused.GroupBy(one => one.User)
                .Select(user => (user.Key, (long)user.Count(), user.Select(one => one.Window).Distinct().Count()))
                .Order(),
            answer.Users.Select(user => (Id(acme, user.UserId), user.Blocked, user.Windows)).Order()
        );
        Assert.Equal((0, true, 3), (answer.Unattributed, answer.IsComplete, answer.DaysEvaluated));
    }

    private async Task<LimitBacktestResponse> BacktestAsync(Acme acme, LimitRequest limit)
    {
        using HttpResponseMessage response = await PostAsync(acme, new(limit, "2025-10-25", "2025-10-28"));
        return await ReadAsync<LimitBacktestResponse>(response, HttpStatusCode.OK);
    }

    private async Task<LimitBacktestResponse> RunAsync(Acme acme, LimitRequest request, LimitBacktest backtest)
    {
        EnterpriseInfo? enterprise = await (
            (EnterpriseDirectory)fixture.Server.Services.GetService(typeof(EnterpriseDirectory))!
        ).FindAsync(acme.EnterpriseId, TestContext.Current.CancellationToken);
        await using ScopedTransaction own = await Database.OpenEnterpriseAsync(
            acme.EnterpriseId,
            TestContext.Current.CancellationToken
        );
        (LimitDraft? draft, string error) = await LimitDraft.ReadAsync(
            request,
            enterprise!,
            own,
            TestContext.Current.CancellationToken
        );
        Assert.Equal("", error);
        return (
            await backtest.RunAsync(
                enterprise!,
                draft!,
                new LocalDays(new DateOnly(2025, 10, 25), new DateOnly(2025, 10, 28)),
                TestContext.Current.CancellationToken
            )
        )!;
    }

    private Task<HttpResponseMessage> PostAsync(Acme acme, LimitBacktestRequest request) =>
        fixture.Server.SendAsync(HttpMethod.Post, Address, acme.Admin.AccessToken, JsonContent.Create(request));
}
