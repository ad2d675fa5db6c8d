using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;
using UsageMonitor.Server.Processing.Metering;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Processing.Metering;

public sealed class ViolationTests(Engines engines) : IAsyncLifetime
{
    private static readonly DateTimeOffset s_now = new(2026, 11, 23, 10, 20, 0, TimeSpan.Zero);
    private MeteringFixture _metering = null!;
    private EnterpriseInfo _enterprise = null!;

    public async ValueTask InitializeAsync()
    {
        _metering = await MeteringFixture.CreateAsync(engines, s_now);
        _enterprise = await _metering.Pipeline.AddEnterpriseAsync("UTC", 1);
    }

    public ValueTask DisposeAsync() => _metering.DisposeAsync();

    [Fact]
    public async Task RunAsync_WhenAnAlertLimitIsExceeded_ShouldKeepOneViolationForEachSubjectAndWindow()
    {
        await _metering.AddLimitAsync(_enterprise, "export", 3, LimitWindow.Daily);
        await _metering.AddLimitAsync(_enterprise, "export", 1, LimitWindow.Daily, action: LimitAction.Block);
        await _metering.UseAsync(_enterprise, "ana", "export", 3);
        Assert.Empty(await ViolationsAsync());

        await _metering.UseAsync(_enterprise, "ana", "export", 2);
        await _metering.UseAsync(_enterprise, "ben", "export", 4, s_now.AddDays(-1)); // late: a violation all the same
        await _metering.UseAsync(_enterprise, "ana", "export", 1);

        Assert.Equal([("ALERT", 6L, 0L, "OPEN"), ("ALERT", 4L, 0L, "OPEN")], await ViolationsAsync());
    }

    [Fact]
    public async Task RunAsync_WhenAViolationIsResolved_ShouldOpenItAgainOnlyForWhatHappensAfterwards()
    {
        await _metering.AddLimitAsync(_enterprise, "export", 1, LimitWindow.Daily);
        await _metering.UseAsync(_enterprise, "ana", "export", 2);
        await _metering.ExecuteAsync(
            "UPDATE usage_violations SET status = 'RESOLVED', resolved_at = $1, resolved_by = enterprise_id, resolved_reason = 'x'",
            s_now.AddMinutes(5).UtcDateTime
        );

        await _metering.UseAsync(_enterprise, "ana", "export", 1, s_now.AddMinutes(4));
        Assert.Equal([("ALERT", 3L, 0L, "RESOLVED")], await ViolationsAsync());
        await _metering.UseAsync(_enterprise, "ana", "export", 1, s_now.AddMinutes(6));

        Assert.Equal([("ALERT", 4L, 0L, "OPEN")], await ViolationsAsync());
        Assert.Equal(
            [true],
            await _metering.Pipeline.QueryAsync(
                "SELECT resolved_at IS NULL AND resolved_by IS NULL AND resolved_reason IS NULL FROM usage_violations",
                row => row.GetBoolean(0)
            )
        );
    }

    [Fact]
    public async Task WriteAsync_WhenALimitRefusedAttempts_ShouldCountThemAndTellThatTheLimitIsReached()
    {
        Guid limit = await _metering.AddLimitAsync(
            _enterprise,
            "export",
            5,
            LimitWindow.Daily,
            action: LimitAction.Block
        );
        Guid gone = await _metering.AddLimitAsync(
            _enterprise,
            "*",
            9,
            LimitWindow.Daily,
            LimitScope.Enterprise,
            LimitAction.Block
        );
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, percent: 80);
        await _metering.AddRuleAsync(_enterprise, "export", LimitWindow.Daily, percent: 120);
        await _metering.ExecuteAsync("DELETE FROM usage_limits WHERE limit_id = $1", gone);
        DateTime day = s_now.UtcDateTime.Date;
        var refusal = new LimitRefusal(limit, 1, 5, 5, new WindowSpan(day, day.AddDays(1)));

        for (int step = 0; step < 2; step++)
        {
            await RefuseAsync("ana@acme.example", refusal, refusal, refusal with { LimitId = gone, LimitValue = 9 });
        }

        Assert.Equal(new[] { ("BLOCK", 5L, 4L, "OPEN"), ("BLOCK", 5L, 2L, "OPEN") }, await ViolationsAsync());
        Assert.Equal("HIGH", Assert.Single(await _metering.AlertsAsync()).Severity);
        var told = Assert.Single(await _metering.DeliveriesAsync(_enterprise));
        Assert.Equal(("OPENED", "ana@acme.example", true), (told.Cause, told.Notice.Subject, told.Notice.IsBlocking));
        List<byte[]?> names = await _metering.Pipeline.QueryAsync(
            "SELECT subject_external_id FROM usage_violations ORDER BY blocked DESC",
            row => row.IsDBNull(0) ? null : row.GetFieldValue<byte[]>(0)
        );
        Assert.Equal("ana@acme.example", ExternalIds.Open(_enterprise, names[0]!));
        Assert.Null(names[1]); // of the whole enterprise
    }

    /// <summary>What a step does with attempts that limits refused, in a transaction of its own.</summary>
    private async Task RefuseAsync(string user, params LimitRefusal[] refusals)
    {
        ParsedEvent tried = PipelineFixture.Event(Guid.NewGuid(), _enterprise, user, "export", s_now);
        await _metering.Pipeline.AppendAsync(
            _enterprise,
            [],
            0,
            refusals.Select(_ => PipelineFixture.Attempt(tried, null, s_now))
        );
        IReadOnlyList<Segment> segments = await _metering.Pipeline.Log.ReadAsync(1, 0, 1_000, default);
        StepEvents step = await StepEvents.OpenAsync(
            [segments[^1]],
            _metering.Pipeline.Enterprises,
            enterprise => new LocalTime(enterprise.TimeZone),
            default
        );
        List<StepAttempt> attempts = Assert.Single(step.Enterprises).Attempts;
        for (int i = 0; i < attempts.Count; i++)
        {
            attempts[i] = attempts[i] with { Limit = refusals[i] };
        }

        var metering = new StepMetering(_metering.Pipeline.Metering, _metering.Time);
        await using NpgsqlConnection connection = await _metering.Pipeline.Database.Pipeline.OpenConnectionAsync();
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync();
        long version = (
            await _metering.Pipeline.QueryAsync(
                "SELECT meters_version FROM log_positions WHERE log_partition = 1",
                row => row.GetInt64(0)
            )
        ).Single();
        await metering.CountAsync(connection, 1, version, step, default);
        await metering.WriteAsync(connection, step, default);
        await transaction.CommitAsync();
        metering.Committed();
    }

    private Task<List<(string Action, long Used, long Blocked, string Status)>> ViolationsAsync() =>
        _metering.Pipeline.QueryAsync(
            "SELECT action, used, blocked, status FROM usage_violations ORDER BY blocked DESC, used DESC",
            row => (row.GetString(0), row.GetInt64(1), row.GetInt64(2), row.GetString(3))
        );
}
