using System.Globalization;
using System.Reflection;
using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Brings a database to the current schema: the logins, then <c>db/migrations/*.sql</c> in order, each in a transaction
/// with its entry in <c>schema_migrations</c>. Safe to run from several instances at once and to run again.
/// </summary>
internal static class Migrator
{
    public const string AppLogin = "usage_monitor_app";
    public const string PipelineLogin = "usage_monitor_pipeline";
    private const int LoginAttemptsMax = 20;
    private const long LockKey = 0x757361676d6f6e; // "usagmon"

    /// <param name="owner">A login that may create roles and owns the database; used for nothing else.</param>
    /// <param name="masterKey">Gives the two logins their passwords.</param>
    /// <param name="logPartitions">How many partitions a new event log has; an existing log keeps its own number.</param>
    /// <param name="now">For the months whose partitions must exist from the start.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task MigrateAsync(
        NpgsqlDataSource owner,
        MasterKey masterKey,
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

        foreach (string login in new[] { AppLogin, PipelineLogin })
        {
            await EnsureLoginAsync(connection, login, masterKey.DatabasePassword(login), cancellationToken);
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
    }

    private static async Task EnsureLoginAsync(
        NpgsqlConnection connection,
        string login,
        string password,
        CancellationToken cancellationToken
    )
    {
        // Roles belong to the cluster, not to the database: another database's migrator may be making or altering the same
        // ones. "Tuple concurrently updated" is tried again in PostgreSQL, since it would cost the connection here.
        await ExecuteAsync(
            connection,
            $"""
            DO $do$
            DECLARE
                attempt int := 1;
            BEGIN
                PERFORM pg_advisory_xact_lock({LockKey});
                BEGIN
                    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') THEN
                        CREATE ROLE {login} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
                    END IF;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                END;
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
    }

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
