using System.Text.RegularExpressions;
using Npgsql;
using UsageMonitor.Tests.Security;
using Xunit;

namespace UsageMonitor.Tests.Identity;

/// <summary>
/// The second wall alone: statements as if the code had forgotten its own, with no WHERE, under the server's logins, on every
/// table that has <c>enterprise_id</c>. Tables are found in the catalog, and their rows are generated: a new table is held to
/// this by itself.
/// </summary>
public sealed partial class RowLevelSecurityTests(TwoEnterprises two) : IClassFixture<TwoEnterprises>
{
    private const string EnterpriseScope = "app.enterprise_id";
    private const string LookupScope = "app.lookup";
    private const string PlatformScope = "app.platform";

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Tables_WhenFilled_ShouldHaveRowsOfBothEnterprises()
    {
        Assert.Contains("api_keys", two.Tables);
        Assert.Contains("usage_events", two.Tables);
        foreach (string table in two.Tables)
        {
            string sql = $"SELECT count(DISTINCT enterprise_id) FROM {table} WHERE enterprise_id IN ($1, $2)";
            Assert.True(
                await two.OwnerReadsAsync<long>(sql, two.A, two.B) == 2,
                $"{table} is empty: nothing is tested on it"
            );
        }
    }

    [Fact]
    public async Task App_WhenItHasTheScopeOfOne_ShouldSeeNothingOfAnother()
    {
        foreach (string table in await ReadableAsync())
        {
            List<Guid> seen = await SeenAsync(table, (EnterpriseScope, two.A.ToString()));

            Assert.True(seen.Count > 0, $"{table}: A sees nothing of its own");
            Assert.True(seen.TrueForAll(enterprise => enterprise == two.A), $"{table}: A sees another's");
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData(" ")]
    [InlineData("x")]
    [InlineData("on")]
    [InlineData("%")]
    [InlineData("NULL")]
    [InlineData("' OR true --")]
    [InlineData("00000000-0000-0000-0000-000000000000")]
    [InlineData("ffffffff-ffff-ffff-ffff-ffffffffffff")]
    public async Task App_WhenItsScopeIsMissingOrMalformed_ShouldSeeNothing(string? scope)
    {
        foreach (string table in await ReadableAsync())
        {
            try
            {
                Assert.Empty(await SeenAsync(table, scope is null ? [] : [(EnterpriseScope, scope)]));
            }
            catch (PostgresException exception)
                when (exception.SqlState == PostgresErrorCodes.InvalidTextRepresentation)
            {
                // A scope that is no UUID is an error before any row is looked at.
            }
        }
    }

    [Fact]
    public async Task App_WhenItChangesEverything_ShouldChangeOnlyItsOwn()
    {
        foreach (string table in two.Tables)
        {
            long own = await two.OwnerReadsAsync<long>($"SELECT count(*) FROM {table} WHERE enterprise_id = $1", two.A);
            long deleted = await ChangedAsync($"DELETE FROM {table}");
            Assert.True(deleted <= own, $"{table}: {deleted} rows deleted, {own} are A's");
            foreach (string column in await UpdatableAsync(table))
            {
                long updated = await ChangedAsync($"UPDATE {table} SET {column} = {column}");
                Assert.True(updated <= own, $"{table}: {updated} rows updated, {own} are A's");
            }

            Assert.Equal(0, await ChangedAsync($"DELETE FROM {table} WHERE enterprise_id = '{two.B}'"));
        }
    }

    [Fact]
    public async Task App_WhenItWritesIntoAnotherEnterprise_ShouldBeRefused()
    {
        foreach (string table in two.Tables)
        {
            string columns = await two.OwnerReadsAsync<string>(
                """
                SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
                WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname <> 'enterprise_id'
                """,
                table
            );
            // As constants, since A cannot read B's row to copy it; its own is as good.
            string insert = $"INSERT INTO {table} (enterprise_id, {columns}) SELECT '{two.B}', {columns} FROM {table}";
            string move = $"UPDATE {table} SET enterprise_id = '{two.B}'";
            foreach (string sql in new[] { insert, move })
            {
                PostgresException refused = await Assert.ThrowsAsync<PostgresException>(() =>
                    ChangedAsync(sql, refusedIsZero: false)
                );
                Assert.True(
                    refused.SqlState == PostgresErrorCodes.InsufficientPrivilege,
                    $"{sql}: {refused.SqlState} {refused.MessageText}"
                );
            }
        }
    }

    [Fact]
    public async Task App_WhenItLooksACredentialUp_ShouldSeeThatRowOnly()
    {
        IReadOnlyDictionary<string, string> credentials = await LookedUpAsync();
        Assert.Contains("api_keys", credentials.Keys);
        foreach ((string table, string column) in credentials)
        {
            byte[] hash = await two.OwnerReadsAsync<byte[]>(
                $"SELECT {column} FROM {table} WHERE enterprise_id = $1 LIMIT 1",
                two.B
            );
            string lookup = Convert.ToHexString(hash);

            foreach (string other in await ReadableAsync())
            {
                List<Guid> seen = await SeenAsync(other, (LookupScope, lookup));
                Assert.True(
                    other == table ? seen is [var only] && only == two.B : seen.Count == 0,
                    $"the hash of a row of {table} shows {seen.Count} rows of {other}"
                );
            }

            // Seeing is not changing.
            Assert.Equal(
                0,
                await ChangedAsync($"UPDATE {table} SET enterprise_id = enterprise_id", (LookupScope, lookup))
            );
            Assert.Equal(0, await ChangedAsync($"DELETE FROM {table}", (LookupScope, lookup)));
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("00")]
    [InlineData("zz")]
    [InlineData("%")]
    public async Task App_WhenItLooksUpNoHash_ShouldSeeNothing(string lookup)
    {
        foreach (string table in await ReadableAsync())
        {
            try
            {
                Assert.Empty(await SeenAsync(table, (LookupScope, lookup)));
            }
            catch (PostgresException exception) when (exception.SqlState == PostgresErrorCodes.InvalidParameterValue)
            {
                // Not hexadecimal.
            }
        }
    }

    [Fact]
    public async Task App_WhenTheOperatorLists_ShouldSeeEnterprisesOnlyAndChangeNone()
    {
        foreach (string table in await ReadableAsync())
        {
            List<Guid> seen = await SeenAsync(table, (PlatformScope, "on"));
            Assert.True(table == "enterprises" ? seen.Count >= 2 : seen.Count == 0, $"{table}: {seen.Count} rows");
            foreach (string column in await UpdatableAsync(table))
            {
                Assert.Equal(0, await ChangedAsync($"UPDATE {table} SET {column} = {column}", (PlatformScope, "on")));
            }

            Assert.Equal(0, await ChangedAsync($"DELETE FROM {table}", (PlatformScope, "on")));
        }
    }

    [Theory]
    [InlineData("SET search_path = pg_temp, public")]
    [InlineData("SET search_path = pg_temp, pg_catalog, public")]
    [InlineData("SET row_security = on")]
    public async Task App_WhenItShadowsWhatThePoliciesAsk_ShouldSeeNothing(string setting)
    {
        await using NpgsqlConnection connection = await two.Database.Database.App.OpenConnectionAsync(
            CancellationToken
        );
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(CancellationToken);
        await ExecuteAsync(
            connection,
            $"""
            CREATE FUNCTION pg_temp.current_enterprise() RETURNS pg_catalog.uuid LANGUAGE sql AS $$ SELECT '{two.B}'::pg_catalog.uuid $$;
            CREATE FUNCTION pg_temp.platform_scope() RETURNS pg_catalog.bool LANGUAGE sql AS $$ SELECT true $$;
            CREATE FUNCTION pg_temp.current_setting(pg_catalog.text, pg_catalog.bool) RETURNS pg_catalog.text LANGUAGE sql AS $$ SELECT '{two.B}'::pg_catalog.text $$;
            CREATE FUNCTION pg_temp.always(pg_catalog.uuid, pg_catalog.uuid) RETURNS pg_catalog.bool LANGUAGE sql AS $$ SELECT true $$;
            CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.always, LEFTARG = pg_catalog.uuid, RIGHTARG = pg_catalog.uuid);
            {setting};
            """
        );
        await using var count = new NpgsqlCommand("SELECT count(*) FROM public.enterprises", connection);
        Assert.Equal(0L, await count.ExecuteScalarAsync(CancellationToken));
    }

    [Fact]
    public async Task App_WhenItTurnsRowSecurityOff_ShouldBeRefusedRatherThanSeeAll()
    {
        foreach (string table in await ReadableAsync())
        {
            PostgresException refused = await Assert.ThrowsAsync<PostgresException>(() =>
                SeenAsync(table, (EnterpriseScope, two.A.ToString()), ("row_security", "off"))
            );
            Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, refused.SqlState);
        }
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
        await using NpgsqlCommand command = two.Database.Database.Pipeline.CreateCommand(
            $"SELECT {column} FROM {table}"
        );

        PostgresException exception = await Assert.ThrowsAsync<PostgresException>(() =>
            command.ExecuteScalarAsync(CancellationToken)
        );

        Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, exception.SqlState);
    }

