using System.Security.Cryptography;
using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// The root key in the table <c>platform_keys</c>, wrapped by the master key. Read, made and re-wrapped by the migrator, under
/// its lock and as the owner: the two logins' passwords derive from it.
/// </summary>
/// <remarks>
/// The instance that started last decides which key wraps: what it finds under another it wraps anew. So instances that are
/// still configured the old way round do not undo it, see <see cref="KeyRewrapping"/>.
/// </remarks>
internal static class RootKey
{
    private static readonly byte[] s_context = "root-key"u8.ToArray();

    private const string WhatIsThere =
        "SELECT to_regclass('platform_keys') IS NOT NULL, to_regclass('enterprises') IS NOT NULL";

    private const string ReadRoot = "SELECT wrapped_key FROM platform_keys WHERE purpose = 'root'";

    // The owner is held to row-level security as well, and has no policy: it is let off until the transaction is rolled back.
    private const string ReadOldDataKey = """
        ALTER TABLE enterprises NO FORCE ROW LEVEL SECURITY;
        SELECT enterprise_id, data_key FROM enterprises WHERE octet_length(data_key) = 60 ORDER BY created_at LIMIT 1
        """;

    private const string InsertRoot =
        "INSERT INTO platform_keys (purpose, wrapped_key, created_at) VALUES ('root', $1, now())";

    private const string RewrapRoot =
        "UPDATE platform_keys SET wrapped_key = $1, rewrapped_at = now() WHERE purpose = 'root'";

    /// <summary>The root key of a database, or null when it has none yet. Changes nothing.</summary>
    /// <exception cref="MasterKeyException">There is one, but none of our keys opens it.</exception>
    public static async Task<byte[]?> FindAsync(
        NpgsqlConnection connection,
        WrappingKeys keys,
        CancellationToken cancellationToken
    )
    {
        bool hasKeys;
        bool hasEnterprises;
        await using (var look = new NpgsqlCommand(WhatIsThere, connection))
        await using (NpgsqlDataReader reader = await look.ExecuteReaderAsync(cancellationToken))
        {
            await reader.ReadAsync(cancellationToken);
            (hasKeys, hasEnterprises) = (reader.GetBoolean(0), reader.GetBoolean(1));
        }

        if (hasKeys && await ReadAsync(connection, cancellationToken) is { } wrapped)
        {
            return Open(wrapped, keys);
        }

        return hasEnterprises ? await FindOldAsync(connection, keys, cancellationToken) : null;
    }

    /// <summary>Keeps a new root key, or wraps the one there is with our first key if another wraps it.</summary>
    public static async Task KeepAsync(
        NpgsqlConnection connection,
        MasterKey masterKey,
        CancellationToken cancellationToken
    )
    {
        byte[]? wrapped = await ReadAsync(connection, cancellationToken);
        if (wrapped is not null && WrappingKeys.IdOf(wrapped) == masterKey.Keys.FirstId)
        {
            return;
        }

        await using var command = new NpgsqlCommand(wrapped is null ? InsertRoot : RewrapRoot, connection);
        command.Parameters.Add(
            new NpgsqlParameter<byte[]> { TypedValue = masterKey.Keys.Wrap(masterKey.Root, s_context) }
        );
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private static async Task<byte[]?> ReadAsync(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        await using var command = new NpgsqlCommand(ReadRoot, connection);
        return (byte[]?)await command.ExecuteScalarAsync(cancellationToken);
    }

    private static byte[] Open(byte[] wrapped, WrappingKeys keys)
    {
        string id = WrappingKeys.IdOf(wrapped);
        if (!keys.Has(id))
        {
            throw new MasterKeyException(
                $"The master key is not this database's: it needs the key {id}, and was given {string.Join(", ", keys.Ids)}. "
                    + "Nothing was changed."
            );
        }

        try
        {
            return keys.Unwrap(wrapped, s_context);
        }
        catch (CryptographicException exception)
        {
            throw new MasterKeyException(
                $"The root key in the table platform_keys was altered: the key {id} does not open it. Nothing was changed.",
                exception
            );
        }
    }

    // A database from before there was a root key: the master key was it, and wrapped the data keys by a key derived from it.
    private static async Task<byte[]?> FindOldAsync(
        NpgsqlConnection connection,
        WrappingKeys keys,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId;
        byte[] dataKey;
        await using (NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken))
        {
            await using var read = new NpgsqlCommand(ReadOldDataKey, connection, transaction);
            await using NpgsqlDataReader reader = await read.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return null;
            }

            (enterpriseId, dataKey) = (reader.GetGuid(0), reader.GetFieldValue<byte[]>(1));
        }

        foreach (byte[] secret in keys.Secrets)
        {
            try
            {
                new MasterKey(secret).Unwrap(dataKey, enterpriseId);
                return secret;
            }
            catch (CryptographicException)
            {
                // not this one
            }
        }

        throw new MasterKeyException(
            "The master key is not this database's: none of the keys given opens its enterprises' data keys. "
                + "Nothing was changed."
        );
    }
}
