using System.Data;
using Npgsql;
using NpgsqlTypes;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// The two logins the server uses, and the only ways to use them. <see cref="OpenEnterpriseAsync"/> is the wall between
/// enterprises in code; row-level security is the second one, in PostgreSQL.
/// </summary>
/// <remarks>
/// The enterprise is a transaction-local setting: it ends with the transaction, so a pooled connection cannot carry it to
/// the next caller, whatever happened to the first.
/// </remarks>
internal sealed class Database(NpgsqlDataSource app, NpgsqlDataSource pipeline) : IAsyncDisposable
{
    /// <summary>The login that processing and the event log use; it may see all enterprises, but nobody's credentials.</summary>
    public NpgsqlDataSource Pipeline { get; } = pipeline;

    /// <summary>The login that answers people; without a scope it sees no enterprise's rows.</summary>
    public NpgsqlDataSource App { get; } = app;

    /// <summary>Begins a transaction that sees the rows of one enterprise only.</summary>
    public Task<ScopedTransaction> OpenEnterpriseAsync(Guid enterpriseId, CancellationToken cancellationToken) =>
        OpenAsync("app.enterprise_id", enterpriseId.ToString(), cancellationToken);

    /// <summary>As <see cref="OpenEnterpriseAsync"/>; all of its queries see the same moment.</summary>
    public Task<ScopedTransaction> OpenEnterpriseSnapshotAsync(
        Guid enterpriseId,
        CancellationToken cancellationToken
    ) => OpenAsync("app.enterprise_id", enterpriseId.ToString(), cancellationToken, IsolationLevel.RepeatableRead);

    /// <summary>Begins a transaction that sees just the credential with this hash.</summary>
    public Task<ScopedTransaction> OpenLookupAsync(byte[] hash, CancellationToken cancellationToken) =>
        OpenAsync("app.lookup", Convert.ToHexString(hash), cancellationToken);

    /// <summary>Begins a transaction in which the operator can list the enterprises (and only their own table).</summary>
    public Task<ScopedTransaction> OpenPlatformAsync(CancellationToken cancellationToken) =>
        OpenAsync("app.platform", "on", cancellationToken);

    private async Task<ScopedTransaction> OpenAsync(
        string setting,
        string value,
        CancellationToken cancellationToken,
        IsolationLevel isolation = IsolationLevel.ReadCommitted
    )
    {
        NpgsqlConnection connection = await App.OpenConnectionAsync(cancellationToken);
        try
        {
            NpgsqlTransaction transaction = await connection.BeginTransactionAsync(isolation, cancellationToken);
            var scoped = new ScopedTransaction(connection, transaction);
            await scoped.SetAsync(setting, value, cancellationToken);
            return scoped;
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await App.DisposeAsync();
        await Pipeline.DisposeAsync();
    }
}

/// <summary>A transaction under a scope; disposed without <see cref="CommitAsync"/> it is rolled back.</summary>
internal sealed class ScopedTransaction(NpgsqlConnection connection, NpgsqlTransaction transaction) : IAsyncDisposable
{
    public NpgsqlConnection Connection { get; } = connection;

    /// <summary>A command of this transaction; parameters are $1, $2 … in the order given.</summary>
    public NpgsqlCommand Command(string sql, params ReadOnlySpan<object?> parameters)
    {
        var command = new NpgsqlCommand(sql, Connection, transaction);
        foreach (object? parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter ?? DBNull.Value });
        }

        return command;
    }

    public async Task<int> ExecuteAsync(string sql, object?[] parameters, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = Command(sql, parameters);
        return await command.ExecuteNonQueryAsync(cancellationToken);
    }

    /// <summary>Narrows or moves the scope inside the transaction, as when a credential has told which enterprise it is of.</summary>
    public async Task SetAsync(string setting, string value, CancellationToken cancellationToken)
    {
        await using var command = new NpgsqlCommand("SELECT set_config($1, $2, true)", Connection, transaction)
        {
            Parameters =
            {
                new NpgsqlParameter<string> { TypedValue = setting, NpgsqlDbType = NpgsqlDbType.Text },
                new NpgsqlParameter<string> { TypedValue = value, NpgsqlDbType = NpgsqlDbType.Text },
            },
        };
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    public Task CommitAsync(CancellationToken cancellationToken) => transaction.CommitAsync(cancellationToken);

    public async ValueTask DisposeAsync()
    {
        await transaction.DisposeAsync();
        await Connection.DisposeAsync();
    }
}
