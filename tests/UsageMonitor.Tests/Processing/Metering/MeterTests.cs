using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;
using UsageMonitor.Server.Processing.Metering;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Processing.Metering;

public sealed class MeterTests(Engines engines) : IAsyncLifetime
{
    /// <summary>The day on which New York's clocks go back.</summary>
    private static readonly DateTimeOffset s_now = new(2026, 11, 1, 20, 20, 0, TimeSpan.Zero);
    private static readonly string[] s_zones = ["Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"];

    private MeteringFixture _metering = null!;

    public async ValueTask InitializeAsync() => _metering = await MeteringFixture.CreateAsync(engines, s_now);

    public ValueTask DisposeAsync() => _metering.DisposeAsync();

    [Fact]
    public async Task RunAsync_WhenMetersBeginAnywhereAndStepsFail_ShouldCountLikeANaiveModel()
    {
        const int Rounds = 70;
        var random = new Random(20261101);
        EnterpriseInfo[] enterprises = await Task.WhenAll(
            s_zones.Select((zone, index) => _metering.Pipeline.AddEnterpriseAsync(zone, (short)(index % 2)))
        );
        foreach (EnterpriseInfo enterprise in enterprises)
        {
            foreach (int user in new[] { 1, 4, 7, 9 })
            {
                await _metering.GiveRoleAsync(enterprise, "user-" + user, "testers");
            }
        }

        // Every kind of meter in every enterprise, each beginning at a round of its own: some with the stream, most within it.
        Queue<Func<Task>> beginnings = new(Meters(enterprises).OrderBy(_ => random.Next()));
        var stored = new List<(EnterpriseInfo Enterprise, ParsedEvent Event)>();
        PartitionStep step = _metering.NewStep();
        for (int round = 0; round < Rounds; round++)
        {
            for (int begun = random.Next(3); begun > 0 && beginnings.TryDequeue(out Func<Task>? begin); begun--)
            {
                await begin();
            }

            EnterpriseInfo enterprise = enterprises[random.Next(enterprises.Length)];
            List<ParsedEvent> batch = [];
            for (int i = random.Next(1, 50); i > 0; i--)
            {
                List<ParsedEvent> own =
                [
                    .. stored.Where(one => one.Enterprise == enterprise).Select(one => one.Event),
                    .. batch,
                ];
                if (own.Count > 0 && random.Next(5) == 0)
                {
                    batch.Add(own[random.Next(own.Count)]); // a duplicate, of this step or an earlier one
                    continue;
                }

                batch.Add(NewEvent(random, enterprise));
            }

            stored.AddRange(
                batch
                    .DistinctBy(parsed => parsed.EventId)
                    .Where(parsed => !stored.Exists(one => one.Event.EventId == parsed.EventId))
                    .Select(parsed => (enterprise, parsed))
                    .ToList()
            );
            await _metering.Pipeline.AppendAsync(enterprise, batch);
            if (random.Next(3) == 0)
            {
                await FailAsync(random, step);
            }

            // The same worker, another one, or none for a while.
            if (random.Next(4) > 0)
            {
                step = random.Next(4) == 0 ? _metering.NewStep() : step;
                await _metering.Pipeline.ProcessAllAsync(step);
            }
        }

        while (beginnings.TryDequeue(out Func<Task>? begin))
        {
            await begin();
        }

        // The last meters begin with the last steps.
        foreach (EnterpriseInfo enterprise in enterprises)
        {
            ParsedEvent last = NewEvent(random, enterprise);
            stored.Add((enterprise, last));
            await _metering.Pipeline.AppendAsync(enterprise, [last]);
        }

        await _metering.Pipeline.ProcessAllAsync(step);
        await AssertCountsAsync(enterprises, stored);
    }

