using System.Security.Cryptography;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;
using UsageMonitor.Server.Processing.Metering;
using UsageMonitor.Tests.Fixtures;

namespace UsageMonitor.Tests.Processing;

/// <summary>A database with enterprises and the pipeline's parts over it, without HTTP: for what only its seams can show.</summary>
internal sealed class PipelineFixture : IAsyncDisposable
{
    private readonly TestDatabase? _test;
    private readonly IdentityVersion _version;

    // Of its own, so that faults of the workers' connections leave the test's appends alone.
    private readonly NpgsqlDataSource _appender;

    private PipelineFixture(TestDatabase test)
        : this(test.Database, test.OwnerConnectionString) => _test = test;

    /// <summary>Over a database that somebody else made and disposes.</summary>
    public PipelineFixture(Database database, string ownerConnectionString)
    {
        (Database, OwnerConnectionString) = (database, ownerConnectionString);
        _version = new IdentityVersion(TimeProvider.System);
        Log = new PostgresEventLog(Database.Pipeline, Engines.LogPartitions);
        _appender = NpgsqlDataSource.Create(ownerConnectionString);
        Enterprises = new EnterpriseDirectory(Database, Engines.MasterKey, _version);
        Months = new MonthPartitions(Database);
        Metering = new MeteringSources(
            new LimitSets(Database, _version),
            new AlertRuleSets(Database, _version, NullLogger<AlertRuleSets>.Instance),
            new DeliverySignal()
        );
    }

    public Database Database { get; }

    public string OwnerConnectionString { get; }

    public IEventLog Log { get; }

    public EnterpriseDirectory Enterprises { get; }

    public MonthPartitions Months { get; }

    /// <summary>Limits and alert rules as the database has them at each step.</summary>
    public MeteringSources Metering { get; }

    public static async Task<PipelineFixture> CreateAsync(Engines engines)
    {
        var fixture = new PipelineFixture(await engines.CloneAsync());
        await fixture.Months.EnsureAsync("log_segments", MonthPartitions.MonthOf(DateTimeOffset.UtcNow), default);
        return fixture;
    }

    public PartitionStep NewStep(TimeProvider? time = null) =>
        new(Database, Log, Enterprises, Months, Metering, time ?? TimeProvider.System);

    public async Task<EnterpriseInfo> AddEnterpriseAsync(string timeZone, short partition)
    {
        var enterpriseId = Guid.NewGuid();
        await using ScopedTransaction scope = await Database.OpenEnterpriseAsync(enterpriseId, default);
        await scope.ExecuteAsync(
            "INSERT INTO enterprises (enterprise_id, name, time_zone, log_partition, data_key, created_at) VALUES ($1, $2, $3, $4, $5, now())",
            [
                enterpriseId,
                "Test",
                timeZone,
                partition,
                Engines.MasterKey.Wrap(RandomNumberGenerator.GetBytes(32), enterpriseId),
            ],
            default
        );
        await scope.ExecuteAsync("INSERT INTO user_ordinals (enterprise_id) VALUES ($1)", [enterpriseId], default);
        await scope.CommitAsync(default);
        return (await Enterprises.FindAsync(enterpriseId, default))!;
    }

    /// <summary>Appends one segment of one enterprise.</summary>
    public Task AppendAsync(
        EnterpriseInfo enterprise,
        IEnumerable<ParsedEvent> events,
        int rejected = 0,
        IEnumerable<BlockedAttempt>? blocked = null
    ) =>
        new PostgresEventLog(_appender, Engines.LogPartitions).AppendAsync(
            [
                SegmentCodec.Encode(
                    enterprise.LogPartition,
                    [new SegmentCodec.Block(enterprise, [.. events], rejected) { Blocked = [.. blocked ?? []] }]
                ),
            ],
            default
        );

    /// <summary>An attempt that a policy has refused, now or when told.</summary>
    public static BlockedAttempt Attempt(ParsedEvent parsed, Guid? policyId, DateTimeOffset? decidedAt = null) =>
        new(
            parsed,
            0,
            ReceiptIds.Create(decidedAt ?? DateTimeOffset.UtcNow),
            policyId is null ? "policy_default" : "policy_forbidden",
            Guid.NewGuid(),
            policyId,
            policyId is null ? null : 3
        );

    /// <summary>Takes steps of all partitions until nothing is behind.</summary>
    public async Task ProcessAllAsync(PartitionStep? step = null)
    {
        step ??= NewStep();
        for (short partition = 0; partition < Log.PartitionCount; partition++)
        {
            while ((await step.RunAsync(partition, default)).Through > 0)
            {
                // until nothing is left
            }
        }
    }

    public async Task<List<T>> QueryAsync<T>(string sql, Func<NpgsqlDataReader, T> read)
    {
        // The superuser sees everything: what is looked at is what is stored.
        await using var connection = new NpgsqlConnection(OwnerConnectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        var rows = new List<T>();
        while (await reader.ReadAsync())
        {
            rows.Add(read(reader));
        }

        return rows;
    }

    public static ParsedEvent Event(
        Guid eventId,
        EnterpriseInfo enterprise,
        string user,
        string feature,
        DateTimeOffset timestamp
    )
    {
        Guid userId = UserIds.Resolve(enterprise.EnterpriseId, user, out string? externalId);
        long microseconds = (timestamp.UtcDateTime - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        return new ParsedEvent(eventId, userId, externalId, feature, "use", microseconds, "{\"n\":1}"u8.ToArray());
    }

    public async ValueTask DisposeAsync()
    {
        Metering.Deliveries.Dispose();
        await _appender.DisposeAsync();
        if (_test is not null)
        {
            await _test.DisposeAsync();
        }
    }
}
