using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;

namespace UsageMonitor.Tests.Anomalies;

/// <summary>Enterprises with counts written as processing writes them, a clock of the test's own, and the pass over them.</summary>
internal sealed class Watched : IAsyncDisposable
{
    private readonly PipelineFixture _pipeline;
    private readonly DeliverySignal _deliveries = new();

    private Watched(PipelineFixture pipeline, DateTimeOffset start)
    {
        (_pipeline, Time) = (pipeline, new FakeTimeProvider(start));
    }

    public FakeTimeProvider Time { get; }

    public PipelineFixture Pipeline => _pipeline;

    public DateTime Now => Time.GetUtcNow().UtcDateTime;

    public static async Task<Watched> StartAsync(Engines engines, DateTimeOffset start) =>
        new(await PipelineFixture.CreateAsync(engines), start);

    public Task<EnterpriseInfo> AddEnterpriseAsync(string timeZone = "America/New_York", short partition = 1) =>
        _pipeline.AddEnterpriseAsync(timeZone, partition);

    /// <summary>A pass of an instance of its own.</summary>
    public AnomalyPass NewPass() =>
        new(
            _pipeline.Database,
            new EnterpriseStep(
                _pipeline.Database,
                _pipeline.Log,
                _pipeline.Enterprises,
                _pipeline.Months,
                _deliveries,
                new AnomalyNotices(_pipeline.Database, NullLogger<AnomalyNotices>.Instance),
                Time
            ),
            Time,
            NullLogger<AnomalyPass>.Instance
        );

    /// <summary>Passes until nobody is due.</summary>
    public async Task PassAsync(AnomalyPass? pass = null)
    {
        pass ??= NewPass();
        while (await pass.RunAsync(default) > 0)
        {
            // until nobody is due
        }
    }

    /// <summary>Moves the clock on in steps, with a pass after each.</summary>
    public async Task AdvanceAsync(TimeSpan by, TimeSpan step)
    {
        AnomalyPass pass = NewPass();
        for (DateTime until = Now + by; Now < until; )
        {
            Time.Advance(step);
            await PassAsync(pass);
        }
    }

    /// <summary>Writes counts of hours: each replaces what was there.</summary>
    public async Task CountAsync(
        EnterpriseInfo enterprise,
        IEnumerable<(string Feature, DateTime Hour, long Events)> counts
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        List<(string Feature, DateTime Hour, long Events)> rows = [.. counts.Where(count => count.Events > 0)];
        rows.AddRange(
            rows.GroupBy(row => row.Hour).Select(hour => ("", hour.Key, hour.Sum(row => row.Events))).ToList()
        );
        await _pipeline.Months.EnsureAsync(
            "usage_aggregates",
            rows.Select(row => MonthPartitions.MonthOf(row.Hour))
                .Concat(rows.Select(row => MonthPartitions.MonthOf(local.DayStart(row.Hour))))
                .Distinct(),
            default
        );
        const string Sql = """
            WITH hours AS (
                INSERT INTO usage_aggregates AS kept (enterprise_id, metric_type, granularity, feature_name, time_bucket, value)
                SELECT $1, 'usage_count', 'hour', feature, hour, events FROM unnest($2, $3, $4) AS n (feature, hour, events)
                    ON CONFLICT (enterprise_id, metric_type, granularity, feature_name, time_bucket) DO UPDATE SET value = excluded.value)
            INSERT INTO usage_aggregates AS kept (enterprise_id, metric_type, granularity, feature_name, time_bucket, value)
            SELECT $1, 'usage_count', 'day', feature, day, sum(events) FROM unnest($2, $4, $5) AS n (feature, events, day) GROUP BY feature, day
                ON CONFLICT (enterprise_id, metric_type, granularity, feature_name, time_bucket) DO UPDATE SET value = kept.value + excluded.value
            """;
        await ExecuteAsync(
            Sql,
            enterprise.EnterpriseId,
            rows.Select(row => row.Feature).ToArray(),
            rows.Select(row => row.Hour).ToArray(),
            rows.Select(row => row.Events).ToArray(),
            rows.Select(row => local.DayStart(row.Hour)).ToArray()
        );
    }

    /// <summary>Writes what users did on a local day, as sets and as counts; users are made when they are met.</summary>
    public async Task UseAsync(
        EnterpriseInfo enterprise,
        DateOnly date,
        IReadOnlyList<(int User, string Feature, int LocalHour, long Events)> uses
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        DateTime day = local.DayStart(date);
        var sets = new ActiveUsers();
        foreach ((int user, string feature, int hour, _) in uses)
        {
            sets.Add(feature, hour * 60, user);
        }

        int month = MonthPartitions.MonthOf(day);
        await _pipeline.Months.EnsureAsync("active_user_sets", month, default);
        await _pipeline.Months.EnsureAsync("user_usage_aggregates", month, default);
        const string Sql = """
            WITH people AS (
                INSERT INTO users (enterprise_id, user_id, ordinal, created_at)
                SELECT DISTINCT $1, user_id, ordinal, $3 FROM unnest($4, $5) AS n (ordinal, user_id) ON CONFLICT DO NOTHING),
            counted AS (
                INSERT INTO user_usage_aggregates (enterprise_id, user_id, feature_name, time_bucket, usage_count, first_at, last_at)
                SELECT $1, user_id, feature, $3, sum(events), $3, $3 FROM unnest($5, $6, $7) AS n (user_id, feature, events) GROUP BY 2, 3)
            INSERT INTO active_user_sets (enterprise_id, time_bucket, level, segment_offset, members, hourly_members)
            VALUES ($1, $3, 100, $2, $8, $9)
            """;
        await ExecuteAsync(
            Sql,
            enterprise.EnterpriseId,
            (long)date.DayNumber,
            day,
            uses.Select(use => use.User).ToArray(),
            uses.Select(use => UserId(enterprise, use.User)).ToArray(),
            uses.Select(use => use.Feature).ToArray(),
            uses.Select(use => use.Events).ToArray(),
            sets.EncodeDay(),
            sets.EncodeHours()
        );
    }