    [Fact]
    public async Task RunAsync_WhenALimitComesBack_ShouldHaveCountedWhatCameMeanwhile()
    {
        EnterpriseInfo enterprise = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
        Guid limit = await _metering.AddLimitAsync(enterprise, "export", 100, LimitWindow.Daily);
        await _metering.UseAsync(enterprise, "ana", "export", 3);

        await SetStatusAsync(limit, LimitTerms.Inactive);
        await _metering.UseAsync(enterprise, "ana", "export", 4);
        Assert.Equal(0, await _metering.CountAsync("limit_meters"));
        await SetStatusAsync(limit, LimitTerms.Active);
        await _metering.UseAsync(enterprise, "ana", "export", 5, step: _metering.NewStep());

        Assert.Equal([12L], (await _metering.UsageAsync()).Select(row => row.Used));
    }

    [Fact]
    public async Task RunAsync_WhenWorkersTakeTurns_ShouldFollowEachOthersMeters()
    {
        EnterpriseInfo enterprise = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
        PartitionStep one = _metering.NewStep();
        PartitionStep other = _metering.NewStep();
        await _metering.UseAsync(enterprise, "ana", "export", 1, step: one);
        await _metering.UseAsync(enterprise, "ana", "export", 1, step: other);
        Guid limit = await _metering.AddLimitAsync(enterprise, "export", 100, LimitWindow.Daily);
        await _metering.UseAsync(enterprise, "ana", "export", 1, step: one);
        await _metering.UseAsync(enterprise, "ana", "export", 1, step: other);
        await SetStatusAsync(limit, LimitTerms.Inactive);
        await _metering.UseAsync(enterprise, "ana", "export", 1, step: other);
        await SetStatusAsync(limit, LimitTerms.Active);
        await _metering.UseAsync(enterprise, "ana", "export", 1, step: one);

        Assert.Equal([6L], (await _metering.UsageAsync()).Select(row => row.Used));
    }

    [Fact]
    public async Task RunAsync_WhenSomebodyGetsOrLosesARole_ShouldCountThemFromThenOn()
    {
        EnterpriseInfo enterprise = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
        await _metering.AddLimitAsync(enterprise, "*", 100, LimitWindow.Monthly, LimitScope.Role, role: "testers");
        await _metering.GiveRoleAsync(enterprise, "ana", "testers");
        await _metering.UseAsync(enterprise, "ana", "export", 2);
        await _metering.UseAsync(enterprise, "ben", "export", 4);
        await _metering.GiveRoleAsync(enterprise, "ben", "testers");
        await _metering.UseAsync(enterprise, "ben", "export", 8);
        await _metering.ExecuteAsync(
            "DELETE FROM user_roles WHERE enterprise_id = $1 AND user_id = $2",
            enterprise.EnterpriseId,
            UserIds.Resolve(enterprise.EnterpriseId, "ana", out _)
        );
        await _metering.UseAsync(enterprise, "ana", "export", 16);

        Assert.Equal([10L], (await _metering.UsageAsync()).Select(row => row.Used));
    }

    [Fact]
    public async Task RunAsync_WhenWindowsEndedLongAgo_ShouldCountNothingInThem()
    {
        EnterpriseInfo enterprise = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
        await _metering.AddLimitAsync(enterprise, "*", 100, LimitWindow.Daily);
        await _metering.UseAsync(enterprise, "ana", "export", 1, s_now.AddDays(-9.9));
        await _metering.UseAsync(enterprise, "ana", "export", 1, s_now.AddDays(-8));
        await _metering.UseAsync(enterprise, "ana", "export", 1, s_now.AddYears(-2));

        Assert.Equal(
            [s_now.AddDays(-8).UtcDateTime.Date],
            (await _metering.UsageAsync()).Select(row => row.WindowStart)
        );
    }

