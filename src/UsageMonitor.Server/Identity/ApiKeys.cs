using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using IPNetwork = System.Net.IPNetwork;

namespace UsageMonitor.Server.Identity;

/// <summary>What a new API key is to be.</summary>
internal sealed record NewApiKey(string Name, string[] Scopes, DateTimeOffset? ExpiresAt, IPNetwork[]? Networks)
{
    /// <summary>What its data is processed for.</summary>
    public ApiKeyPurpose Purpose { get; init; }
}

/// <summary>API keys in the database. One change of an enterprise's keys at a time, so that their number is what was counted.</summary>
internal sealed class ApiKeys(TimeProvider time)
{
    /// <summary>Neither revoked nor expired, in an enterprise.</summary>
    public const int LiveMax = 1_000;

    private const string TakeTurn = "SELECT 1 FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";

    private const string CountLive = """
        SELECT count(*) FROM api_keys
        WHERE enterprise_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
        """;

    private const string InsertApiKey = """
        INSERT INTO api_keys (enterprise_id, api_key_id, name, key_hash, scopes, created_by, created_at, expires_at, networks,
                              purpose, legal_basis)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """;

    /// <summary>Makes a key; null: there are as many as there may be.</summary>
    public async Task<CreateApiKeyResponse?> InsertAsync(
        ScopedTransaction transaction,
        Caller caller,
        NewApiKey key,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = caller.EnterpriseId;
        await transaction.ExecuteAsync(TakeTurn, [enterpriseId], cancellationToken);
        DateTimeOffset now = time.GetUtcNow();
        await using (NpgsqlCommand count = transaction.Command(CountLive, enterpriseId, now))
        {
            if ((long)(await count.ExecuteScalarAsync(cancellationToken))! >= LiveMax)
            {
                return null;
            }
        }

        var made = new CreateApiKeyResponse(Guid.NewGuid(), ApiKeyFormat.Generate());
        object?[] row =
        [
            enterpriseId,
            made.ApiKeyId,
            key.Name,
            Sessions.HashOf(made.ApiKey),
            key.Scopes,
            caller.UserId ?? caller.ApiKeyId,
            now,
            key.ExpiresAt,
            key.Networks,
            key.Purpose.Purpose,
            key.Purpose.LegalBasis,
        ];
        await transaction.ExecuteAsync(InsertApiKey, row, cancellationToken);
        return made;
    }

    private const string Columns =
        "api_key_id, name, scopes, created_at, revoked_at, expires_at, last_used_at, networks, replaced_by, created_by, purpose, legal_basis";

    private const string ListKeys = $"""
        SELECT {Columns} FROM api_keys
        WHERE enterprise_id = $1 AND ($2::timestamptz IS NULL OR (created_at, api_key_id) < ($2, $3::uuid))
        ORDER BY created_at DESC, api_key_id DESC LIMIT $4
        """;

    /// <summary>Newest first.</summary>
    public static async Task<List<ApiKeySummary>> ListAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        (DateTimeOffset CreatedAt, Guid ApiKeyId)? after,
        int limit,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(
            ListKeys,
            enterpriseId,
            after?.CreatedAt,
            after?.ApiKeyId,
            limit
        );
        return await ReadAsync(command, cancellationToken);
    }

    private const string FindKey = $"""
        SELECT {Columns} FROM api_keys WHERE enterprise_id = $1 AND api_key_id = $2 FOR NO KEY UPDATE
        """;

    /// <summary>The key, which nobody else changes until the transaction ends.</summary>
    public static async Task<ApiKeySummary?> LockAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid apiKeyId,
        CancellationToken cancellationToken
    )
    {
        await transaction.ExecuteAsync(TakeTurn, [enterpriseId], cancellationToken);
        await using NpgsqlCommand command = transaction.Command(FindKey, enterpriseId, apiKeyId);
        return (await ReadAsync(command, cancellationToken)).SingleOrDefault();
    }

    private const string ChangeKey = """
        UPDATE api_keys SET name = $3, expires_at = $4, networks = $5, purpose = $6, legal_basis = $7
        WHERE enterprise_id = $1 AND api_key_id = $2
        """;

    /// <summary>Replaces all but the scopes.</summary>
    public static Task ChangeAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid apiKeyId,
        NewApiKey key,
        CancellationToken cancellationToken
    ) =>
        transaction.ExecuteAsync(
            ChangeKey,
            [
                enterpriseId,
                apiKeyId,
                key.Name,
                key.ExpiresAt,
                key.Networks,
                key.Purpose.Purpose,
                key.Purpose.LegalBasis,
            ],
            cancellationToken
        );

    // An end that was to come earlier stays.
    private const string ReplaceKey = """
        UPDATE api_keys SET replaced_by = $3, expires_at = least(expires_at, $4) WHERE enterprise_id = $1 AND api_key_id = $2
        """;

    /// <summary>The key ends when the overlap with the one in its place does.</summary>
    public static Task ReplaceAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid apiKeyId,
        Guid replacedBy,
        DateTimeOffset endsAt,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(ReplaceKey, [enterpriseId, apiKeyId, replacedBy, endsAt], cancellationToken);

    // Keeps the first instant, so that revoking twice is answered alike and changes nothing.
    private const string RevokeKey = """
        UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE enterprise_id = $1 AND api_key_id = $2
        """;

    /// <summary>False: there is no such key.</summary>
    public async Task<bool> RevokeAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid apiKeyId,
        CancellationToken cancellationToken
    ) => await transaction.ExecuteAsync(RevokeKey, [enterpriseId, apiKeyId, time.GetUtcNow()], cancellationToken) > 0;

    private static async Task<List<ApiKeySummary>> ReadAsync(NpgsqlCommand command, CancellationToken cancellationToken)
    {
        var read = new List<ApiKeySummary>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            read.Add(
                new ApiKeySummary(
                    reader.GetGuid(0),
                    reader.GetString(1),
                    reader.GetFieldValue<string[]>(2),
                    reader.GetFieldValue<DateTimeOffset>(3),
                    Instant(reader, 4),
                    Instant(reader, 5),
                    Instant(reader, 6),
                    reader.IsDBNull(7)
                        ? null
                        : [.. reader.GetFieldValue<IPNetwork[]>(7).Select(network => network.ToString())],
                    reader.IsDBNull(8) ? null : reader.GetGuid(8),
                    reader.GetGuid(9)
                )
                {
                    Purpose = reader.IsDBNull(10) ? null : reader.GetString(10),
                    LegalBasis = reader.IsDBNull(11) ? null : reader.GetString(11),
                }
            );
        }

        return read;
    }

    private static DateTimeOffset? Instant(NpgsqlDataReader reader, int ordinal) =>
        reader.IsDBNull(ordinal) ? null : reader.GetFieldValue<DateTimeOffset>(ordinal);
}
