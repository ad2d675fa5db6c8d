using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;

namespace UsageMonitor.Tests.EventLog;

public sealed class PostgresEventLogTests(Engines engines) : EventLogContract
{
    private TestDatabase? _database;

    protected override async Task<IEventLog> CreateAsync()
    {
        _database = await engines.CloneAsync();
        await new MonthPartitions(_database.Database).EnsureAsync(
            "log_segments",
            MonthPartitions.MonthOf(DateTimeOffset.UtcNow),
            default
        );
        return new PostgresEventLog(_database.Database.Pipeline, Engines.LogPartitions);
    }

    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync();
        await _database!.DisposeAsync();
    }
}
