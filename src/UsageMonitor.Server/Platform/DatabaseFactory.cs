using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>Builds the two data sources the server and the tests work with.</summary>
internal static class DatabaseFactory
{
    private const int AppConnectionsMax = 40;
    private const int PipelineConnectionsMax = 20;
    private const int CommandTimeoutSeconds = 30;
    private const int KeepAliveSeconds = 30;
    private const int PreparedStatementsMax = 100;

    // Pipeline statements join arrays of up to 20,000 keys with indexed tables, and run all day: they are planned once.
    // A plan made while a table was still empty must not scan or hash all of it later, when it has millions of rows.
    private const string PipelinePlans =
        "-c plan_cache_mode=force_generic_plan -c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off "
        + "-c work_mem=32MB"; // what one append or step carries stays in memory

    /// <param name="ownerConnectionString">Says where the database is; its login is used for nothing here.</param>
    /// <param name="masterKey">Gives the two logins their passwords.</param>
    public static Database Create(string ownerConnectionString, MasterKey masterKey) =>
        new(
            Build(ownerConnectionString, masterKey, Migrator.AppLogin, AppConnectionsMax, options: null),
            Build(ownerConnectionString, masterKey, Migrator.PipelineLogin, PipelineConnectionsMax, PipelinePlans)
        );

    private static NpgsqlDataSource Build(
        string ownerConnectionString,
        MasterKey masterKey,
        string login,
        int connectionsMax,
        string? options
    ) =>
        NpgsqlDataSource.Create(
            new NpgsqlConnectionStringBuilder(ownerConnectionString)
            {
                Username = login,
                Password = masterKey.DatabasePassword(login),
                ApplicationName = login,
                MaxPoolSize = connectionsMax,
                CommandTimeout = CommandTimeoutSeconds,
                KeepAlive = KeepAliveSeconds,
                MaxAutoPrepare = PreparedStatementsMax,
                AutoPrepareMinUsages = 2,
                IncludeErrorDetail = false, // it would quote rows' values into logs
                Options = options,

                // Nothing outlives a transaction on these connections: whatever is set is set for one (set_config with
                // is_local, SET LOCAL), so that giving a connection back needs no round trip to undo it.
                NoResetOnClose = true,
            }
        );
}
