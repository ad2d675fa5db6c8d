using Npgsql;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Processing;

public sealed class PartitionStepTests(Engines engines) : IAsyncLifetime
{
    private static readonly string[] s_zones = ["Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"];
    private PipelineFixture _pipeline = null!;

    public async ValueTask InitializeAsync() => _pipeline = await PipelineFixture.CreateAsync(engines);

    public ValueTask DisposeAsync() => _pipeline.DisposeAsync();

    [Fact]
    public async Task RunAsync_WhenAnEventComesAgainWithinTheWindow_ShouldStoreItOnce()
    {
        EnterpriseInfo enterprise = await _pipeline.AddEnterpriseAsync("UTC", 1);
        var eventId = Guid.NewGuid();
        var first = new DateTimeOffset(2026, 1, 31, 23, 59, 59, TimeSpan.Zero);
        PartitionStep step = _pipeline.NewStep();

        // 29 days on is two calendar months later; 40 days on is another event.
        foreach (
            DateTimeOffset timestamp in new[]
            {
                first,
                first.AddSeconds(2),
                first.AddDays(29),
                first.AddDays(-32),
                first.AddDays(40),
            }
        )
        {
            await _pipeline.AppendAsync(enterprise, [PipelineFixture.Event(eventId, enterprise, "u", "f", timestamp)]);
            await _pipeline.ProcessAllAsync(step);
        }

        Assert.Equal([(5L, 2L, 3L)], await LedgerAsync());
    }

    [Fact]
    public async Task RunAsync_WhenEnterprisesShareAnEventId_ShouldKeepBoth()
    {
        EnterpriseInfo one = await _pipeline.AddEnterpriseAsync("UTC", 1);
        EnterpriseInfo other = await _pipeline.AddEnterpriseAsync("UTC", 1);
        var eventId = Guid.NewGuid();
        DateTimeOffset now = DateTimeOffset.UtcNow;

        await _pipeline.AppendAsync(one, [PipelineFixture.Event(eventId, one, "u", "f", now)]);
        await _pipeline.AppendAsync(other, [PipelineFixture.Event(eventId, other, "u", "f", now)]);
        await _pipeline.ProcessAllAsync();

        Assert.Equal([(1L, 1L, 0L), (1L, 1L, 0L)], await LedgerAsync());
    }

    [Fact]
    public async Task RunAsync_WhenTwoWorkersAndRandomFaults_ShouldCountEveryEventOnce()
    {
        const int Rounds = 60;
        var random = new Random(20261123);
        EnterpriseInfo[] enterprises = await Task.WhenAll(
            s_zones.Select((zone, index) => _pipeline.AddEnterpriseAsync(zone, (short)(index % 2)))
        );
        var sent = new Dictionary<(Guid Enterprise, Guid Event), ParsedEvent>();
        var attempts = new Dictionary<Guid, (Guid Enterprise, BlockedAttempt Attempt)>();
        long accepted = 0;
        long rejected = 0;
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        Task[] workers = [.. Enumerable.Range(0, 2).Select(_ => Task.Run(() => WorkAsync(stop.Token)))];
        Task saboteur = Task.Run(() => SabotageAsync(random.Next(), stop.Token));
        for (int round = 0; round < Rounds; round++)
        {
            EnterpriseInfo enterprise = enterprises[random.Next(enterprises.Length)];
            var batch = new List<ParsedEvent>();
            for (int i = random.Next(1, 60); i > 0; i--)
            {
                bool again = sent.Count > 0 && random.Next(4) == 0;
                ParsedEvent parsed = again
                    ? sent.ElementAt(random.Next(sent.Count)) is var old
                    && old.Key.Enterprise == enterprise.EnterpriseId
                        ? old.Value
                        : NewEvent(random, enterprise)
                    : NewEvent(random, enterprise);
                batch.Add(parsed);
                sent[(enterprise.EnterpriseId, parsed.EventId)] = parsed;
            }

            int refused = random.Next(3);
            List<BlockedAttempt> blocked =
            [
                .. Enumerable
                    .Range(0, random.Next(4))
                    .Select(i =>
                        PipelineFixture.Attempt(NewEvent(random, enterprise), i % 2 == 0 ? Guid.NewGuid() : null)
                    ),
            ];
            blocked.ForEach(attempt => attempts[attempt.ReceiptId] = (enterprise.EnterpriseId, attempt));
            await _pipeline.AppendAsync(enterprise, batch, refused, blocked);
            accepted += batch.Count;
            rejected += refused;
        }

        await stop.CancelAsync();
        await Task.WhenAll([.. workers, saboteur]);
        await _pipeline.ProcessAllAsync();

        List<(long, long, long, long, long, long)> ledger = await _pipeline.QueryAsync(
            """
            SELECT sum(received)::bigint, sum(accepted)::bigint, sum(rejected)::bigint, sum(blocked)::bigint, sum(stored)::bigint,
                   sum(duplicate)::bigint
              FROM usage_ledger
            """,
            row =>
                (row.GetInt64(0), row.GetInt64(1), row.GetInt64(2), row.GetInt64(3), row.GetInt64(4), row.GetInt64(5))
        );
        long received = accepted + rejected + attempts.Count;
        Assert.Equal([(received, accepted, rejected, attempts.Count, sent.Count, accepted - sent.Count)], ledger);
        await AssertStoredAsync(sent);
        await AssertDecisionsAsync(attempts);
        await AssertAggregatesAsync(enterprises, sent);
        await AssertActiveUsersAsync(enterprises, sent);
    }

