using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary><c>/v1/platform/keys</c>: how far a change of keys has come; the operator's.</summary>
internal static class KeyEndpoints
{
    private const string WithoutId = "none";

    public static IEndpointRouteBuilder MapKeyEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/platform")
            .RequirePermission(Permissions.PlatformWrite)
            .WithTags("Platform");
        group
            .MapGet("/keys", ReadAsync)
            .WithName("ReadPlatformKeys")
            .WithSummary("Tells which master keys are in use and by how much, and which keys sign tokens")
            .Produces<PlatformKeysResponse>()
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPost("/signing-keys/rotate", RotateAsync)
            .WithName("RotateSigningKey")
            .WithSummary(
                "Publishes a new signing key, which takes over after ten minutes; the one waiting, if there is one"
            )
            .Produces<SigningKeyStatus>()
            .ProducesProblem(401)
            .ProducesProblem(403);
        return routes;
    }

    private static async Task<PlatformKeysResponse> ReadAsync(
        Database database,
        MasterKey masterKey,
        SigningKeys signingKeys,
        CancellationToken cancellationToken
    )
    {
        Dictionary<string, long> counts = await CountAsync(database, cancellationToken);
        (IReadOnlyList<SigningKey> keys, string signing) = await signingKeys.ReadAsync(cancellationToken);
        return new PlatformKeysResponse(
            [
                .. masterKey
                    .Keys.Ids.Union(counts.Keys.Order(StringComparer.Ordinal))
                    .Select(id => new MasterKeyStatus(id, StateOf(id, masterKey.Keys), counts.GetValueOrDefault(id))),
            ],
            [.. keys.Select(key => Status(key, signing))]
        );
    }

    private static async Task<SigningKeyStatus> RotateAsync(
        SigningKeys signingKeys,
        CancellationToken cancellationToken
    )
    {
        SigningKey next = await signingKeys.RotateAsync(cancellationToken);
        (_, string signing) = await signingKeys.ReadAsync(cancellationToken);
        return Status(next, signing);
    }

    // 60 bytes: from before wrapped keys began with an id. What is of another length was destroyed.
    private const string CountWrapped = """
        SELECT wrapped_by, count(*) FROM (
            SELECT CASE octet_length(data_key) WHEN 68 THEN encode(substring(data_key FROM 1 FOR 8), 'hex') ELSE $1 END AS wrapped_by
            FROM enterprises WHERE octet_length(data_key) IN (60, 68)
            UNION ALL
            SELECT encode(substring(wrapped_key FROM 1 FOR 8), 'hex') FROM platform_keys
        ) AS wrapped GROUP BY wrapped_by
        """;

    private static async Task<Dictionary<string, long>> CountAsync(
        Database database,
        CancellationToken cancellationToken
    )
    {
        var counts = new Dictionary<string, long>(StringComparer.Ordinal);
        await using ScopedTransaction transaction = await database.OpenPlatformAsync(cancellationToken);
        await using NpgsqlCommand command = transaction.Command(CountWrapped, WithoutId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            counts[reader.GetString(0)] = reader.GetInt64(1);
        }

        return counts;
    }

    private static string StateOf(string id, WrappingKeys keys) =>
        id == keys.FirstId ? "WRAPS"
        : id == WithoutId || keys.Has(id) ? "OPENS"
        : "MISSING";

    private static SigningKeyStatus Status(SigningKey key, string signing) =>
        new(
            key.KeyId,
            key.KeyId == signing ? "SIGNING"
                : key.SignsUntil is null ? "PUBLISHED"
                : "RETIRED",
            key.CreatedAt,
            key.SignsFrom,
            key.SignsUntil,
            key.AcceptedUntil
        );
}
