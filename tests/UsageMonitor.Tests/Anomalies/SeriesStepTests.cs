using Npgsql;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Anomalies;

/// <summary>What is found of an office's hours, on real PostgreSQL and the test's own clock.</summary>
public sealed class SeriesStepTests(Engines engines)
{
    // A Monday at 06:00 in New York; the clocks change on 8 March and 1 November.
    private static readonly DateTimeOffset s_monday = new(2026, 2, 2, 11, 0, 0, TimeSpan.Zero);
    private static readonly TimeSpan s_minutes = TimeSpan.FromMinutes(2);

    [Theory]
    [InlineData("2026-02-02T11:00:00Z")]
    [InlineData("2026-09-14T10:00:00Z")]
    public async Task RunAsync_WhenEightWeeksAreQuiet_ShouldFeedEachHourOnceAndAlarmNobody(string monday)
    {
        var start = DateTimeOffset.Parse(monday, System.Globalization.CultureInfo.InvariantCulture);
        await using Watched watched = await Watched.StartAsync(engines, start);
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        DateTime end = start.UtcDateTime.AddDays(56);
        await watched.CountAsync(enterprise, new Office(enterprise).Hours(start.UtcDateTime.AddDays(-1), end));

        await watched.AdvanceAsync(TimeSpan.FromDays(56), TimeSpan.FromHours(5));

        Assert.Equal([], await watched.FoundAsync(enterprise));
        Assert.Equal([], await watched.FoundAsync(enterprise, "ACTIVE_USERS"));

        // Of each hour since the warm-up there is one range, also where an hour comes twice or is left out.
        var local = new LocalTime(enterprise.TimeZone);
        List<DateTime> hours = await watched.Pipeline.QueryAsync(
            "SELECT time_bucket FROM anomaly_expectations WHERE feature_name = '' AND series = 'USAGE' ORDER BY time_bucket",
            row => row.GetDateTime(0)
        );
        var expected = new List<DateTime>();
        for (DateTime hour = hours[0]; local.NextHour(hour).AddMinutes(5) <= watched.Now; hour = local.NextHour(hour))
        {
            expected.Add(hour);
        }

        Assert.Equal(expected, hours);
        Assert.True(hours.Count > 24 * 30);
    }