    // What the app may read at all; of the others it must not see anything either, and PostgreSQL says so itself.
    private Task<List<string>> ReadableAsync() =>
        two.OwnerListsAsync<string>(
            "SELECT name FROM unnest($1::text[]) AS name WHERE has_column_privilege('usage_monitor_app', name, 'enterprise_id', 'SELECT')",
            (object)two.Tables.ToArray()
        );

    private Task<List<string>> UpdatableAsync(string table) =>
        two.OwnerListsAsync<string>(
            """
            SELECT attname::text FROM pg_attribute
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname <> 'enterprise_id'
              AND has_column_privilege('usage_monitor_app', attrelid, attnum, 'UPDATE')
            ORDER BY attnum LIMIT 1
            """,
            table
        );

    private async Task<IReadOnlyDictionary<string, string>> LookedUpAsync()
    {
        List<string> policies = await two.OwnerListsAsync<string>(
            "SELECT tablename || ':' || qual FROM pg_policies WHERE qual LIKE '%current_lookup%' ORDER BY tablename"
        );
        return policies.ToDictionary(
            policy => policy.Split(':')[0],
            policy =>
            {
                Match match = Lookup().Match(policy[(policy.IndexOf(':', StringComparison.Ordinal) + 1)..]);
                Assert.True(match.Success, $"this policy is more than a look-up by one hash: {policy}");
                return match.Groups[1].Value;
            }
        );
    }

