using Npgsql;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>What stands in the catalog, and what the server's two logins can do to it: nothing.</summary>
public sealed class DatabaseLoginTests(TwoEnterprises two) : IClassFixture<TwoEnterprises>
{
    /// <summary>
    /// Tables that the app login may touch though no row of theirs is an enterprise's, each with the reason. A new table without
    /// <c>enterprise_id</c> belongs here or behind the wall.
    /// </summary>
    private static readonly Dictionary<string, string> s_notOfAnEnterprise = new()
    {
        ["signing_keys"] = "the platform's; the private half is sealed by the master key",
        ["platform_keys"] = "which master key wraps the root key; wrapped",
        ["identity_version"] = "one number",
        ["log_partitions"] = "counters of the whole log",
        ["log_positions"] = "counters of the whole log",
        ["permissions"] = "names that code holds too",
        ["audit_signing_keys"] = "public halves of keys",
    };

    /// <summary>Policies by which the app login sees more than the enterprise in scope, each with the reason.</summary>
    private static readonly Dictionary<string, string> s_widerPolicies = new()
    {
        ["enterprises.operator_lists"] = "the operator's list of enterprises",
        ["api_keys.known_credential"] = "who holds the hash may see the row",
        ["users.known_credential"] = "who holds the hash may see the row",
        ["sessions.known_credential"] = "who holds the hash may see the row",
        ["account_links.known_credential"] = "who holds the hash may see the row",
        ["passkeys.known_credential"] = "who names the passkey may see its public half",
        ["identity_providers.known_provider"] = "who names the provider may begin to sign in by it",
        ["identity_provider_domains.known_domain"] = "whose address is of the domain is sent to its provider",
        ["refresh_tokens.known_credential"] = "who holds the hash may see the row",
    };

    /// <summary>
    /// Policies for the owner itself, by which a function that runs with its rights is held to the enterprise in scope, too.
    /// </summary>
    private static readonly string[] s_ownersPolicies =
    [
        "audit_log.append",
        "audit_heads.append",
        "audit_trims.trim",
        "audit_checkpoints.trim",
        "retention_settings.trim",
    ];

    /// <summary>Functions that run with their owner's rights and that the app may call, each with the reason.</summary>
    private static readonly Dictionary<string, string> s_ownersFunctions = new()
    {
        ["append_audit"] = "the only way to write an entry of the audit log, of the enterprise in scope",
    };

    private const string OwnEnterprise = "(enterprise_id = ( SELECT current_enterprise() AS current_enterprise))";

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Tables_WhenTheyHaveAnEnterprise_ShouldForceRowSecurityPartitionsToo()
    {
        List<string> open = await two.OwnerListsAsync<string>(
            """
            SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'enterprise_id'
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
            """
        );

        Assert.Empty(open);
    }

    [Fact]
    public async Task Policies_WhenForTheApp_ShouldBeItsOwnEnterpriseOrNamedHere()
    {
        List<string> policies = await two.OwnerListsAsync<string>(
            "SELECT tablename || '.' || policyname FROM pg_policies WHERE NOT (roles = '{usage_monitor_pipeline}' OR "
                + "(policyname = 'own_enterprise' AND roles = '{usage_monitor_app}' AND cmd = 'ALL' AND permissive = 'PERMISSIVE' "
                + "AND qual = $1 AND with_check = $1))",
            OwnEnterprise
        );

        Assert.Equal([], policies.Except(s_widerPolicies.Keys).Except(s_ownersPolicies));
        Assert.Equal(
            [],
            await two.OwnerListsAsync<string>(
                "SELECT tablename || '.' || policyname FROM pg_policies WHERE tablename || '.' || policyname = ANY ($1) "
                    + "AND NOT (roles <> '{public}' AND roles <> '{usage_monitor_app}' AND qual = $2 AND with_check = $2)",
                s_ownersPolicies,
                OwnEnterprise
            )
        );
        Assert.Equal(
            [],
            await two.OwnerListsAsync<string>(
                "SELECT tablename || '.' || policyname FROM pg_policies WHERE tablename || '.' || policyname = ANY ($1) "
                    + "AND NOT (roles = '{usage_monitor_app}' AND cmd = 'SELECT')",
                (object)s_widerPolicies.Keys.ToArray()
            )
        );
    }

