using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Platform;

public sealed class MigratorTests(Engines engines)
{
    [Fact]
    public async Task MigrateAsync_WhenRunAgainAndSideBySide_ShouldChangeNothing()
    {
        await using TestDatabase clone = await engines.CloneAsync();
        await using var owner = NpgsqlDataSource.Create(clone.OwnerConnectionString);

        await Task.WhenAll(
            Enumerable
                .Range(0, 4)
                .Select(_ =>
                    Migrator.MigrateAsync(
                        owner,
                        Engines.MasterKey,
                        Engines.LogPartitions * 2,
                        Engines.Now,
                        TestContext.Current.CancellationToken
                    )
                )
        );

        await using NpgsqlCommand count = clone.Database.Pipeline.CreateCommand("SELECT count(*) FROM log_partitions");
        Assert.Equal(
            (long)Engines.LogPartitions,
            await count.ExecuteScalarAsync(TestContext.Current.CancellationToken)
        );
    }

    [Fact]
    public async Task MigrateAsync_WhenDone_ShouldLetTheLoginsInWithoutGreaterRights()
    {
        await using TestDatabase clone = await engines.CloneAsync();

        foreach (NpgsqlDataSource login in new[] { clone.Database.App, clone.Database.Pipeline })
        {
            await using NpgsqlCommand command = login.CreateCommand(
                "SELECT rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
            );
            Assert.Equal(false, await command.ExecuteScalarAsync(TestContext.Current.CancellationToken));
            await using NpgsqlCommand alter = login.CreateCommand("CREATE TABLE mine (x int)");
            await Assert.ThrowsAsync<PostgresException>(() =>
                alter.ExecuteNonQueryAsync(TestContext.Current.CancellationToken)
            );
        }
    }

    [Fact]
    public async Task EnsureAsync_WhenCalledByThePipeline_ShouldMakeThePartition()
    {
        await using TestDatabase clone = await engines.CloneAsync();

        foreach (string table in MonthPartitions.Tables)
        {
            await using NpgsqlCommand ensure = clone.Database.Pipeline.CreateCommand(
                "SELECT ensure_month_partition($1, '2031-07-15')"
            );
            ensure.Parameters.Add(new NpgsqlParameter<string> { TypedValue = table });
            Assert.Equal(true, await ensure.ExecuteScalarAsync(TestContext.Current.CancellationToken));
            Assert.Equal(false, await ensure.ExecuteScalarAsync(TestContext.Current.CancellationToken));
        }
    }
}