    [Fact]
    public async Task RunAsync_WhenEverythingIsBlocked_ShouldKeepTheAttemptsAndCountNoUsage()
    {
        EnterpriseInfo enterprise = await _pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        var policy = Guid.NewGuid();
        DateTimeOffset timestamp = new(2026, 3, 31, 23, 59, 59, TimeSpan.Zero);
        DateTimeOffset decidedAt = new(2027, 8, 1, 0, 0, 0, 120, TimeSpan.Zero); // a month that has no partition yet
        ParsedEvent tried = PipelineFixture.Event(Guid.NewGuid(), enterprise, "ana", "export", timestamp);
        BlockedAttempt[] blocked =
        [
            PipelineFixture.Attempt(tried, policy, decidedAt),
            PipelineFixture.Attempt(tried, policy, decidedAt), // a retry is another attempt
        ];

        await _pipeline.AppendAsync(enterprise, [], 0, blocked);
        PartitionStep.Outcome outcome = await _pipeline.NewStep().RunAsync(1, default);
        await _pipeline.ProcessAllAsync();

        Assert.Equal((2, 0), (outcome.Events, outcome.Stored));
        Assert.Equal([(0L, 0L, 0L)], await LedgerAsync());
        List<(Guid, DateTime, int, long)> decisions = await _pipeline.QueryAsync(
            "SELECT receipt_id, decided_at, segment_slot, segment_offset FROM decisions WHERE policy_version = 3 ORDER BY segment_slot",
            row => (row.GetGuid(0), row.GetDateTime(1), row.GetInt32(2), row.GetInt64(3))
        );
        Assert.Equal(
            blocked.Select((attempt, slot) => (attempt.ReceiptId, decidedAt.UtcDateTime, slot, 1L)),
            decisions
        );
        foreach (
            string table in new[]
            {
                "usage_events",
                "usage_aggregates",
                "user_usage_aggregates",
                "active_user_sets",
                "users",
            }
        )
        {
            Assert.Equal([0L], await _pipeline.QueryAsync($"SELECT count(*) FROM {table}", row => row.GetInt64(0)));
        }
    }

    private static ParsedEvent NewEvent(Random random, EnterpriseInfo enterprise) =>
        PipelineFixture.Event(
            Guid.NewGuid(),
            enterprise,
            "user-" + random.Next(40),
            "feature-" + random.Next(4),
            new DateTimeOffset(2026, 4, 3, 0, 0, 0, TimeSpan.Zero).AddMinutes(random.Next(0, 4 * 24 * 60))
        );

