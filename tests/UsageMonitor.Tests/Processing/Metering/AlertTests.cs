using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing.Metering;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Processing.Metering;

public sealed class AlertTests(Engines engines) : IAsyncLifetime
{
    private static readonly DateTimeOffset s_now = new(2026, 11, 23, 10, 20, 0, TimeSpan.Zero);
    private MeteringFixture _metering = null!;
    private EnterpriseInfo _enterprise = null!;

    public async ValueTask InitializeAsync()
    {
        _metering = await MeteringFixture.CreateAsync(engines, s_now);
        _enterprise = await _metering.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
    }

    public ValueTask DisposeAsync() => _metering.DisposeAsync();

    [Fact]
    public async Task RunAsync_WhenAPercentageThenTheLimitIsReached_ShouldTellEachRecipientOnceOfEach()
    {
        Guid limit = await _metering.AddLimitAsync(_enterprise, "export*", 10, LimitWindow.Daily);
        Guid rule = await _metering.AddRuleAsync(
            _enterprise,
            "export*",
            LimitWindow.Daily,
            percent: 75,
            recipients: ["one@example.com", "two@example.com"]
        );
        await _metering.UseAsync(_enterprise, "Ana@acme.example", "export.pdf", 7);
        Assert.Empty(await _metering.AlertsAsync());

        // 75 % of 10 is reached with the eighth; then it hovers, over workers and restarts.
        foreach (int count in new[] { 1, 1 })
        {
            await _metering.UseAsync(_enterprise, "ana@acme.example", "export.csv", count, step: _metering.NewStep());
        }

        AlertRow low = Assert.Single(await _metering.AlertsAsync());
        Assert.Equal((rule, limit, "LOW", 8L, 8L), (low.AlertId, low.LimitId, low.Severity, low.Threshold, low.Used));
        foreach (int count in new[] { 1, 3, 5 })
        {
            await _metering.UseAsync(_enterprise, "ana@acme.example", "export.csv", count);
        }

        await _metering.UseAsync(_enterprise, "ana@acme.example", "export.csv", 1, step: _metering.NewStep());
        AlertRow high = Assert.Single(await _metering.AlertsAsync());
        Assert.Equal(
            (low.AlertEventId, "HIGH", 10L, true),
            (high.AlertEventId, high.Severity, high.Used, high.IsRaised)
        );
        var deliveries = await _metering.DeliveriesAsync(_enterprise);
        Assert.Equal(
            [
                ("OPENED", "one@example.com", "LOW", 8L),
                ("OPENED", "two@example.com", "LOW", 8L),
                ("RAISED", "one@example.com", "HIGH", 10L),
                ("RAISED", "two@example.com", "HIGH", 10L),
            ],
            deliveries.Select(one => (one.Cause, one.Recipient, one.Notice.Severity, one.Notice.Used)).Order()
        );
        Assert.All(
            deliveries,
            one =>
            {
                Assert.Equal(
                    (low.AlertEventId, "ana@acme.example", "export*", "USER", 75, 10L, false),
                    (
                        one.Notice.AlertEventId,
                        one.Notice.Subject,
                        one.Notice.FeatureName,
                        one.Notice.Scope,
                        one.Notice.ThresholdPct!.Value,
                        one.Notice.LimitValue!.Value,
                        one.Notice.IsBlocking
                    )
                );
                Assert.Equal(s_now.UtcDateTime, one.Notice.Since);
            }
        );
    }

    [Fact]
    public async Task RunAsync_WhenAnAbsoluteThresholdIsReached_ShouldOpenOneAlertForEachSubjectAndWindow()
    {
        Guid eachUser = await _metering.AddRuleAsync(_enterprise, "*", LimitWindow.Hourly, value: 3);
        Guid everybody = await _metering.AddRuleAsync(
            _enterprise,
            "*",
            LimitWindow.Hourly,
            value: 5,
            scope: LimitScope.Enterprise
        );
        for (int hour = 0; hour < 2; hour++)
        {
            await _metering.UseAsync(_enterprise, "ana", "search", 2);
            await _metering.UseAsync(_enterprise, "ben", "export", 4);
            await _metering.UseAsync(_enterprise, "ana", "export", 2);
            await _metering.UseAsync(_enterprise, "eve", "export", 2);
            _metering.Time.Advance(TimeSpan.FromHours(1));
        }

        Guid ana = UserIds.Resolve(_enterprise.EnterpriseId, "ana", out _);
        Guid ben = UserIds.Resolve(_enterprise.EnterpriseId, "ben", out _);
        DateTime first = new(2026, 11, 23, 9, 30, 0, DateTimeKind.Utc); // half past, in Kolkata's way
        Assert.Equal(
            Enumerable
                .Range(0, 2)
                .SelectMany(hour =>
                    new[]
                    {
                        (eachUser, ben, first.AddHours(hour), "LOW", 4L),
                        (everybody, Guid.Empty, first.AddHours(hour), "LOW", 6L),
                        (eachUser, ana, first.AddHours(hour), "LOW", 4L),
                    }
                )
                .Order(),
            (await _metering.AlertsAsync())
                .Select(alert => (alert.AlertId, alert.SubjectId, alert.WindowStart, alert.Severity, alert.Used))
                .Order()
        );
        Assert.Equal(6, (await _metering.DeliveriesAsync(_enterprise)).Count);
    }