    [Fact]
    public async Task Tables_WhenTheAppMayTouchThem_ShouldBeBehindTheWallOrNamedHere()
    {
        List<string> reached = await two.OwnerListsAsync<string>(
            """
            SELECT c.relname::text FROM pg_class c
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
              AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'enterprise_id')
              AND (has_any_column_privilege('usage_monitor_app', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
                   OR has_table_privilege('usage_monitor_app', c.oid, 'DELETE, TRUNCATE, TRIGGER'))
            """
        );

        Assert.Equal([], reached.Except(s_notOfAnEnterprise.Keys));
    }

    [Fact]
    public async Task Tables_WhenListed_ShouldGiveNobodyElseAndNoneOfThemMoreThanRows()
    {
        Assert.Empty(
            await two.OwnerListsAsync<string>(
                """
                SELECT c.relname || ' to ' || coalesce(r.rolname, 'everybody') || ': ' || g.privilege_type
                FROM pg_class c, aclexplode(c.relacl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
                WHERE c.relnamespace = 'public'::regnamespace AND g.grantee <> c.relowner
                  AND (r.rolname IS NULL OR r.rolname NOT IN ('usage_monitor_app', 'usage_monitor_pipeline')
                       OR g.privilege_type IN ('TRUNCATE', 'TRIGGER', 'REFERENCES', 'MAINTAIN') OR g.is_grantable)
                """
            )
        );
    }

    [Fact]
    public async Task Partitions_WhenNamed_ShouldBeOutOfReach()
    {
        Assert.Empty(
            await two.OwnerListsAsync<string>(
                """
                SELECT c.relname::text FROM pg_class c, unnest(ARRAY['usage_monitor_app', 'usage_monitor_pipeline']) AS login
                WHERE c.relnamespace = 'public'::regnamespace AND c.relispartition AND c.relkind IN ('r', 'p')
                  AND has_any_column_privilege(login, c.oid, 'SELECT, INSERT, UPDATE')
                """
            )
        );
    }

    [Fact]
    public async Task Functions_WhenTheyRunAsTheirOwner_ShouldNotBeTheAppsAndPinTheirPath()
    {
        Assert.Empty(
            await two.OwnerListsAsync<string>(
                """
                SELECT p.proname::text FROM pg_proc p
                WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef
                  AND (has_function_privilege('usage_monitor_app', p.oid, 'EXECUTE') AND p.proname <> ALL ($1)
                       OR NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search_path=%'))
                """,
                (object)s_ownersFunctions.Keys.ToArray()
            )
        );
    }

    [Fact]
    public async Task Functions_WhenPoliciesAskThem_ShouldNotBeReadByASessionsSearchPath()
    {
        List<string> asked = await two.OwnerListsAsync<string>(
            """
            SELECT DISTINCT p.proname::text FROM pg_policy w JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = w.oid
                AND d.refclassid = 'pg_proc'::regclass JOIN pg_proc p ON p.oid = d.refobjid
            WHERE p.pronamespace = 'public'::regnamespace
            """
        );
        List<string> late = await two.OwnerListsAsync<string>(
            """
            SELECT p.proname::text FROM pg_proc p
            WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ($1)
              AND p.prosqlbody IS NULL AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search_path=%')
            """,
            (object)asked.ToArray()
        );

        Assert.Contains("current_enterprise", asked);
        Assert.Empty(late);
    }