    [Fact]
    public async Task RunAsync_WhenAnEnterpriseHasNoLimits_ShouldRunNoStatementMore()
    {
        EnterpriseInfo free = await _metering.Pipeline.AddEnterpriseAsync("UTC", 0);
        EnterpriseInfo limited = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
        await _metering.AddLimitAsync(limited, "export", 100, LimitWindow.Daily);
        await _metering.UseAsync(free, "ana", "export", 2);
        await _metering.UseAsync(limited, "ana", "export", 2);
        PipelineFixture pipeline = _metering.Pipeline;

        // As in a running server: limits and rules come from memory.
        var version = new IdentityVersion(TimeProvider.System);
        version.Confirm(new IdentityChanges(1, 0, []), TimeProvider.System.GetTimestamp());
        using var deliveries = new DeliverySignal();
        var step = new PartitionStep(
            pipeline.Database,
            pipeline.Log,
            new EnterpriseDirectory(pipeline.Database, Engines.MasterKey, version),
            pipeline.Months,
            new MeteringSources(
                new LimitSets(pipeline.Database, version),
                new AlertRuleSets(pipeline.Database, version, NullLogger<AlertRuleSets>.Instance),
                deliveries
            ),
            _metering.Time
        );
        await _metering.UseAsync(free, "ana", "export", 2, step: step);
        await _metering.UseAsync(limited, "ana", "export", 2, step: step);

        List<string> withoutLimits = await StatementsAsync(() =>
            _metering.UseAsync(free, "ana", "export", 2, step: step)
        );
        List<string> unaffected = await StatementsAsync(() =>
            _metering.UseAsync(limited, "ana", "other", 2, step: step)
        );
        List<string> metered = await StatementsAsync(() => _metering.UseAsync(limited, "ana", "export", 2, step: step));

        Assert.NotEmpty(withoutLimits);
        Assert.Equal(withoutLimits.Count, unaffected.Count);
        Assert.DoesNotContain(
            withoutLimits.Concat(unaffected),
            sql => sql.Contains("limit_", StringComparison.Ordinal)
        );
        Assert.Equal(1, metered.Count(sql => sql.Contains("limit_usage", StringComparison.Ordinal)));
        Assert.Equal(withoutLimits.Count + 1, metered.Count);
    }