    private async Task WorkAsync(CancellationToken stop)
    {
        PartitionStep step = _pipeline.NewStep();
        while (!stop.IsCancellationRequested)
        {
            for (short partition = 0; partition < 2; partition++)
            {
                try
                {
                    await step.RunAsync(partition, CancellationToken.None);
                }
                catch (NpgsqlException)
                {
                    step = _pipeline.NewStep();
                }
            }
        }
    }

    /// <summary>Ends the workers' connections in the middle of whatever they do.</summary>
    private async Task SabotageAsync(int seed, CancellationToken stop)
    {
        var random = new Random(seed);
        while (!stop.IsCancellationRequested)
        {
            await _pipeline.QueryAsync(
                """
                SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE usename = 'usage_monitor_pipeline' AND datname = current_database() AND xact_start IS NOT NULL
                """,
                row => row.GetInt64(0)
            );
            await Task.Yield();
            for (int spin = random.Next(200_000); spin > 0; spin--)
            {
                Thread.SpinWait(1);
            }
        }
    }

    private async Task AssertStoredAsync(Dictionary<(Guid Enterprise, Guid Event), ParsedEvent> sent)
    {
        List<(Guid, Guid)> stored = await _pipeline.QueryAsync(
            "SELECT enterprise_id, event_id FROM usage_events",
            row => (row.GetGuid(0), row.GetGuid(1))
        );
        Assert.Equal(sent.Keys.Order(), stored.Order());
    }

    private async Task AssertDecisionsAsync(Dictionary<Guid, (Guid Enterprise, BlockedAttempt Attempt)> attempts)
    {
        List<(Guid, Guid, string, Guid, string, Guid?, DateTime)> decided = await _pipeline.QueryAsync(
            "SELECT enterprise_id, receipt_id, code, event_id, feature_name, policy_id, event_timestamp FROM decisions",
            row =>
                (
                    row.GetGuid(0),
                    row.GetGuid(1),
                    row.GetString(2),
                    row.GetGuid(3),
                    row.GetString(4),
                    row.GetFieldValue<Guid?>(5),
                    row.GetDateTime(6)
                )
        );
        Assert.Equal(
            attempts
                .Values.Select(one =>
                    (
                        one.Enterprise,
                        one.Attempt.ReceiptId,
                        one.Attempt.Code,
                        one.Attempt.Event.EventId,
                        one.Attempt.Event.FeatureName,
                        one.Attempt.PolicyId,
                        DateTime.UnixEpoch.AddTicks(
                            one.Attempt.Event.TimestampMicroseconds * TimeSpan.TicksPerMicrosecond
                        )
                    )
                )
                .OrderBy(row => row.ReceiptId),
            decided.OrderBy(row => row.Item2)
        );
    }

