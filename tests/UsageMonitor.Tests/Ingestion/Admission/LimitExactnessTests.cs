using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using StackExchange.Redis;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Ingestion.Admission;

/// <summary>
/// The property that BLOCK limits are bought for: whatever clients, instances, retries and faults do, the store ends with
/// as many uses as were asked for, or as many as the limit says, and never one more.
/// </summary>
public sealed class LimitExactnessTests(Engines engines)
{
    private const int Rounds = 50;
    private const int Clients = 64;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Admit_WhenManyClientsAskTwoInstancesAndEverythingFails_ShouldAdmitExactlyTheLimit()
    {
        await using var world = await LimitedWorld.StartAsync(engines);
        var random = new Random(20_261_123);
        long[][] limitsOf =
        [
            .. Enumerable
                .Range(0, Rounds)
                .Select(_ => new long[] { random.Next(20, 300), random.Next(20, 300), random.Next(20, 300) }),
        ];
        await world.LimitAsync(limitsOf);
        for (int round = 0; round < Rounds; round++)
        {
            string feature = LimitedWorld.Feature(round);
            int asked = random.Next(40, 300);
            long[] limits = limitsOf[round];
            using var faults = new CancellationTokenSource();
            Task harm = world.HarmAsync(random, faults.Token);
            (HashSet<Guid> admitted, HashSet<Guid> refused) = await world.AskAsync(feature, asked, random);
            await faults.CancelAsync();
            await harm;
            await world.ProcessedAsync();

            HashSet<Guid> stored = await world.StoredAsync(feature);
            long expected = Math.Min(asked, limits.Min());
            Assert.True(
                stored.Count == expected,
                $"round {round}: {asked} asked, limits {string.Join('/', limits)}, {admitted.Count} told admitted, {stored.Count} stored"
            );
            Assert.Equal(stored.Order(), admitted.Order());
            Assert.Empty(refused.Intersect(stored));
        }
    }

    /// <summary>Two instances over one database and one Redis, and an enterprise that would rather refuse than not count.</summary>
    private sealed class LimitedWorld : IAsyncDisposable
    {
        private readonly Engines _engines;
        private readonly TestDatabase _database;
        private readonly ConnectionMultiplexer _redis;
        private readonly List<RunningServer> _servers = [];
        private Acme _acme = null!;

        private static readonly (string, string)[] s_settings =
        [
            ("RateLimits:RequestsPerSecondPerCaller", "1000000"),
            ("RateLimits:RequestsPerSecondPerEnterprise", "1000000"),
            ("RateLimits:EventsPerSecondPerKey", "1000000"),
            ("RateLimits:EventsPerSecondPerEnterprise", "1000000"),
            ("Logging:LogLevel:Default", "None"),
        ];

        private LimitedWorld(Engines engines, TestDatabase database, ConnectionMultiplexer redis) =>
            (_engines, _database, _redis) = (engines, database, redis);

        public static async Task<LimitedWorld> StartAsync(Engines engines)
        {
            TestDatabase database = await engines.CloneAsync();
            var world = new LimitedWorld(
                engines,
                database,
                await ConnectionMultiplexer.ConnectAsync(engines.RedisConnectionString + ",allowAdmin=true")
            );
            world._servers.Add(await RunningServer.StartAsync(engines, database, s_settings));
            world._servers.Add(await RunningServer.StartAsync(engines, database, s_settings));
            world._acme = await Acme.CreateAsync(world._servers[0]);
            await world.ExecuteAsync("UPDATE enterprises SET limits_unreachable = 'CLOSED'");
            return world;
        }

        public static string Feature(int round) => $"feature-{round}";

