using System.Security.Cryptography;
using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Wraps the enterprises' data keys anew after the master key was replaced, while everything goes on: the data keys themselves
/// stay, so what is sealed with them and what instances have cached stays good.
/// </summary>
/// <remarks>
/// An instance whose first key is not the one that wraps the root key leaves it to those that were started after it; otherwise
/// two of them, configured in different order during a rolling change, would undo each other's work for ever.
/// </remarks>
internal sealed partial class KeyRewrapping(
    Database database,
    MasterKey masterKey,
    TimeProvider time,
    ILogger<KeyRewrapping> logger
) : BackgroundService
{
    private const int BatchMax = 100;
    private const long BatchLock = 0x756d72657772; // "umrewr"
    private static readonly TimeSpan s_interval = TimeSpan.FromMinutes(1);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(s_interval, time);
        do
        {
            try
            {
                await RewrapAsync(stoppingToken);
            }
            catch (NpgsqlException exception)
            {
                LogFailed(exception);
            }
        } while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private const string WhatWraps =
        "SELECT encode(substring(wrapped_key FROM 1 FOR 8), 'hex') FROM platform_keys WHERE purpose = 'root'";

    // Two lengths are a wrapped key: with the id of what wraps it, and from before there were ids.
    private const string ReadBatch = """
        SELECT enterprise_id, data_key FROM enterprises
        WHERE (octet_length(data_key) = 60 OR octet_length(data_key) = 68 AND substring(data_key FROM 1 FOR 8) <> decode($1, 'hex'))
          AND ($2::uuid IS NULL OR enterprise_id > $2)
        ORDER BY enterprise_id LIMIT $3
        """;

    private const string ReplaceKey = "UPDATE enterprises SET data_key = $3 WHERE enterprise_id = $1 AND data_key = $2";

    /// <summary>Goes once over all data keys that another master key wraps.</summary>
    internal async Task RewrapAsync(CancellationToken cancellationToken)
    {
        int rewrapped = 0;
        Guid? last = null;
        do
        {
            await using ScopedTransaction transaction = await database.OpenPlatformAsync(cancellationToken);
            if (
                !await ScalarAsync<bool>(transaction, "SELECT pg_try_advisory_xact_lock($1)", BatchLock)
                || await ScalarAsync<string>(transaction, WhatWraps) != masterKey.Keys.FirstId
            )
            {
                return;
            }

            List<(Guid EnterpriseId, byte[] Wrapped)> batch = await ReadAsync(transaction, last, cancellationToken);
            foreach ((Guid enterpriseId, byte[] wrapped) in batch)
            {
                rewrapped += await RewrapAsync(transaction, enterpriseId, wrapped, cancellationToken);
            }

            await transaction.CommitAsync(cancellationToken);
            last = batch.Count == BatchMax ? batch[^1].EnterpriseId : null;
        } while (last is not null);

        if (rewrapped > 0)
        {
            LogRewrapped(rewrapped, masterKey.Keys.FirstId);
        }

        async Task<T> ScalarAsync<T>(ScopedTransaction transaction, string sql, params object?[] parameters)
        {
            await using NpgsqlCommand command = transaction.Command(sql, parameters);
            return (T)(await command.ExecuteScalarAsync(cancellationToken))!;
        }
    }

    private async Task<List<(Guid EnterpriseId, byte[] Wrapped)>> ReadAsync(
        ScopedTransaction transaction,
        Guid? after,
        CancellationToken cancellationToken
    )
    {
        var batch = new List<(Guid, byte[])>();
        await using NpgsqlCommand command = transaction.Command(ReadBatch, masterKey.Keys.FirstId, after, BatchMax);
        command.Parameters[1].NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Uuid;
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            batch.Add((reader.GetGuid(0), reader.GetFieldValue<byte[]>(1)));
        }

        return batch;
    }

    private async Task<int> RewrapAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        byte[] wrapped,
        CancellationToken cancellationToken
    )
    {
        byte[] dataKey;
        try
        {
            dataKey = masterKey.Unwrap(wrapped, enterpriseId);
        }
        catch (CryptographicException exception)
        {
            LogUnopened(enterpriseId, exception);
            return 0;
        }

        await transaction.SetAsync("app.enterprise_id", enterpriseId.ToString(), cancellationToken);
        return await transaction.ExecuteAsync(
            ReplaceKey,
            [enterpriseId, wrapped, masterKey.Wrap(dataKey, enterpriseId)],
            cancellationToken
        );
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Count} data keys are now wrapped by master key {KeyId}.")]
    private partial void LogRewrapped(int count, string keyId);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The data key of enterprise {EnterpriseId} cannot be opened with any master key we have."
    )]
    private partial void LogUnopened(Guid enterpriseId, Exception exception);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Data keys could not be wrapped anew; it is tried again.")]
    private partial void LogFailed(Exception exception);
}