    /// <summary>The statements and batches that this test's database is sent meanwhile.</summary>
    private async Task<List<string>> StatementsAsync(Func<Task> act)
    {
        string database = new NpgsqlConnectionStringBuilder(_metering.Pipeline.OwnerConnectionString).Database!;
        var sent = new List<string>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "Npgsql",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = activity =>
            {
                Dictionary<string, object?> tags = activity.TagObjects.ToDictionary();
                string name =
                    (tags.GetValueOrDefault("db.namespace") ?? tags.GetValueOrDefault("db.name"))?.ToString() ?? "";
                string sql =
                    (tags.GetValueOrDefault("db.query.text") ?? tags.GetValueOrDefault("db.statement"))?.ToString()
                    ?? "";
                if (name.Contains(database, StringComparison.Ordinal) && sql.Length > 0)
                {
                    lock (sent)
                    {
                        sent.Add(sql);
                    }
                }
            },
        };
        ActivitySource.AddActivityListener(listener);
        await act();
        return sent;
    }

    private IEnumerable<Func<Task>> Meters(EnterpriseInfo[] enterprises)
    {
        foreach (EnterpriseInfo enterprise in enterprises)
        {
            foreach (LimitWindow window in Enum.GetValues<LimitWindow>())
            {
                foreach (string feature in new[] { "feature-1", "feature-*", "*" })
                {
                    yield return () => _metering.AddLimitAsync(enterprise, feature, 7, window);
                    yield return () =>
                        _metering.AddLimitAsync(enterprise, feature, 50, window, LimitScope.Role, role: "testers");
                    yield return () =>
                        _metering.AddRuleAsync(enterprise, feature, window, value: 90, scope: LimitScope.Enterprise);
                }
            }
        }
    }

    /// <summary>Lets the steps fail somewhere, often at the commit itself.</summary>
    private async Task FailAsync(Random random, PartitionStep step)
    {
        string table = random.GetItems(["limit_usage", "log_positions", "usage_violations", "limit_meters"], 1)[0];
        await _metering.ExecuteAsync(
            $"""
            CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fault''; END';
            CREATE CONSTRAINT TRIGGER fault AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION fault()
            """
        );
        try
        {
            await _metering.Pipeline.ProcessAllAsync(step);
        }
        catch (PostgresException fault)
        {
            Assert.Equal("fault", fault.MessageText);
        }

        await _metering.ExecuteAsync($"DROP TRIGGER fault ON {table}");
    }

    private static ParsedEvent NewEvent(Random random, EnterpriseInfo enterprise) =>
        PipelineFixture.Event(
            Guid.NewGuid(),
            enterprise,
            "user-" + random.Next(10),
            random.Next(5) == 0 ? "other" : "feature-" + random.Next(3),
            random.Next(4) switch
            {
                0 => s_now.AddMinutes(-random.Next(12 * 24 * 60)), // late
                1 => s_now.AddMinutes(-random.Next(24 * 60)),
                2 => s_now.AddMinutes(-random.Next(3 * 60)),
                _ => s_now.AddMinutes(random.Next(5)),
            }
        );

    private async Task AssertCountsAsync(
        EnterpriseInfo[] enterprises,
        List<(EnterpriseInfo Enterprise, ParsedEvent Event)> stored
    )
    {
        List<(Guid EnterpriseId, Guid MeterId, string Feature, string Scope, string Window, DateTime Since)> meters =
            await _metering.Pipeline.QueryAsync(
                "SELECT enterprise_id, meter_id, feature_name, scope, window_type, counted_since FROM limit_meters",
                row =>
                    (
                        row.GetGuid(0),
                        row.GetGuid(1),
                        row.GetString(2),
                        row.GetString(3),
                        row.GetString(4),
                        row.GetDateTime(5)
                    )
            );
        Assert.Equal(enterprises.Length * 27, meters.Count);
        HashSet<string> testers = ["user-1", "user-4", "user-7", "user-9"];
        var expected = new Dictionary<(Guid, Guid, Guid, DateTime), long>();
        foreach (var meter in meters)
        {
            EnterpriseInfo enterprise = enterprises.Single(one => one.EnterpriseId == meter.EnterpriseId);
            LimitWindow window = LimitTerms.Window(meter.Window)!.Value;
            var local = new LocalTime(enterprise.TimeZone);

            // However late a meter began: it has all days and months, and all hours or those since three hours ago.
            bool isByEvents = window == LimitWindow.Hourly && meter.Scope != "ENTERPRISE";
            DateTime oldest = isByEvents ? s_now.UtcDateTime.AddHours(-2) : s_now.UtcDateTime.AddDays(-8);
            Assert.Equal(WindowSpan.Of(window, local, oldest).Start, meter.Since);
            foreach (ParsedEvent parsed in stored.Where(one => one.Enterprise == enterprise).Select(one => one.Event))
            {
                DateTime at = DateTime.UnixEpoch.AddMicroseconds(parsed.TimestampMicroseconds);
                WindowSpan span = WindowSpan.Of(window, local, at);
                if (
                    span.Start >= meter.Since
                    && (
                        meter.Feature == "*"
                        || parsed.FeatureName == meter.Feature
                        || (meter.Feature == "feature-*" && parsed.FeatureName != "other")
                    )
                    && (meter.Scope != "ROLE" || testers.Contains(parsed.ExternalId!))
                )
                {
                    Guid subject = meter.Scope == "USER" ? parsed.UserId : Guid.Empty;
                    (Guid, Guid, Guid, DateTime) key = (meter.EnterpriseId, meter.MeterId, subject, span.Start);
                    expected[key] = expected.GetValueOrDefault(key) + 1;
                }
            }
        }

        Assert.Equal(
            expected.OrderBy(row => row.Key),
            (await _metering.UsageAsync())
                .ToDictionary(row => (row.EnterpriseId, row.MeterId, row.SubjectId, row.WindowStart), row => row.Used)
                .OrderBy(row => row.Key)
        );
    }

    private Task SetStatusAsync(Guid limitId, string status) =>
        _metering.ExecuteAsync("UPDATE usage_limits SET status = $2 WHERE limit_id = $1", limitId, status);
}
