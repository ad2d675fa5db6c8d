using System.Data;
using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Server.Platform.Auditing;

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
    /// <summary>Holds the enterprise in scope.</summary>
    public const string EnterpriseSetting = "app.enterprise_id";

    /// <summary>The login that processing and the event log use; it may see all enterprises, but nobody's credentials.</summary>
    public NpgsqlDataSource Pipeline { get; } = pipeline;

    /// <summary>The login that answers people; without a scope it sees no enterprise's rows.</summary>
    public NpgsqlDataSource App { get; } = app;

    /// <summary>Where acts outside of requests are told; set by the trail itself.</summary>
    public AuditTrail? Trail { get; set; }

    /// <summary>Begins a transaction that sees the rows of one enterprise only.</summary>
    public Task<ScopedTransaction> OpenEnterpriseAsync(Guid enterpriseId, CancellationToken cancellationToken) =>
        OpenAsync(EnterpriseSetting, enterpriseId.ToString(), cancellationToken);

    /// <summary>As <see cref="OpenEnterpriseAsync"/>; all of its queries see the same moment.</summary>
    public Task<ScopedTransaction> OpenEnterpriseSnapshotAsync(
        Guid enterpriseId,
        CancellationToken cancellationToken
    ) => OpenAsync(EnterpriseSetting, enterpriseId.ToString(), cancellationToken, IsolationLevel.RepeatableRead);

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
            var scoped = new ScopedTransaction(connection, transaction, this);
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
internal sealed class ScopedTransaction(
    NpgsqlConnection connection,
    NpgsqlTransaction transaction,
    Database? database = null
) : IAsyncDisposable
{
    private List<AuditEntry>? _entries;

    public NpgsqlConnection Connection { get; } = connection;

    /// <summary>An entry of the audit log has been written in it.</summary>
    public bool IsAudited { get; set; }

    /// <summary>The enterprise in scope, or null.</summary>
    public Guid? EnterpriseId { get; private set; }

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
        if (setting == Database.EnterpriseSetting)
        {
            EnterpriseId = Guid.Parse(value);
        }

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

    /// <summary>Adds what an act of this transaction leaves in the audit log; it is written when the transaction commits.</summary>
    public void Audit(AuditEntry entry) => (_entries ??= []).Add(entry);

    /// <summary>Writes the entries now, before statements that must come after them. Needed only before such; a commit does it.</summary>
    /// <exception cref="InvalidOperationException">There are entries, and nowhere to write them.</exception>
    public async Task WriteAuditAsync(CancellationToken cancellationToken)
    {
        AuditScope? scope = AuditScope.Current;
        if (_entries is { Count: > 0 } entries)
        {
            AuditTrail trail =
                scope?.Trail
                ?? database?.Trail
                ?? throw new InvalidOperationException("There is an act, and no audit log to tell it to.");
            foreach (AuditEntry entry in entries)
            {
                await trail.AppendAsync(this, entry, onlyIfWritten: false, cancellationToken);
            }

            entries.Clear();
        }
        else if (!IsAudited && EnterpriseId is not null && scope is { HasEntry: false, Otherwise: { } otherwise })
        {
            await scope.Trail.AppendAsync(this, otherwise, onlyIfWritten: true, cancellationToken);
        }
    }

    public async Task CommitAsync(CancellationToken cancellationToken)
    {
        await WriteAuditAsync(cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        if (IsAudited && AuditScope.Current is { } scope)
        {
            scope.HasEntry = true;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await transaction.DisposeAsync();
        await Connection.DisposeAsync();
    }
}