    [Theory]
    [InlineData(Migrator.AppLogin)]
    [InlineData(Migrator.PipelineLogin)]
    public async Task Login_WhenLookedAt_ShouldOwnNothingAndBeNobodyElse(string login)
    {
        Assert.True(
            await two.OwnerReadsAsync<bool>(
                """
                SELECT NOT (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
                   AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
                   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid AND c.relpersistence <> 't')
                   AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.proowner = r.oid)
                   AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspowner = r.oid AND n.nspname NOT LIKE 'pg_%temp%')
                   AND NOT has_schema_privilege(r.oid, 'public', 'CREATE')
                   AND NOT has_database_privilege(r.oid, current_database(), 'CREATE')
                FROM pg_roles r WHERE r.rolname = $1
                """,
                login
            )
        );
    }

    public static TheoryData<string> Attacks =>
        [
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE users NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE users OWNER TO {login}",
            "ALTER TABLE users ADD COLUMN mine int",
            "DROP TABLE users",
            "TRUNCATE users",
            "TRUNCATE usage_events",
            "DROP POLICY own_enterprise ON users",
            "ALTER POLICY own_enterprise ON users USING (true)",
            "CREATE POLICY mine ON users USING (true)",
            "CREATE TRIGGER mine BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "CREATE RULE mine AS ON SELECT TO users DO INSTEAD SELECT 1",
            "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE OR REPLACE FUNCTION public.current_enterprise() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'",
            "ALTER FUNCTION current_enterprise() SECURITY DEFINER",
            "DROP FUNCTION platform_scope()",
            "CREATE VIEW public.mine AS SELECT * FROM users",
            "CREATE TABLE public.mine (a int)",
            "CREATE SCHEMA mine",
            "CREATE EXTENSION dblink",
            "CREATE ROLE mine SUPERUSER",
            "ALTER ROLE {login} BYPASSRLS",
            "ALTER ROLE {login} SUPERUSER",
            "ALTER DATABASE {database} OWNER TO {login}",
            "ALTER DATABASE {database} SET app.platform = 'on'",
            "GRANT {owner} TO {login}",
            "SET ROLE {owner}",
            "SET SESSION AUTHORIZATION {owner}",
            "SELECT wall_in('users')",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "COPY (SELECT 1) TO '/tmp/usage-monitor-mine'",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT pg_ls_dir('.')",
            "SELECT lo_import('/etc/passwd')",
            "SELECT rolpassword FROM pg_authid",
            "ALTER SYSTEM SET row_security = off",
            "LOAD '$libdir/nothing'",
            "SET session_replication_role = replica",
        ];

    [Theory]
    [MemberData(nameof(Attacks))]
    public async Task Login_WhenItReachesForMore_ShouldBeRefused(string attack)
    {
        string owner = await two.OwnerReadsAsync<string>("SELECT current_user::text");
        foreach (
            (NpgsqlDataSource source, string login) in new[]
            {
                (two.Database.Database.App, Migrator.AppLogin),
                (two.Database.Database.Pipeline, Migrator.PipelineLogin),
            }
        )
        {
            string sql = attack
                .Replace("{owner}", owner, StringComparison.Ordinal)
                .Replace("{login}", login, StringComparison.Ordinal)
                .Replace("{database}", two.Database.Name, StringComparison.Ordinal);
            await using NpgsqlConnection connection = await source.OpenConnectionAsync(CancellationToken);
            await using (
                NpgsqlTransaction? transaction = NeedsNoTransaction(sql)
                    ? null
                    : await connection.BeginTransactionAsync(CancellationToken)
            )
            {
                await using var command = new NpgsqlCommand(sql, connection);
                PostgresException? refused =
                    await Record.ExceptionAsync(() => command.ExecuteNonQueryAsync(CancellationToken))
                    as PostgresException;
                Assert.True(
                    refused?.SqlState == PostgresErrorCodes.InsufficientPrivilege,
                    $"{login}: {sql}: {refused?.SqlState} {refused?.MessageText}"
                );
            }
        }
    }

    private static bool NeedsNoTransaction(string sql) => sql.StartsWith("ALTER SYSTEM", StringComparison.Ordinal);
}
