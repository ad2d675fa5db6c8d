using System.Globalization;
using System.Reflection;
using System.Security.Cryptography;
using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Brings a database to the current schema: the logins, then <c>db/migrations/*.sql</c> in order, each in a transaction
/// with its entry in <c>schema_migrations</c>, then the root key and the logins' passwords. Safe to run from several instances at once and to run again.
/// </summary>
internal static class Migrator
{
    public const string AppLogin = "usage_monitor_app";
    public const string PipelineLogin = "usage_monitor_pipeline";
    private const int LoginAttemptsMax = 20;
    private const long LockKey = 0x757361676d6f6e; // "usagmon"

    /// <param name="owner">A login that may create roles and owns the database; used for nothing else.</param>
    /// <param name="keys">Open the root key that the database keeps; a new database gets a new one.</param>
    /// <param name="logPartitions">How many partitions a new event log has; an existing log keeps its own number.</param>
    /// <param name="now">For the months whose partitions must exist from the start.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The master key with the database's root key, which the two logins' passwords derive from.</returns>
    /// <exception cref="MasterKeyException">The database needs another master key. Nothing was changed.</exception>
    public static Task<MasterKey> MigrateAsync(
        NpgsqlDataSource owner,
        WrappingKeys keys,
        int logPartitions,
        DateTimeOffset now,
        CancellationToken cancellationToken
    ) => MigrateAsync(owner, keys, null, logPartitions, now, cancellationToken);

    /// <summary>The same, with a root key for a new database: databases of one cluster share the logins, and so their passwords.</summary>
    public static Task<MasterKey> MigrateAsync(
        NpgsqlDataSource owner,
        MasterKey masterKey,
        int logPartitions,
        DateTimeOffset now,
        CancellationToken cancellationToken
    ) => MigrateAsync(owner, masterKey.Keys, masterKey.Root, logPartitions, now, cancellationToken);

    private static async Task<MasterKey> MigrateAsync(
        NpgsqlDataSource owner,
        WrappingKeys keys,
        byte[]? newRoot,
        int logPartitions,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlConnection connection = await owner.OpenConnectionAsync(cancellationToken);
        await using (var take = new NpgsqlCommand("SELECT pg_advisory_lock($1)", connection))
        {
            take.Parameters.Add(new NpgsqlParameter<long> { TypedValue = LockKey });
            await take.ExecuteNonQueryAsync(cancellationToken);
        }

        // Before anything is changed: with a wrong master key nothing may be.
        byte[] root =
            await RootKey.FindAsync(connection, keys, cancellationToken)
            ?? newRoot
            ?? RandomNumberGenerator.GetBytes(MasterKey.KeyBytes);
        var masterKey = new MasterKey(keys, root);
        foreach (string login in new[] { AppLogin, PipelineLogin })
        {
            await EnsureLoginAsync(connection, login, cancellationToken);
        }

        await ExecuteAsync(
            connection,
            """
            CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())
            """,
            cancellationToken
        );
        foreach ((string name, string sql) in Scripts())
        {
            await ApplyAsync(connection, name, sql, cancellationToken);
        }

        // The root key is kept before anything derives from it.
        await RootKey.KeepAsync(connection, masterKey, cancellationToken);
        foreach (string login in new[] { AppLogin, PipelineLogin })
        {
            await SetPasswordAsync(connection, login, masterKey.DatabasePassword(login), cancellationToken);
        }

        await using (
            var partitions = new NpgsqlCommand(
                """
                WITH missing AS (SELECT n FROM generate_series(0, $1 - 1) n WHERE NOT EXISTS (SELECT FROM log_partitions)),
                     heads AS (INSERT INTO log_partitions (log_partition) SELECT n FROM missing)
                INSERT INTO log_positions (log_partition) SELECT n FROM missing
                """,
                connection
            )
        )
        {
            partitions.Parameters.Add(new NpgsqlParameter<int> { TypedValue = logPartitions });
            await partitions.ExecuteNonQueryAsync(cancellationToken);
        }

        foreach (string table in MonthPartitions.Tables)
        {
            foreach (int months in new[] { 0, 1 })
            {
                await ExecuteAsync(
                    connection,
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"SELECT ensure_month_partition('{table}', '{now.UtcDateTime.AddMonths(months):yyyy-MM-dd}')"
                    ),
                    cancellationToken
                );
            }
        }

        await ExecuteAsync(connection, "SELECT pg_advisory_unlock_all()", cancellationToken);
        return masterKey;
    }

    // Roles belong to the cluster, not to the database: another database's migrator may be making or altering the same ones.
    private static Task EnsureLoginAsync(
        NpgsqlConnection connection,
        string login,
        CancellationToken cancellationToken
    ) =>
        ExecuteAsync(
            connection,
            $"""
            DO $do$
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') THEN
                    CREATE ROLE {login} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
                END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END $do$
            """,
            cancellationToken
        );

    // "Tuple concurrently updated" is tried again in PostgreSQL, since it would cost the connection here.
    private static Task SetPasswordAsync(
        NpgsqlConnection connection,
        string login,
        string password,
        CancellationToken cancellationToken
    ) =>
        ExecuteAsync(
            connection,
            $"""
            DO $do$
            DECLARE
                attempt int := 1;
            BEGIN
                LOOP
                    BEGIN
                        ALTER ROLE {login} PASSWORD '{password}';
                        EXIT;
                    EXCEPTION WHEN internal_error THEN
                        IF attempt = {LoginAttemptsMax} THEN RAISE; END IF;
                        attempt := attempt + 1;
                    END;
                END LOOP;
            END $do$
            """,
            cancellationToken
        );

    private static async Task ApplyAsync(
        NpgsqlConnection connection,
        string name,
        string sql,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using (
            var known = new NpgsqlCommand(
                "INSERT INTO schema_migrations (name) VALUES ($1) ON CONFLICT DO NOTHING",
                connection,
                transaction
            )
        )
        {
            known.Parameters.Add(new NpgsqlParameter<string> { TypedValue = name });
            if (await known.ExecuteNonQueryAsync(cancellationToken) == 0)
            {
                return;
            }
        }

        await using (var apply = new NpgsqlCommand(sql, connection, transaction))
        {
            apply.CommandTimeout = 0;
            await apply.ExecuteNonQueryAsync(cancellationToken);
        }

        await transaction.CommitAsync(cancellationToken);
    }

    private static IEnumerable<(string Name, string Sql)> Scripts()
    {
        Assembly assembly = typeof(Migrator).Assembly;
        foreach (
            string resource in assembly
                .GetManifestResourceNames()
                .Where(n => n.StartsWith("migrations/", StringComparison.Ordinal))
                .Order(StringComparer.Ordinal)
        )
        {
            using var reader = new StreamReader(assembly.GetManifestResourceStream(resource)!);
            yield return (resource["migrations/".Length..], reader.ReadToEnd());
        }
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql, CancellationToken cancellationToken)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