    /// <summary>A user's id is the enterprise's, with the number at its end.</summary>
    public static Guid UserId(EnterpriseInfo enterprise, int user) =>
        Guid.Parse(
            enterprise.EnterpriseId.ToString()[..24] + user.ToString("x12", CultureInfo.InvariantCulture),
            CultureInfo.InvariantCulture
        );

    /// <summary>What has been found so far, the oldest first.</summary>
    public Task<List<(string Kind, string Feature, string Status, string Detail)>> FoundAsync(
        EnterpriseInfo enterprise,
        string series = "USAGE"
    ) =>
        _pipeline.QueryAsync(
            $"""
            SELECT kind, feature_name, status, detail FROM anomalies
             WHERE enterprise_id = '{enterprise.EnterpriseId}' AND series = '{series}' ORDER BY starts_at, feature_name, kind
            """,
            row => (row.GetString(0), row.GetString(1), row.GetString(2), row.GetString(3))
        );

    /// <summary>Says who is told: addresses, and ids of webhooks.</summary>
    public Task TellAsync(EnterpriseInfo enterprise, params string[] recipients) =>
        ExecuteAsync(
            "INSERT INTO anomaly_settings (enterprise_id, recipients, updated_by, updated_at) VALUES ($1, $2, $1, now())",
            enterprise.EnterpriseId,
            AnomalySettingsStore.SealRecipients(enterprise, recipients)
        );

    /// <summary>What is in the outbox, in the order of its writing.</summary>
    public async Task<List<(string Channel, string Recipient, AlertNotice Notice)>> NoticesAsync(
        EnterpriseInfo enterprise
    )
    {
        var rows = await _pipeline.QueryAsync(
            "SELECT delivery_id, channel, recipient, payload FROM alert_deliveries ORDER BY created_at, delivery_id",
            row => (Id: row.GetGuid(0), Channel: row.GetString(1), To: (byte[])row[2], Payload: (byte[])row[3])
        );
        return rows.ConvertAll(row =>
            (
                row.Channel,
                AlertOutbox.OpenRecipient(enterprise, row.Id, row.To),
                AlertNotice.Open(enterprise, row.Id, row.Payload)
            )
        );
    }

    public async Task ExecuteAsync(string sql, params object[] parameters)
    {
        await using var connection = new NpgsqlConnection(_pipeline.OwnerConnectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        foreach (object parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        await command.ExecuteNonQueryAsync();
    }

    public async ValueTask DisposeAsync()
    {
        _deliveries.Dispose();
        await _pipeline.DisposeAsync();
    }
}

/// <summary>An office's week: busy by day, quiet in the evening, silent at night and on Sundays; the same for the same seed.</summary>
internal sealed class Office(EnterpriseInfo enterprise, int seed = 1)
{
    public const string Search = "search";
    public const string Export = "export";
    private readonly LocalTime _local = new(enterprise.TimeZone);

    /// <summary>The counts of the hours from an instant up to another.</summary>
    public IEnumerable<(string Feature, DateTime Hour, long Events)> Hours(DateTime from, DateTime to)
    {
        for (DateTime hour = _local.HourStart(from); hour < to; hour = _local.NextHour(hour))
        {
            yield return (Search, hour, Events(hour, 600));
            yield return (Export, hour, Events(hour, 200));
        }
    }

    /// <summary>What an hour comes to when nothing is amiss.</summary>
    public long Events(DateTime hour, int busiest)
    {
        DateTime local = _local.Show(hour).DateTime;
        double rhythm =
            local.DayOfWeek == DayOfWeek.Sunday || local.Hour is < 6 or > 21
                ? 0
                : (local.DayOfWeek == DayOfWeek.Saturday ? 0.15 : 1) * (local.Hour is >= 9 and <= 17 ? 1 : 0.2);

        // A number between 0 and 1 that is this hour's own.
        uint mixed = (uint)((((hour.Ticks / TimeSpan.TicksPerHour) + (seed * 7_919)) * 2_654_435_761L) >> 8);
        double chance = (mixed & 0xFFFF) / 65_536.0;
        return (long)(busiest * rhythm * (0.92 + (0.16 * chance)));
    }
}
