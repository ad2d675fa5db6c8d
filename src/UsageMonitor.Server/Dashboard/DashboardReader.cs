using Microsoft.Extensions.Caching.Hybrid;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;

namespace UsageMonitor.Server.Dashboard;

/// <summary>
/// The numbers of the dashboards, from pre-aggregated rows only and through the cache first. A cached answer is kept under
/// the version of the enterprise's numbers, so new ones are seen as soon as processing has told of them.
/// </summary>
internal sealed class DashboardReader(
    Database database,
    IEventLog log,
    HybridCache cache,
    UsageSignal signal,
    TimeProvider time
)
{
    /// <summary>Features named in a summary.</summary>
    public const int TopFeaturesMax = 10;

    /// <summary>How old an answer may be if the news of newer numbers was lost.</summary>
    public const int StaleSecondsMax = 5;

    private static readonly HybridCacheEntryOptions CacheOptions = new()
    {
        Expiration = TimeSpan.FromSeconds(StaleSecondsMax),
        LocalCacheExpiration = TimeSpan.FromSeconds(StaleSecondsMax),
    };

    public Task<SummaryResponse> SummaryAsync(
        EnterpriseInfo enterprise,
        DateOnly from,
        DateOnly to,
        CancellationToken cancellationToken
    ) =>
        CachedAsync(
            enterprise,
            $"summary:{from:O}:{to:O}",
            token => ComputeSummaryAsync(enterprise, from, to, token),
            cancellationToken
        );

    public Task<FeaturesResponse> ByFeatureAsync(
        EnterpriseInfo enterprise,
        DateOnly from,
        DateOnly to,
        CancellationToken cancellationToken
    ) =>
        CachedAsync(
            enterprise,
            $"features:{from:O}:{to:O}",
            token => ComputeFeaturesAsync(enterprise, from, to, token),
            cancellationToken
        );

    /// <param name="enterprise">Whose numbers.</param>
    /// <param name="from">The first local day.</param>
    /// <param name="to">The day after the last.</param>
    /// <param name="interval">One of <see cref="Buckets.Intervals"/>.</param>
    /// <param name="feature">Only this feature, or null for all.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public Task<TrendsResponse> TrendsAsync(
        EnterpriseInfo enterprise,
        DateOnly from,
        DateOnly to,
        string interval,
        string? feature,
        CancellationToken cancellationToken
    ) =>
        CachedAsync(
            enterprise,
            $"trends:{from:O}:{to:O}:{interval}:{feature}",
            token => ComputeTrendsAsync(enterprise, from, to, interval, feature, token),
            cancellationToken
        );

    private async Task<T> CachedAsync<T>(
        EnterpriseInfo enterprise,
        string key,
        Func<CancellationToken, Task<T>> compute,
        CancellationToken cancellationToken
    ) =>
        await cache.GetOrCreateAsync(
            $"dashboard:{enterprise.EnterpriseId:N}:{signal.VersionOf(enterprise.EnterpriseId)}:{key}",
            async token => await compute(token),
            CacheOptions,
            cancellationToken: cancellationToken
        );

    private async Task<SummaryResponse> ComputeSummaryAsync(
        EnterpriseInfo enterprise,
        DateOnly from,
        DateOnly to,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        int days = to.DayNumber - from.DayNumber;
        (DateTime before, DateTime start, DateTime end) = (
            local.DayStart(from.AddDays(-days)),
            local.DayStart(from),
            local.DayStart(to)
        );
        DateTime asked = time.GetUtcNow().UtcDateTime;
        long head = await HeadAsync(enterprise, cancellationToken);
        await using ScopedTransaction scope = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        DateTimeOffset asOf = await Watermark.ReadAsync(scope, enterprise, asked, head, cancellationToken);
        RangeUsage current = await RangeUsage.ReadAsync(scope, enterprise.EnterpriseId, start, end, cancellationToken);
        RangeUsage previous = await RangeUsage.ReadAsync(
            scope,
            enterprise.EnterpriseId,
            before,
            start,
            cancellationToken
        );
        return new SummaryResponse(
            current.UsageCount,
            current.ActiveUsers,
            current.Counts.Count,
            [.. current.Features().Take(TopFeaturesMax)],
            new UsageTotals(previous.UsageCount, previous.ActiveUsers, previous.Counts.Count),
            asOf
        );
    }

    private async Task<FeaturesResponse> ComputeFeaturesAsync(
        EnterpriseInfo enterprise,
        DateOnly from,
        DateOnly to,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        DateTime asked = time.GetUtcNow().UtcDateTime;
        long head = await HeadAsync(enterprise, cancellationToken);
        await using ScopedTransaction scope = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        DateTimeOffset asOf = await Watermark.ReadAsync(scope, enterprise, asked, head, cancellationToken);
        RangeUsage usage = await RangeUsage.ReadAsync(
            scope,
            enterprise.EnterpriseId,
            local.DayStart(from),
            local.DayStart(to),
            cancellationToken
        );
        return new FeaturesResponse([.. usage.Features()], asOf);
    }

    private async Task<TrendsResponse> ComputeTrendsAsync(
        EnterpriseInfo enterprise,
        DateOnly from,
        DateOnly to,
        string interval,
        string? feature,
        CancellationToken cancellationToken
    )
    {
        const string CountsSql = """
            SELECT time_bucket, value FROM usage_aggregates
             WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = $2 AND feature_name = $3
               AND time_bucket >= $4 AND time_bucket < $5
            """;
        const string SetsSql = """
            SELECT time_bucket, CASE WHEN $4 THEN hourly_members ELSE members END FROM active_user_sets
             WHERE enterprise_id = $1 AND time_bucket >= $2 AND time_bucket < $3
            """;
        var local = new LocalTime(enterprise.TimeZone);
        bool hourly = interval == Buckets.Hour;
        var buckets = new Buckets(local, from, to, interval);
        DateTime asked = time.GetUtcNow().UtcDateTime;
        long head = await HeadAsync(enterprise, cancellationToken);
        await using ScopedTransaction scope = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        DateTimeOffset asOf = await Watermark.ReadAsync(scope, enterprise, asked, head, cancellationToken);
        var counts = new Dictionary<DateTime, long>();
        await using (
            NpgsqlCommand command = scope.Command(
                CountsSql,
                enterprise.EnterpriseId,
                hourly ? "hour" : "day",
                feature ?? "",
                buckets.Start,
                buckets.End
            )
        )
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                DateTime bucket = buckets.Of(reader.GetDateTime(0));
                counts[bucket] = counts.GetValueOrDefault(bucket) + reader.GetInt64(1);
            }
        }

        var active = new Dictionary<DateTime, Dictionary<string, UserSet>>();
        await using (
            NpgsqlCommand command = scope.Command(SetsSql, enterprise.EnterpriseId, buckets.Start, buckets.End, hourly)
        )
        await using (NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                Collect(active, buckets, reader.GetDateTime(0), reader.GetFieldValue<byte[]>(1), hourly);
            }
        }

        List<TrendPoint> points =
        [
            .. buckets
                .Starts()
                .Select(bucket => new TrendPoint(
                    local.Show(bucket),
                    counts.GetValueOrDefault(bucket),
                    active.TryGetValue(bucket, out Dictionary<string, UserSet>? sets)
                        ? RangeUsage.CountUsers(sets, feature)
                        : 0
                )),
        ];
        return new TrendsResponse(interval, feature, points, asOf);
    }

    private static void Collect(
        Dictionary<DateTime, Dictionary<string, UserSet>> active,
        Buckets buckets,
        DateTime day,
        byte[] encoded,
        bool hourly
    )
    {
        if (!hourly)
        {
            ActiveUsers.UnionDay(SetsOf(buckets.Of(day)), encoded);
            return;
        }

        var users = new ActiveUsers();
        users.UnionWithHours(encoded);
        foreach ((int minutes, Dictionary<string, UserSet> sets) in users.Hours)
        {
            Dictionary<string, UserSet> target = SetsOf(day.AddMinutes(minutes));
            foreach ((string name, UserSet set) in sets)
            {
                if (!target.TryGetValue(name, out UserSet? known))
                {
                    target[name] = known = new UserSet();
                }

                known.UnionWith(set);
            }
        }

        Dictionary<string, UserSet> SetsOf(DateTime bucket)
        {
            if (!active.TryGetValue(bucket, out Dictionary<string, UserSet>? sets))
            {
                active[bucket] = sets = new Dictionary<string, UserSet>(StringComparer.Ordinal);
            }

            return sets;
        }
    }

    /// <returns>Null when the enterprise has never seen the user.</returns>
    public async Task<UserAnalyticsResponse?> UserAsync(
        EnterpriseInfo enterprise,
        string userId,
        DateOnly from,
        DateOnly to,
        CancellationToken cancellationToken
    )
    {
        const string KnownSql = "SELECT EXISTS (SELECT FROM users WHERE enterprise_id = $1 AND user_id = $2)";
        const string SeenSql = """
            SELECT min(first_at), max(last_at) FROM user_usage_aggregates WHERE enterprise_id = $1 AND user_id = $2
            """;
        const string UsageSql = """
            SELECT feature_name, time_bucket, usage_count FROM user_usage_aggregates
             WHERE enterprise_id = $1 AND user_id = $2 AND time_bucket >= $3 AND time_bucket < $4
            """;
        var local = new LocalTime(enterprise.TimeZone);
        Guid id = UserIds.Resolve(enterprise.EnterpriseId, userId, out _);
        DateTime asked = time.GetUtcNow().UtcDateTime;
        long head = await HeadAsync(enterprise, cancellationToken);
        await using ScopedTransaction scope = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        DateTimeOffset asOf = await Watermark.ReadAsync(scope, enterprise, asked, head, cancellationToken);
        await using (NpgsqlCommand known = scope.Command(KnownSql, enterprise.EnterpriseId, id))
        {
            if (await known.ExecuteScalarAsync(cancellationToken) is not true)
            {
                return null;
            }
        }

        DateTimeOffset? firstSeen = null;
        DateTimeOffset? lastSeen = null;
        await using (NpgsqlCommand seen = scope.Command(SeenSql, enterprise.EnterpriseId, id))
        await using (NpgsqlDataReader reader = await seen.ExecuteReaderAsync(cancellationToken))
        {
            if (await reader.ReadAsync(cancellationToken) && !reader.IsDBNull(0))
            {
                (firstSeen, lastSeen) = (local.Show(reader.GetDateTime(0)), local.Show(reader.GetDateTime(1)));
            }
        }

        var buckets = new Buckets(local, from, to, Buckets.Day);
        var byFeature = new Dictionary<string, long>(StringComparer.Ordinal);
        var byDay = new Dictionary<DateTime, long>();
        long total = 0;
        await using (
            NpgsqlCommand usage = scope.Command(UsageSql, enterprise.EnterpriseId, id, buckets.Start, buckets.End)
        )
        await using (NpgsqlDataReader reader = await usage.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                long count = reader.GetInt64(2);
                total += count;
                byFeature[reader.GetString(0)] = byFeature.GetValueOrDefault(reader.GetString(0)) + count;
                byDay[reader.GetDateTime(1)] = byDay.GetValueOrDefault(reader.GetDateTime(1)) + count;
            }
        }

        return new UserAnalyticsResponse(
            userId,
            total,
            firstSeen,
            lastSeen,
            [
                .. byFeature
                    .OrderByDescending(feature => feature.Value)
                    .ThenBy(feature => feature.Key, StringComparer.Ordinal)
                    .Select(feature => new UserFeatureUsage(feature.Key, feature.Value, (double)feature.Value / total)),
            ],
            [.. buckets.Starts().Select(day => new UserPoint(local.Show(day), byDay.GetValueOrDefault(day)))],
            asOf
        );
    }

    private Task<long> HeadAsync(EnterpriseInfo enterprise, CancellationToken cancellationToken) =>
        Watermark.HeadAsync(log, enterprise, cancellationToken);
}