        /// <summary>An hour's, a day's and a month's limit for the feature of each round.</summary>
        public async Task LimitAsync(long[][] limits)
        {
            string[] windows = ["HOURLY", "DAILY", "MONTHLY"];
            for (int round = 0; round < limits.Length; round++)
            {
                for (int i = 0; i < windows.Length; i++)
                {
                    await ExecuteAsync(
                        $"""
                        INSERT INTO usage_limits (enterprise_id, limit_id, feature_name, scope, limit_value, window_type, action, status,
                                                  version, created_by, created_at, updated_at)
                        VALUES ('{_acme.EnterpriseId}', gen_random_uuid(), '{Feature(round)}', 'ENTERPRISE', {limits[
                            round
                        ][i]},
                                '{windows[i]}', 'BLOCK', 'ACTIVE', 1, gen_random_uuid(), now(), now())
                        """
                    );
                }
            }

            await ExecuteAsync("UPDATE identity_version SET version = version + 1");
            foreach (RunningServer server in _servers)
            {
                LimitSets sets = server.Services.GetRequiredService<LimitSets>();
                await Eventually.TrueAsync(
                    async () =>
                        (await sets.FindAsync(_acme.EnterpriseId, Cancelled)).Limits.Count
                        == limits.Length * windows.Length,
                    "every instance knows the limits"
                );
            }
        }

        /// <summary>Every id is asked for until it is admitted or refused for good; some by several clients, some again afterwards.</summary>
        public async Task<(HashSet<Guid> Admitted, HashSet<Guid> Refused)> AskAsync(
            string feature,
            int asked,
            Random random
        )
        {
            Guid[] ids = [.. Enumerable.Range(0, asked).Select(_ => Guid.NewGuid())];
            Guid[] twice = [.. ids, .. ids.Where(_ => random.Next(4) == 0)];
            random.Shuffle(twice);
            var requests = new ConcurrentQueue<(Guid[] Ids, int Seed)>();
            for (int from = 0; from < twice.Length; )
            {
                int size = random.Next(3) == 0 ? 1 : random.Next(1, 12);
                requests.Enqueue((twice[from..Math.Min(from + size, twice.Length)], random.Next()));
                from += size;
            }

            var admitted = new ConcurrentDictionary<Guid, bool>();
            var refused = new ConcurrentDictionary<Guid, bool>();
            await Parallel.ForAsync(
                0,
                Clients,
                new ParallelOptions { MaxDegreeOfParallelism = Clients, CancellationToken = Cancelled },
                async (_, _) =>
                {
                    while (requests.TryDequeue(out (Guid[] Ids, int Seed) request))
                    {
                        await AskAsync(feature, request.Ids, new Random(request.Seed), admitted, refused);
                    }
                }
            );
            return ([.. admitted.Keys], [.. refused.Keys.Except(admitted.Keys)]);
        }

        private async Task AskAsync(
            string feature,
            Guid[] ids,
            Random random,
            ConcurrentDictionary<Guid, bool> admitted,
            ConcurrentDictionary<Guid, bool> refused
        )
        {
            List<Guid> open = [.. ids];
            for (int attempt = 0; open.Count > 0; attempt++)
            {
                Assert.True(attempt < 500, "an answer in 500 attempts");
                IngestResponse? answer = await TrySendAsync(feature, open, random);
                if (answer is null)
                {
                    continue;
                }

                var again = new List<Guid>();
                Dictionary<int, BlockedEvent> blocked = (answer.Blocked ?? []).ToDictionary(one => one.Index);
                for (int i = 0; i < open.Count; i++)
                {
                    if (!blocked.TryGetValue(i, out BlockedEvent? refusal))
                    {
                        admitted[open[i]] = true;
                    }
                    else if (refusal.Code == DecisionCodes.LimitReached)
                    {
                        refused[open[i]] = true;
                    }
                    else
                    {
                        again.Add(open[i]);
                    }
                }

                open = again;
            }
        }

