using Npgsql;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Processing;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;
using Xunit;

namespace UsageMonitor.Tests.Platform;

/// <summary>An installation may bring its own PostgreSQL, from version 15 on: Debian's is that one.</summary>
public sealed class OldestPostgresTests
{
    [Fact]
    public async Task Migrations_WhenPostgresIs15_ShouldCarryTheMainPath()
    {
        await using DebianPostgres postgres = await DebianPostgres.StartAsync("15");
        await using (var owner = NpgsqlDataSource.Create(postgres.ConnectionString))
        {
            await using NpgsqlCommand version = owner.CreateCommand("SHOW server_version_num");
            Assert.StartsWith("15", (string?)await version.ExecuteScalarAsync(), StringComparison.Ordinal);
            await Migrator.MigrateAsync(
                owner,
                Engines.MasterKey,
                Engines.LogPartitions,
                DateTimeOffset.UtcNow,
                default
            );
        }

        await using Database database = DatabaseFactory.Create(postgres.ConnectionString, Engines.MasterKey);
        await using var pipeline = new PipelineFixture(database, postgres.ConnectionString);
        EnterpriseInfo enterprise = await pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        DateTimeOffset now = DateTimeOffset.UtcNow;
        ParsedEvent first = PipelineFixture.Event(Guid.NewGuid(), enterprise, "ana@acme.example", "export", now);
        PartitionStep step = pipeline.NewStep();
        for (int times = 0; times < 40; times++)
        {
            ParsedEvent next = PipelineFixture.Event(
                Guid.NewGuid(),
                enterprise,
                "user-" + times,
                "export",
                now.AddDays(-times % 2)
            );
            await pipeline.AppendAsync(enterprise, [first, next]);
            await pipeline.ProcessAllAsync(step);
        }

        Assert.Equal(
            [(80L, 41L, 39L)],
            await pipeline.QueryAsync(
                "SELECT sum(accepted)::bigint, sum(stored)::bigint, sum(duplicate)::bigint FROM usage_ledger",
                row => (row.GetInt64(0), row.GetInt64(1), row.GetInt64(2))
            )
        );
    }
}