    [Fact]
    public async Task RunAsync_WhenAUserHasALimitOfTheirOwn_ShouldTakeThePercentageOfIt()
    {
        Guid all = await _metering.AddLimitAsync(_enterprise, "export", 10, LimitWindow.Monthly);
        Guid own = await _metering.AddLimitAsync(_enterprise, "export", 100, LimitWindow.Monthly, user: "ana");
        Guid block = await _metering.AddLimitAsync(
            _enterprise,
            "export",
            30,
            LimitWindow.Monthly,
            action: LimitAction.Block
        );
        Guid zero = await _metering.AddLimitAsync(
            _enterprise,
            "export",
            0,
            LimitWindow.Monthly,
            LimitScope.Role,
            role: "testers"
        );
        await _metering.AddLimitAsync(_enterprise, "export*", 1, LimitWindow.Monthly); // another pattern
        await _metering.AddLimitAsync(_enterprise, "export", 1, LimitWindow.Daily); // another window
        await _metering.GiveRoleAsync(_enterprise, "ben", "testers");
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Monthly, percent: 50);

        await _metering.UseAsync(_enterprise, "ana", "export", 15);
        await _metering.UseAsync(_enterprise, "ben", "export", 5);

        Assert.Equal(
            new[] { (block, 15L, "LOW"), (all, 5L, "LOW"), (zero, 0L, "HIGH") }.Order(),
            (await _metering.AlertsAsync()).Select(alert => (alert.LimitId, alert.Threshold, alert.Severity)).Order()
        );
        await _metering.UseAsync(_enterprise, "ana", "export", 35);
        Assert.Contains(await _metering.AlertsAsync(), alert => (alert.LimitId, alert.Severity) == (own, "LOW"));
    }

    [Fact]
    public async Task RunAsync_WhenARuleIsMadeWhileUsageIsBeyondIt_ShouldTellAtTheNextEvent()
    {
        await _metering.UseAsync(_enterprise, "ana", "export", 20);
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, value: 10);
        await _metering.UseAsync(_enterprise, "ana", "search", 1);
        Assert.Empty(await _metering.AlertsAsync());

        await _metering.UseAsync(_enterprise, "ana", "export", 1);

        Assert.Equal(21, Assert.Single(await _metering.AlertsAsync()).Used);
    }

    [Fact]
    public async Task RunAsync_WhenLateEventsCrossInAWindowThatHasEnded_ShouldCountThemAndTellNobody()
    {
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, value: 2);

        await _metering.UseAsync(_enterprise, "ana", "export", 5, s_now.AddDays(-2));

        Assert.Equal([5L], (await _metering.UsageAsync()).Select(row => row.Used));
        Assert.Empty(await _metering.AlertsAsync());
    }

    [Theory]
    [InlineData("too short")]
    [InlineData("another rule's")]
    [InlineData("no webhook")]
    public async Task RunAsync_WhenARulesRecipientsCannotBeRead_ShouldTellOfTheOthersAndStoreEverything(string broken)
    {
        Guid rule = await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, value: 1);
        Guid other = await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, value: 2);
        EnterpriseInfo beside = await _metering.Pipeline.AddEnterpriseAsync("Etc/UTC", 1);
        Guid besides = await _metering.AddRuleAsync(beside, "export", LimitWindow.Daily, value: 2);
        await _metering.ExecuteAsync(
            "UPDATE usage_alerts SET recipients = $2, notification = $3 WHERE alert_id = $1",
            rule,
            broken switch
            {
                "too short" => "?"u8.ToArray(),
                "another rule's" => AlertRule.SealRecipients(_enterprise, other, ["ops@example.com"]),
                _ => AlertRule.SealRecipients(_enterprise, rule, ["ops@example.com"]),
            },
            broken == "no webhook" ? AlertRule.Webhook : AlertRule.Email
        );

        await _metering.UseAsync(_enterprise, "ana", "export", 2);
        await _metering.UseAsync(beside, "ana", "export", 2);

        Assert.Equal(
            new[] { other, besides }.Order(),
            (await _metering.AlertsAsync()).Select(alert => alert.AlertId).Order()
        );
        Assert.Equal(4, await _metering.CountAsync("usage_events"));
    }

    [Fact]
    public async Task RunAsync_WhenRuleAndLimitAreGone_ShouldTellNobody()
    {
        await _metering.AddLimitAsync(_enterprise, "export", 2, LimitWindow.Daily);
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, percent: 100);
        await _metering.UseAsync(_enterprise, "ana", "export", 1);
        await _metering.ExecuteAsync("DELETE FROM usage_limits");
        await _metering.UseAsync(_enterprise, "ana", "export", 5);
        await _metering.ExecuteAsync("DELETE FROM usage_alerts");
        await _metering.UseAsync(_enterprise, "ana", "export", 5);

        Assert.Equal(
            (0L, 0L),
            (await _metering.CountAsync("alert_events"), await _metering.CountAsync("limit_meters"))
        );
    }

    [Fact]
    public async Task RunAsync_WhenEnterprisesHaveTheSameUsersAndFeatures_ShouldTellEachOfItsOwn()
    {
        EnterpriseInfo other = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
        EnterpriseInfo third = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
        var sharedUser = Guid.NewGuid().ToString();
        foreach (EnterpriseInfo enterprise in new[] { _enterprise, other, third })
        {
            await _metering.AddLimitAsync(enterprise, "export", 4, LimitWindow.Daily);
        }

        await _metering.AddRuleAsync(
            _enterprise,
            "export",
            LimitWindow.Daily,
            percent: 50,
            recipients: "one@example.com"
        );
        await _metering.AddRuleAsync(other, "export", LimitWindow.Daily, percent: 50, recipients: "other@example.com");
        await _metering.UseAsync(_enterprise, sharedUser, "export", 3);
        await _metering.UseAsync(other, sharedUser, "export", 1);
        await _metering.UseAsync(third, sharedUser, "export", 9);

        var told = await _metering.DeliveriesAsync(_enterprise, other, third);
        Assert.Equal(("one@example.com", sharedUser), (Assert.Single(told).Recipient, told[0].Notice.Subject));
        Assert.Equal(
            new[] { (_enterprise.EnterpriseId, 3L), (other.EnterpriseId, 1L), (third.EnterpriseId, 9L) }.Order(),
            (await _metering.UsageAsync()).Select(row => (row.EnterpriseId, row.Used)).Order()
        );
        Assert.Equal(
            [third.EnterpriseId],
            await _metering.Pipeline.QueryAsync("SELECT enterprise_id FROM usage_violations", row => row.GetGuid(0))
        );
    }

    [Fact]
    public async Task RunAsync_WhenTheStepFailsAndIsTakenAgain_ShouldTellOnce()
    {
        await _metering.AddLimitAsync(_enterprise, "export", 2, LimitWindow.Daily);
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, percent: 50);
        await _metering.ExecuteAsync(
            """
            CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fault''; END';
            CREATE CONSTRAINT TRIGGER fault AFTER INSERT ON alert_deliveries DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION fault()
            """
        );
        for (int i = 0; i < 3; i++)
        {
            await Assert.ThrowsAsync<PostgresException>(() => _metering.UseAsync(_enterprise, "ana", "export", 1));
        }

        Assert.Equal(
            (0L, 0L, 0L),
            (
                await _metering.CountAsync("alert_events"),
                await _metering.CountAsync("limit_usage"),
                await _metering.CountAsync("limit_meters")
            )
        );
        await _metering.ExecuteAsync("DROP TRIGGER fault ON alert_deliveries");

        // The same worker goes on: what it told in the failed steps it does not take for told.
        await _metering.Pipeline.ProcessAllAsync(_metering.Step);

        Assert.Equal(3, Assert.Single(await _metering.UsageAsync()).Used);
        Assert.Equal("HIGH", Assert.Single(await _metering.AlertsAsync()).Severity);
        Assert.Equal("OPENED", Assert.Single(await _metering.DeliveriesAsync(_enterprise)).Cause);
    }

    [Fact]
    public async Task RunAsync_WhenDeliveriesAreCommitted_ShouldWakeTheSender()
    {
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, value: 2);
        await _metering.UseAsync(_enterprise, "ana", "export", 1);
        Task woken = _metering.Pipeline.Metering.Deliveries.WaitAsync(Timeout.InfiniteTimeSpan, default);
        Assert.False(woken.IsCompleted);

        await _metering.UseAsync(_enterprise, "ana", "export", 1);

        await woken;
    }

    [Fact]
    public async Task ResolveAlertsAsync_WhenWindowsHaveEnded_ShouldResolveTheirAlertsAtTheEnd()
    {
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Hourly, value: 1);
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, value: 1);
        await _metering.UseAsync(_enterprise, "ana", "export", 1);
        using var ended = new EndedWindows(
            _metering.Pipeline.Database,
            _metering.Time,
            NullLogger<EndedWindows>.Instance
        );
        await ended.ResolveAlertsAsync(default);
        Assert.All(await _metering.AlertsAsync(), alert => Assert.Null(alert.ResolvedAt));

        _metering.Time.Advance(TimeSpan.FromMinutes(10)); // 10:30Z, the hour's end in Kolkata
        await ended.ResolveAlertsAsync(default);

        Assert.Equal(
            [s_now.AddMinutes(10).UtcDateTime, null],
            (await _metering.AlertsAsync()).OrderBy(alert => alert.ResolvedAt is null).Select(alert => alert.ResolvedAt)
        );
    }

    [Theory]
    [InlineData("2026-03-08T05:00Z", 23)] // the day on which New York's clocks go forward
    [InlineData("2026-11-01T04:00Z", 25)] // … and back
    [InlineData("2026-11-02T05:00Z", 24)]
    public async Task ResolveAlertsAsync_WhenTheClocksChange_ShouldResolveAtTheEndOfTheLocalDay(string start, int hours)
    {
        var dayStart = DateTimeOffset.Parse(start, System.Globalization.CultureInfo.InvariantCulture);
        await using MeteringFixture metering = await MeteringFixture.CreateAsync(engines, dayStart.AddMinutes(1));
        EnterpriseInfo enterprise = await metering.Pipeline.AddEnterpriseAsync("America/New_York", 1);
        await metering.AddRuleAsync(enterprise, "export", LimitWindow.Daily, value: 1);
        using var ended = new EndedWindows(
            metering.Pipeline.Database,
            metering.Time,
            NullLogger<EndedWindows>.Instance
        );
        await metering.UseAsync(enterprise, "ana", "export", 1);

        // In the day's last second it is open, and what comes then is of this day.
        metering.Time.SetUtcNow(dayStart.AddHours(hours).AddSeconds(-1));
        await metering.UseAsync(enterprise, "ana", "export", 1);
        await ended.ResolveAlertsAsync(default);
        Assert.Null(Assert.Single(await metering.AlertsAsync()).ResolvedAt);

        metering.Time.SetUtcNow(dayStart.AddHours(hours));
        await ended.ResolveAlertsAsync(default);
        await metering.UseAsync(enterprise, "ana", "export", 1);

        Assert.Equal(
            [
                (dayStart.UtcDateTime, dayStart.AddHours(hours).UtcDateTime),
                (dayStart.AddHours(hours).UtcDateTime, (DateTime?)null),
            ],
            (await metering.AlertsAsync()).Select(alert => (alert.WindowStart, alert.ResolvedAt))
        );
    }

    [Fact]
    public async Task RunAsync_WhenAnHourComesTwice_ShouldTellOfEach()
    {
        // 01:30 in New York, before the clocks go back at 02:00 to 01:00.
        var first = new DateTimeOffset(2026, 11, 1, 5, 30, 0, TimeSpan.Zero);
        await using MeteringFixture metering = await MeteringFixture.CreateAsync(engines, first);
        EnterpriseInfo enterprise = await metering.Pipeline.AddEnterpriseAsync("America/New_York", 1);
        await metering.AddRuleAsync(enterprise, "export", LimitWindow.Hourly, value: 1);

        await metering.UseAsync(enterprise, "ana", "export", 1);
        metering.Time.Advance(TimeSpan.FromHours(1));
        await metering.UseAsync(enterprise, "ana", "export", 1);

        DateTime hour = first.UtcDateTime.AddMinutes(-30);
        Assert.Equal([hour, hour.AddHours(1)], (await metering.AlertsAsync()).Select(alert => alert.WindowStart));
    }

    [Fact]
    public async Task DeleteUsageAsync_WhenWindowsEndedLongAgo_ShouldDeleteTheirCountsOnly()
    {
        await _metering.AddLimitAsync(_enterprise, "export", 1, LimitWindow.Hourly);
        await _metering.AddLimitAsync(_enterprise, "export", 1, LimitWindow.Monthly);
        await _metering.UseAsync(_enterprise, "ana", "export", 1);
        using var ended = new EndedWindows(
            _metering.Pipeline.Database,
            _metering.Time,
            NullLogger<EndedWindows>.Instance
        );
        _metering.Time.Advance(TimeSpan.FromDays(9));
        await ended.DeleteUsageAsync(default);
        Assert.Equal(2, await _metering.CountAsync("limit_usage"));

        _metering.Time.Advance(TimeSpan.FromHours(1));
        await ended.DeleteUsageAsync(default);

        Assert.Equal(1, await _metering.CountAsync("limit_usage"));
    }
}