        // Some clients hang up before they are answered.
        private async Task<IngestResponse?> TrySendAsync(string feature, List<Guid> ids, Random random)
        {
            using var hangUp = CancellationTokenSource.CreateLinkedTokenSource(Cancelled);
            if (random.Next(8) == 0)
            {
                hangUp.CancelAfter(random.Next(1, 40));
            }

            try
            {
                RunningServer server = _servers[random.Next(_servers.Count)];
                UsageEvent[] events = [.. ids.Select(id => new UsageEvent("zoe", feature, id))];
                using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/usage/events")
                {
                    Content = events.Length == 1 ? JsonContent.Create(events[0]) : JsonContent.Create(events),
                };
                request.Headers.Authorization = new("Bearer", _acme.ApiKey);
                using HttpResponseMessage response = await server.Client.SendAsync(request, hangUp.Token);
                string body = await response.Content.ReadAsStringAsync(hangUp.Token);
                return
                    response.StatusCode == HttpStatusCode.Accepted
                    || (response.StatusCode == HttpStatusCode.TooManyRequests && events.Length == 1)
                    ? JsonSerializer.Deserialize<IngestResponse>(body, JsonSerializerOptions.Web)
                    : null;
            }
            catch (Exception exception) when (exception is HttpRequestException or OperationCanceledException)
            {
                Cancelled.ThrowIfCancellationRequested();
                return null;
            }
        }

        /// <summary>Redis forgets everything, some counters or the state; PostgreSQL breaks connections in the middle of what they do.</summary>
        public async Task HarmAsync(Random seed, CancellationToken over)
        {
            var random = new Random(seed.Next());
            while (!over.IsCancellationRequested)
            {
                await Task.Delay(random.Next(20, 400), over).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                switch (random.Next(3))
                {
                    case 0:
                        await ForgetAsync();
                        break;
                    case 1:
                        await ExecuteAsync(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename IN ('usage_monitor_app', 'usage_monitor_pipeline') AND random() < 0.3"
                        );
                        break;
                    default:
                        await ExecuteAsync(
                            $"INSERT INTO log_fences VALUES ('{_acme.EnterpriseId}', 1) ON CONFLICT (enterprise_id) DO UPDATE SET fence = log_fences.fence + 1"
                        );
                        break;
                }
            }
        }

        // As a restart without a copy on disk does: all of it at once, so the state goes with the counters.
        private async Task ForgetAsync()
        {
            IDatabase redis = _redis.GetDatabase();
            string state = $"{_database.Name}:lim:{{{_acme.EnterpriseId:N}}}";
            var keys = new List<RedisKey>();
            await foreach (RedisKey key in _redis.GetServers()[0].KeysAsync(pattern: $"{state}:*"))
            {
                keys.Add(key);
            }

            await redis.KeyDeleteAsync(state);
            await redis.KeyDeleteAsync([.. keys]);
        }

        public Task ProcessedAsync() => _acme.ProcessedAsync();

        public async Task<HashSet<Guid>> StoredAsync(string feature)
        {
            await using var connection = new NpgsqlConnection(_database.OwnerConnectionString);
            await connection.OpenAsync(Cancelled);
            await using var command = new NpgsqlCommand(
                "SELECT event_id FROM usage_events WHERE feature_name = $1",
                connection
            );
            command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = feature });
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(Cancelled);
            var stored = new HashSet<Guid>();
            while (await reader.ReadAsync(Cancelled))
            {
                stored.Add(reader.GetGuid(0));
            }

            return stored;
        }

        private async Task ExecuteAsync(string sql) => await ScalarAsync(sql);

        private async Task<object?> ScalarAsync(string sql)
        {
            await using var connection = new NpgsqlConnection(_database.OwnerConnectionString);
            await connection.OpenAsync(Cancelled);
            await using var command = new NpgsqlCommand(sql, connection);
            return await command.ExecuteScalarAsync(Cancelled);
        }

        public async ValueTask DisposeAsync()
        {
            foreach (RunningServer server in _servers)
            {
                await server.DisposeAsync();
            }

            await _redis.DisposeAsync();
            await _database.DisposeAsync();
        }
    }
}