    [Fact]
    public async Task RunAsync_WhenHoursAreAbnormal_ShouldTellSpikeDropAndSilenceApart()
    {
        await using Watched watched = await Watched.StartAsync(engines, s_monday.AddDays(35));
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        var office = new Office(enterprise);
        DateTime monday = watched.Now;
        await watched.CountAsync(enterprise, office.Hours(s_monday.UtcDateTime, monday.AddHours(4)));
        await watched.PassAsync();

        // 06:00 in the winter is 07:00 now: the next hours are 11:00, 12:00 …; silence after the drop, and then as ever.
        DateTime at(int hours) => monday.AddHours(hours);
        await watched.CountAsync(
            enterprise,
            [
                .. office
                    .Hours(at(4), at(5))
                    .Select(hour =>
                        hour with
                        {
                            Events = hour.Feature == Office.Export ? hour.Events * 12 : hour.Events,
                        }
                    ),
                .. office.Hours(at(5), at(6)),
                .. office
                    .Hours(at(6), at(7))
                    .Select(hour =>
                        hour with
                        {
                            Events = hour.Feature == Office.Search ? hour.Events / 20 : hour.Events,
                        }
                    ),
                .. office.Hours(at(7), at(8)),
                .. office.Hours(at(8), at(9)).Where(hour => hour.Feature == Office.Search),
                .. office.Hours(at(9), at(10)),
            ]
        );
        await watched.AdvanceAsync(TimeSpan.FromHours(11), TimeSpan.FromHours(11));

        List<(string Kind, string Feature, string Status, string Detail)> found = await watched.FoundAsync(enterprise);
        Assert.Contains(found, one => one is { Kind: "SPIKE", Feature: Office.Export });
        Assert.Contains(found, one => one is { Kind: "DROP", Feature: Office.Search });
        Assert.Contains(found, one => one is { Kind: "STOPPED", Feature: Office.Export });
        Assert.DoesNotContain(found, one => one is { Kind: "STOPPED", Feature: "" or Office.Search });
        Assert.DoesNotContain(found, one => one is { Kind: "DROP", Feature: Office.Export });
        Assert.All(found, one => Assert.Equal("RESOLVED", one.Status));
        Assert.Contains("were expected", found[0].Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_WhenTheRunningHourIsPastItsRange_ShouldTellAtOnceAndOnce()
    {
        await using Watched watched = await Watched.StartAsync(engines, s_monday.AddDays(35).AddHours(4).AddMinutes(6));
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        var office = new Office(enterprise);
        DateTime hour = new LocalTime(enterprise.TimeZone).HourStart(watched.Now);
        await watched.CountAsync(enterprise, office.Hours(s_monday.UtcDateTime, hour));
        await watched.PassAsync();
        Assert.Empty(await watched.FoundAsync(enterprise));

        // 14 minutes into the hour it has more than whole hours have.
        await watched.CountAsync(enterprise, [(Office.Search, hour, 600), (Office.Export, hour, 2_500)]);
        await watched.AdvanceAsync(TimeSpan.FromMinutes(8), s_minutes);
        Assert.Contains(
            await watched.FoundAsync(enterprise),
            one => one is { Kind: "SPIKE", Feature: Office.Export, Status: "OPEN" }
        );
        await watched.CountAsync(enterprise, [(Office.Search, hour, 600), (Office.Export, hour, 4_000)]);
        await watched.CountAsync(enterprise, office.Hours(hour.AddHours(1), hour.AddHours(3)));
        await watched.AdvanceAsync(TimeSpan.FromHours(2), TimeSpan.FromMinutes(20));

        (string kind, string _, string status, string detail) = Assert.Single(
            await watched.FoundAsync(enterprise),
            one => one.Feature == Office.Export
        );
        Assert.Equal(("SPIKE", "RESOLVED"), (kind, status));
        Assert.StartsWith("4,000 events of export", detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_WhenAllOrOneFeatureStops_ShouldTellWithinMinutesAndEndWhenItComesAgain()
    {
        await using Watched watched = await Watched.StartAsync(engines, s_monday.AddDays(35).AddHours(3));
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        DateTime start = watched.Now;
        await watched.CountAsync(enterprise, new Office(enterprise).Hours(s_monday.UtcDateTime, start));
        await watched.PassAsync();

        await SendAsync(watched, enterprise, TimeSpan.FromMinutes(150), search: true, export: true);
        Assert.Empty(await watched.FoundAsync(enterprise));
        await SendAsync(watched, enterprise, TimeSpan.FromMinutes(30), search: true, export: false);
        Assert.Equal(
            [("STOPPED", Office.Export, "OPEN")],
            (await watched.FoundAsync(enterprise)).Select(one => (one.Kind, one.Feature, one.Status))
        );
        await SendAsync(watched, enterprise, TimeSpan.FromMinutes(10), search: true, export: true);
        await SendAsync(watched, enterprise, TimeSpan.FromMinutes(16), search: false, export: false);
        Assert.Equal(
            [("STOPPED", Office.Export, "RESOLVED"), ("STOPPED", "", "OPEN")],
            (await watched.FoundAsync(enterprise)).Select(one => (one.Kind, one.Feature, one.Status))
        );
        await SendAsync(watched, enterprise, TimeSpan.FromMinutes(90), search: true, export: true);
        Assert.Equal(
            [("STOPPED", Office.Export, "RESOLVED"), ("STOPPED", "", "RESOLVED")],
            (await watched.FoundAsync(enterprise)).Select(one => (one.Kind, one.Feature, one.Status))
        );
    }

    [Fact]
    public async Task RunAsync_WhenProcessingIsBehind_ShouldNotTakeItForSilence()
    {
        await using Watched watched = await Watched.StartAsync(engines, s_monday.AddDays(35).AddHours(3));
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        await watched.CountAsync(enterprise, new Office(enterprise).Hours(s_monday.UtcDateTime, watched.Now));
        await watched.PassAsync();
        await SendAsync(watched, enterprise, TimeSpan.FromMinutes(90), search: true, export: true);

        // The log has more than was processed, and nothing is counted for two hours.
        DateTime stuck = watched.Now;
        await watched.ExecuteAsync("UPDATE log_partitions SET next_offset = 100 WHERE log_partition = 1");
        await watched.ExecuteAsync("UPDATE log_positions SET processed_through = $1 WHERE log_partition = 1", stuck);
        await watched.AdvanceAsync(TimeSpan.FromHours(2), s_minutes);
        Assert.Empty(await watched.FoundAsync(enterprise));

        // Had it been processed, the same silence would be one.
        await watched.ExecuteAsync("UPDATE log_positions SET segment_offset = 99 WHERE log_partition = 1");
        await watched.AdvanceAsync(TimeSpan.FromMinutes(30), s_minutes);
        Assert.Contains(await watched.FoundAsync(enterprise), one => one is { Kind: "STOPPED", Feature: "" });
    }

    [Fact]
    public async Task RunAsync_WhenTwoInstancesAndRandomFaults_ShouldEndAsOneThatNeverFailed()
    {
        (List<string> spared, List<string> foundSpared) = await RunForDaysAsync(isStruck: false);
        (List<string> struck, List<string> foundStruck) = await RunForDaysAsync(isStruck: true);

        Assert.Equal(3, spared.Count);
        Assert.Equal(spared, struck);
        Assert.NotEmpty(foundSpared);
        Assert.Equal(foundSpared, foundStruck);
    }

    private async Task<(List<string> States, List<string> Found)> RunForDaysAsync(bool isStruck)
    {
        await using Watched watched = await Watched.StartAsync(engines, s_monday.AddDays(35).AddHours(6));
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync();
        DateTime odd = watched.Now.AddHours(28);
        await watched.CountAsync(
            enterprise,
            new Office(enterprise)
                .Hours(s_monday.UtcDateTime.AddDays(3), watched.Now.AddDays(3))
                .Select(hour => hour.Hour == odd ? hour with { Events = (hour.Events * 9) + 50 } : hour)
        );
        var random = new Random(4);
        AnomalyPass[] instances = [watched.NewPass(), watched.NewPass()];
        int struck = 0;
        for (int i = 0; i < 12; i++)
        {
            if (isStruck)
            {
                using var done = new CancellationTokenSource();
                Task killing = KillAsync(done.Token);
                await Task.WhenAll(instances.Select(TryAsync));
                await done.CancelAsync();
                await killing;
            }
            else
            {
                await watched.PassAsync(instances[0]);
            }

            watched.Time.Advance(TimeSpan.FromHours(5));
        }

        await watched.PassAsync(watched.NewPass());
        Assert.Equal(isStruck, struck > 0);
        return (
            await watched.Pipeline.QueryAsync(
                """
                SELECT feature_name || ' ' || fed_through || ' ' || md5(usage_state) || md5(users_state) FROM anomaly_series
                 ORDER BY feature_name
                """,
                row => row.GetString(0)
            ),
            [.. (await watched.FoundAsync(enterprise)).Select(one => one.ToString())]
        );

        async Task TryAsync(AnomalyPass instance)
        {
            try
            {
                await instance.RunAsync(default);
            }
            catch (Exception exception) when (exception is NpgsqlException or IOException)
            {
                // Looking for who is due was struck, or letting the enterprise rest.
            }
        }

        async Task KillAsync(CancellationToken done)
        {
            while (!done.IsCancellationRequested)
            {
                // Seldom enough that some get through.
                string chance = (random.Next(1, 8) / 100.0).ToString(System.Globalization.CultureInfo.InvariantCulture);
                List<long> killed = await watched.Pipeline.QueryAsync(
                    $"""
                    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND usename = 'usage_monitor_pipeline' AND random() < {chance}
                    """,
                    row => row.GetInt64(0)
                );
                struck += (int)killed[0];
            }
        }
    }

    // Events come every two minutes, each an even share of its hour.
    private static async Task SendAsync(
        Watched watched,
        EnterpriseInfo enterprise,
        TimeSpan duration,
        bool search,
        bool export
    )
    {
        AnomalyPass pass = watched.NewPass();
        var local = new LocalTime(enterprise.TimeZone);
        for (DateTime until = watched.Now + duration; watched.Now < until; )
        {
            DateTime hour = local.HourStart(watched.Now);
            await watched.ExecuteAsync(
                """
                INSERT INTO usage_aggregates AS kept (enterprise_id, metric_type, granularity, feature_name, time_bucket, value)
                SELECT $1, 'usage_count', 'hour', feature, $2, events
                  FROM (VALUES ('search', $3), ('export', $4), ('', $3 + $4)) AS n (feature, events) WHERE events > 0
                    ON CONFLICT (enterprise_id, metric_type, granularity, feature_name, time_bucket) DO UPDATE SET value = kept.value + excluded.value
                """,
                enterprise.EnterpriseId,
                hour,
                search ? 20L : 0L,
                export ? 7L : 0L
            );
            watched.Time.Advance(s_minutes);
            await watched.PassAsync(pass);
        }
    }
}
