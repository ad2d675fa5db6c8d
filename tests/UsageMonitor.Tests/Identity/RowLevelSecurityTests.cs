using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class RowLevelSecurityTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    [Fact]
    public async Task App_WhenItHasNoScopeOrAnothers_ShouldSeeNothingOfAnEnterprise()
    {
        LoginResponse a = await fixture.Host.CreateEnterpriseAsync();
        LoginResponse b = await fixture.Host.CreateEnterpriseAsync();
        Guid enterpriseA = a.User.EnterpriseId!.Value;
        Guid enterpriseB = b.User.EnterpriseId!.Value;
        foreach (LoginResponse admin in new[] { a, b })
        {
            await fixture.Host.CreateApiKeyAsync(admin, Permissions.UsageRead);
            await StoreUsageAsync(admin.User.EnterpriseId!.Value);
        }

        List<string> tables = await TablesAsync();
        Assert.Contains("api_keys", tables);
        Assert.Contains("usage_events", tables);
        foreach (string table in tables)
        {
            Assert.True(await CountAsync(table, enterpriseA, enterpriseA) > 0, $"{table}: nothing to see of A");
            Assert.True(await CountAsync(table, enterpriseA, enterpriseB) == 0, $"{table}: A sees B");
            Assert.True(await CountAsync(table, null, null) == 0, $"{table}: seen without a scope");
        }
    }

    [Fact]
    public async Task App_WhenItWritesIntoAnotherEnterprise_ShouldBeRefused()
    {
        LoginResponse a = await fixture.Host.CreateEnterpriseAsync();
        LoginResponse b = await fixture.Host.CreateEnterpriseAsync();
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using ScopedTransaction own = await fixture.Database.Database.OpenEnterpriseAsync(
            a.User.EnterpriseId!.Value,
            cancellationToken
        );

        int changed = await own.ExecuteAsync(
            "UPDATE enterprises SET status = 'SUSPENDED' WHERE enterprise_id = $1",
            [b.User.EnterpriseId!.Value],
            cancellationToken
        );
        PostgresException exception = await Assert.ThrowsAsync<PostgresException>(() =>
            own.ExecuteAsync(
                "INSERT INTO user_roles (enterprise_id, user_id, role_name) VALUES ($1, $2, 'EnterpriseAdmin')",
                [b.User.EnterpriseId!.Value, a.User.UserId],
                cancellationToken
            )
        );

        Assert.Equal(0, changed);
        Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, exception.SqlState);
    }

    [Theory]
    [InlineData("users", "password_hash")]
    [InlineData("users", "email")]
    [InlineData("api_keys", "key_hash")]
    [InlineData("sessions", "session_id")]
    [InlineData("refresh_tokens", "token_hash")]
    [InlineData("signing_keys", "private_key")]
    [InlineData("account_links", "token_hash")]
    [InlineData("mail_outbox", "message")]
    public async Task Pipeline_WhenItReadsCredentials_ShouldBeRefused(string table, string column)
    {
        await using NpgsqlCommand command = fixture.Database.Database.Pipeline.CreateCommand(
            $"SELECT {column} FROM {table}"
        );

        PostgresException exception = await Assert.ThrowsAsync<PostgresException>(() =>
            command.ExecuteScalarAsync(TestContext.Current.CancellationToken)
        );

        Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, exception.SqlState);
    }

    // Every table that a person's login may read and that says whose its rows are; a new one is held to this by itself.
    private async Task<List<string>> TablesAsync()
    {
        var tables = new List<string>();
        await using NpgsqlCommand command = fixture.Database.Database.App.CreateCommand(
            """
            SELECT c.table_name FROM information_schema.columns c
            WHERE c.column_name = 'enterprise_id' AND c.table_schema = 'public'
            ORDER BY c.table_name
            """
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        while (await reader.ReadAsync(TestContext.Current.CancellationToken))
        {
            tables.Add(reader.GetString(0));
        }

        return tables;
    }

    private async Task<long> CountAsync(string table, Guid? scope, Guid? enterprise)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using NpgsqlConnection connection = await fixture.Database.Database.App.OpenConnectionAsync(
            cancellationToken
        );
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using var set = new NpgsqlCommand("SELECT set_config('app.enterprise_id', $1, true)", connection);
        set.Parameters.Add(new NpgsqlParameter<string> { TypedValue = scope?.ToString() ?? "" });
        await set.ExecuteNonQueryAsync(cancellationToken);
        await using var count = new NpgsqlCommand(
            $"SELECT count(*) FROM {table} WHERE $1::uuid IS NULL OR enterprise_id = $1",
            connection
        );
        count.Parameters.Add(
            new NpgsqlParameter
            {
                Value = (object?)enterprise ?? DBNull.Value,
                NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Uuid,
            }
        );
        return (long)(await count.ExecuteScalarAsync(cancellationToken))!;
    }

    private async Task StoreUsageAsync(Guid enterpriseId)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        string[] rows =
        [
            "usage_events VALUES ($1, gen_random_uuid(), gen_random_uuid(), $2, $2, 1, 0, 0, 'login', 'USED')",
            "usage_aggregates VALUES ($1, 'usage_count', 'hour', '', $2, 1)",
            "user_usage_aggregates VALUES ($1, gen_random_uuid(), 'login', $2, 1, $2, $2)",
            "active_user_sets VALUES ($1, $2, 0, 1, '', '')",
            "usage_ledger VALUES ($1, $2, 1, 1, 0, 1, 0)",
        ];
        foreach (string row in rows)
        {
            await using NpgsqlCommand insert = fixture.Database.Database.Pipeline.CreateCommand("INSERT INTO " + row);
            insert.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
            insert.Parameters.Add(new NpgsqlParameter<DateTimeOffset> { TypedValue = Fixtures.Engines.Now });
            await insert.ExecuteNonQueryAsync(cancellationToken);
        }
    }
}