    private async Task AssertAggregatesAsync(
        EnterpriseInfo[] enterprises,
        Dictionary<(Guid Enterprise, Guid Event), ParsedEvent> sent
    )
    {
        var expected = new Dictionary<(Guid, string, string, DateTime), long>();
        var expectedUsers = new Dictionary<(Guid, Guid, string, DateTime), long>();
        foreach (((Guid enterpriseId, _), ParsedEvent parsed) in sent)
        {
            var local = new LocalTime(enterprises.Single(e => e.EnterpriseId == enterpriseId).TimeZone);
            DateTime timestamp = DateTime.UnixEpoch.AddMicroseconds(parsed.TimestampMicroseconds);
            foreach (string feature in new[] { parsed.FeatureName, "" })
            {
                Add(expected, (enterpriseId, "hour", feature, local.HourStart(timestamp)));
                Add(expected, (enterpriseId, "day", feature, local.DayStart(timestamp)));
            }

            Add(expectedUsers, (enterpriseId, parsed.UserId, parsed.FeatureName, local.DayStart(timestamp)));
        }

        List<((Guid, string, string, DateTime), long)> aggregates = await _pipeline.QueryAsync(
            "SELECT enterprise_id, granularity, feature_name, time_bucket, value FROM usage_aggregates",
            row => ((row.GetGuid(0), row.GetString(1), row.GetString(2), row.GetDateTime(3)), row.GetInt64(4))
        );
        Assert.Equal(
            expected.OrderBy(e => e.Key),
            aggregates.ToDictionary(a => a.Item1, a => a.Item2).OrderBy(e => e.Key)
        );
        List<((Guid, Guid, string, DateTime), long)> users = await _pipeline.QueryAsync(
            "SELECT enterprise_id, user_id, feature_name, time_bucket, usage_count FROM user_usage_aggregates",
            row => ((row.GetGuid(0), row.GetGuid(1), row.GetString(2), row.GetDateTime(3)), row.GetInt64(4))
        );
        Assert.Equal(
            expectedUsers.OrderBy(e => e.Key),
            users.ToDictionary(a => a.Item1, a => a.Item2).OrderBy(e => e.Key)
        );
    }

    private async Task AssertActiveUsersAsync(
        EnterpriseInfo[] enterprises,
        Dictionary<(Guid Enterprise, Guid Event), ParsedEvent> sent
    )
    {
        var expected = new Dictionary<(Guid, DateTime, string), HashSet<Guid>>();
        foreach (((Guid enterpriseId, _), ParsedEvent parsed) in sent)
        {
            var local = new LocalTime(enterprises.Single(e => e.EnterpriseId == enterpriseId).TimeZone);
            DateTime timestamp = DateTime.UnixEpoch.AddMicroseconds(parsed.TimestampMicroseconds);
            (Guid, DateTime, string) hour = (enterpriseId, local.HourStart(timestamp), parsed.FeatureName);
            if (!expected.TryGetValue(hour, out HashSet<Guid>? users))
            {
                expected[hour] = users = [];
            }

            users.Add(parsed.UserId);
        }

        var found = new Dictionary<(Guid, DateTime), ActiveUsers>();
        List<(Guid, DateTime, byte[])> rows = await _pipeline.QueryAsync(
            "SELECT enterprise_id, time_bucket, hourly_members FROM active_user_sets",
            row => (row.GetGuid(0), row.GetDateTime(1), row.GetFieldValue<byte[]>(2))
        );
        foreach ((Guid enterpriseId, DateTime day, byte[] hourly) in rows)
        {
            if (!found.TryGetValue((enterpriseId, day), out ActiveUsers? users))
            {
                found[(enterpriseId, day)] = users = new ActiveUsers();
            }

            users.UnionWithHours(hourly);
        }

        Dictionary<(Guid, DateTime, string), int> counts = found
            .SelectMany(day =>
                day.Value.Hours.SelectMany(hour =>
                    hour.Value.Select(f =>
                        ((day.Key.Item1, day.Key.Item2.AddMinutes(hour.Key), f.Key), f.Value.Count())
                    )
                )
            )
            .ToDictionary(entry => entry.Item1, entry => entry.Item2);
        Assert.Equal(
            expected.Select(e => KeyValuePair.Create(e.Key, e.Value.Count)).OrderBy(e => e.Key),
            counts.OrderBy(e => e.Key)
        );
    }

    private static void Add<TKey>(Dictionary<TKey, long> counts, TKey key)
        where TKey : notnull => counts[key] = counts.GetValueOrDefault(key) + 1;

    private Task<List<(long, long, long)>> LedgerAsync() =>
        _pipeline.QueryAsync(
            "SELECT sum(accepted)::bigint, sum(stored)::bigint, sum(duplicate)::bigint FROM usage_ledger GROUP BY enterprise_id",
            row => (row.GetInt64(0), row.GetInt64(1), row.GetInt64(2))
        );
}