    private async Task<List<Guid>> SeenAsync(string table, params (string Setting, string Value)[] scope)
    {
        await using NpgsqlConnection connection = await two.Database.Database.App.OpenConnectionAsync(
            CancellationToken
        );
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(CancellationToken);
        await ScopeAsync(connection, scope);
        var seen = new List<Guid>();
        await using var command = new NpgsqlCommand($"SELECT enterprise_id FROM {table}", connection);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(CancellationToken);
        while (await reader.ReadAsync(CancellationToken))
        {
            seen.Add(reader.GetGuid(0));
        }

        return seen;
    }

    private Task<long> ChangedAsync(string sql, bool refusedIsZero = true) =>
        ChangedAsync(sql, (EnterpriseScope, two.A.ToString()), refusedIsZero);

    // Rolled back. What the login may not do at all, or what other rows of one's own forbid, changes no row.
    private async Task<long> ChangedAsync(string sql, (string Setting, string Value) scope, bool refusedIsZero = true)
    {
        await using NpgsqlConnection connection = await two.Database.Database.App.OpenConnectionAsync(
            CancellationToken
        );
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(CancellationToken);
        await ScopeAsync(connection, scope);
        try
        {
            return await ExecuteAsync(connection, sql);
        }
        catch (PostgresException exception)
            when (refusedIsZero
                && exception.SqlState
                    is PostgresErrorCodes.InsufficientPrivilege
                        or PostgresErrorCodes.ForeignKeyViolation
                        or PostgresErrorCodes.RestrictViolation
            )
        {
            return 0;
        }
    }

    private static async Task ScopeAsync(NpgsqlConnection connection, params (string Setting, string Value)[] scope)
    {
        foreach ((string setting, string value) in scope)
        {
            await using var set = new NpgsqlCommand("SELECT set_config($1, $2, true)", connection);
            set.Parameters.Add(new NpgsqlParameter<string> { TypedValue = setting });
            set.Parameters.Add(new NpgsqlParameter<string> { TypedValue = value });
            await set.ExecuteNonQueryAsync(CancellationToken);
        }
    }

    private static async Task<int> ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        return await command.ExecuteNonQueryAsync(CancellationToken);
    }

    [GeneratedRegex(@"^\((\w+|uuid_send\(\w+\)) = \( SELECT current_lookup\(\) AS current_lookup\)\)$")]
    private static partial Regex Lookup();
}
