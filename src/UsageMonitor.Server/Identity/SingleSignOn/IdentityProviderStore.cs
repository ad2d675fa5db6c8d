using System.Text.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Another provider has claimed the domain, here or in another enterprise.</summary>
internal sealed class DomainTakenException(Exception inner) : Exception("The domain is claimed.", inner);

/// <summary>Reads and writes identity providers.</summary>
internal static class IdentityProviderStore
{
    private const string Columns = """
        p.enterprise_id, p.provider_id, p.provider_name, p.issuer, p.client_id, p.client_secret, p.scopes, p.email_claim,
        p.display_name_claim, p.roles_claim, p.trust_email, p.role_mapping::text, p.default_roles, p.just_in_time, p.status,
        p.created_at, p.updated_at,
        ARRAY(SELECT d.domain FROM identity_provider_domains d
              WHERE d.enterprise_id = p.enterprise_id AND d.provider_id = p.provider_id ORDER BY d.domain)
        """;

    private const string ReadAll = $"""
        SELECT {Columns} FROM identity_providers p WHERE p.enterprise_id = $1 ORDER BY p.created_at, p.provider_id
        """;

    private const string ReadOne = $"""
        SELECT {Columns} FROM identity_providers p WHERE p.enterprise_id = $1 AND p.provider_id = $2
        """;

    // Held until the end of the transaction: neither changed nor removed while somebody is being signed in by it.
    private const string ReadAndHold = ReadOne + " FOR SHARE OF p";

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<IReadOnlyList<IdentityProvider>> ListAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        var providers = new List<IdentityProvider>();
        await using NpgsqlCommand command = transaction.Command(ReadAll, enterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            providers.Add(Read(reader));
        }

        return providers;
    }

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="providerId">The provider.</param>
    /// <param name="hold">Keeps others from changing it until the transaction ends.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<IdentityProvider?> FindAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid providerId,
        bool hold,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(hold ? ReadAndHold : ReadOne, enterpriseId, providerId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? Read(reader) : null;
    }

    private const string FindEnterprise = "SELECT enterprise_id FROM identity_providers WHERE provider_id = $1";

    /// <summary>The enterprise's transaction to which a provider's link leads, or null for an unknown one.</summary>
    public static async Task<Guid?> EnterpriseOfAsync(
        Database database,
        Guid providerId,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction lookup = await database.OpenLookupAsync(
            providerId.ToByteArray(bigEndian: true),
            cancellationToken
        );
        await using NpgsqlCommand command = lookup.Command(FindEnterprise, providerId);
        return (Guid?)await command.ExecuteScalarAsync(cancellationToken);
    }

    private const string FindDomain = """
        SELECT enterprise_id, provider_id FROM identity_provider_domains WHERE domain_hash = $1
        """;

    /// <summary>Whose people have addresses of a domain, or null when nobody has claimed it.</summary>
    public static async Task<(Guid EnterpriseId, Guid ProviderId)?> OfDomainAsync(
        Database database,
        string domain,
        CancellationToken cancellationToken
    )
    {
        byte[] hash = EmailDomain.Hash(domain);
        await using ScopedTransaction lookup = await database.OpenLookupAsync(hash, cancellationToken);
        await using NpgsqlCommand command = lookup.Command(FindDomain, hash);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? (reader.GetGuid(0), reader.GetGuid(1)) : null;
    }

    private const string Insert = """
        INSERT INTO identity_providers
            (enterprise_id, provider_id, provider_name, issuer, client_id, client_secret, scopes, email_claim, display_name_claim,
             roles_claim, trust_email, role_mapping, default_roles, just_in_time, status, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::jsonb, $13, $14, $15, $16, $17)
        """;

    /// <exception cref="DomainTakenException">Somebody has claimed one of the domains.</exception>
    public static async Task InsertAsync(
        ScopedTransaction transaction,
        IdentityProvider provider,
        CancellationToken cancellationToken
    )
    {
        await transaction.ExecuteAsync(
            Insert,
            [.. Row(provider), provider.CreatedAt, provider.UpdatedAt],
            cancellationToken
        );
        await ClaimAsync(transaction, provider, cancellationToken);
    }

    private const string Update = """
        UPDATE identity_providers
        SET provider_name = $3, issuer = $4, client_id = $5, client_secret = $6, scopes = $7, email_claim = $8,
            display_name_claim = $9, roles_claim = $10, trust_email = $11, role_mapping = $12::jsonb, default_roles = $13,
            just_in_time = $14, status = $15, updated_at = $16
        WHERE enterprise_id = $1 AND provider_id = $2
        """;

    private const string GiveUpDomains = """
        DELETE FROM identity_provider_domains WHERE enterprise_id = $1 AND provider_id = $2
        """;

    /// <exception cref="DomainTakenException">Somebody has claimed one of the domains.</exception>
    public static async Task UpdateAsync(
        ScopedTransaction transaction,
        IdentityProvider provider,
        CancellationToken cancellationToken
    )
    {
        await transaction.ExecuteAsync(Update, [.. Row(provider), provider.UpdatedAt], cancellationToken);
        await transaction.ExecuteAsync(GiveUpDomains, [provider.EnterpriseId, provider.ProviderId], cancellationToken);
        await ClaimAsync(transaction, provider, cancellationToken);
    }

    private const string LockOne =
        "SELECT 1 FROM identity_providers WHERE enterprise_id = $1 AND provider_id = $2 FOR UPDATE";

    /// <summary>Waits for who is being signed in by it, and keeps others out until the transaction ends.</summary>
    /// <returns>False: there is none.</returns>
    public static async Task<bool> LockAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid providerId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(LockOne, enterpriseId, providerId);
        return await command.ExecuteScalarAsync(cancellationToken) is not null;
    }

    private const string Delete = "DELETE FROM identity_providers WHERE enterprise_id = $1 AND provider_id = $2";

    public static Task DeleteAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid providerId,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(Delete, [enterpriseId, providerId], cancellationToken);

    private const string EndSessions = """
        UPDATE sessions s SET revoked_at = $3
        FROM external_identities i
        WHERE i.enterprise_id = $1 AND i.provider_id = $2
          AND s.enterprise_id = i.enterprise_id AND s.user_id = i.user_id AND s.method = 'sso' AND s.revoked_at IS NULL
        """;

    private const string TakeRoles = """
        DELETE FROM user_roles r
        USING external_identities i
        WHERE i.enterprise_id = $1 AND i.provider_id = $2
          AND r.enterprise_id = i.enterprise_id AND r.user_id = i.user_id AND r.origin = 'SSO'
        """;

    /// <summary>Ends what came of a provider that is no longer trusted: the sessions and the roles of its people.</summary>
    public static async Task EndSignInsAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid providerId,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        await transaction.ExecuteAsync(EndSessions, [enterpriseId, providerId, now], cancellationToken);
        await transaction.ExecuteAsync(TakeRoles, [enterpriseId, providerId], cancellationToken);
    }

    private const string Unlink = "DELETE FROM external_identities WHERE enterprise_id = $1 AND provider_id = $2";

    /// <summary>Forgets whom the provider knows as whom: another issuer, or another client of it, has other subjects.</summary>
    public static Task UnlinkAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid providerId,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(Unlink, [enterpriseId, providerId], cancellationToken);

    private const string ClaimDomain = """
        INSERT INTO identity_provider_domains (enterprise_id, provider_id, domain, domain_hash) VALUES ($1, $2, $3, $4)
        """;

    private static async Task ClaimAsync(
        ScopedTransaction transaction,
        IdentityProvider provider,
        CancellationToken cancellationToken
    )
    {
        try
        {
            // In one order for all, so that two that claim the same domains do not wait for each other.
            foreach (string domain in provider.Domains.Order(StringComparer.Ordinal))
            {
                await transaction.ExecuteAsync(
                    ClaimDomain,
                    [provider.EnterpriseId, provider.ProviderId, domain, EmailDomain.Hash(domain)],
                    cancellationToken
                );
            }
        }
        catch (PostgresException exception) when (exception.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            throw new DomainTakenException(exception);
        }
    }

    private static object?[] Row(IdentityProvider provider) =>
        [
            provider.EnterpriseId,
            provider.ProviderId,
            provider.Name,
            provider.Issuer,
            provider.ClientId,
            provider.SealedSecret,
            provider.Scopes.ToArray(),
            provider.EmailClaim,
            provider.DisplayNameClaim,
            provider.RolesClaim,
            provider.TrustEmail,
            JsonSerializer.Serialize(provider.RoleMapping, JsonSerializerOptions.Web),
            provider.DefaultRoles.ToArray(),
            provider.JustInTime,
            provider.Status,
        ];

    private static IdentityProvider Read(NpgsqlDataReader reader) =>
        new()
        {
            EnterpriseId = reader.GetGuid(0),
            ProviderId = reader.GetGuid(1),
            Name = reader.GetString(2),
            Issuer = reader.GetString(3),
            ClientId = reader.GetString(4),
            SealedSecret = reader.IsDBNull(5) ? null : reader.GetFieldValue<byte[]>(5),
            Scopes = reader.GetFieldValue<string[]>(6),
            EmailClaim = reader.GetString(7),
            DisplayNameClaim = reader.GetString(8),
            RolesClaim = reader.GetString(9),
            TrustEmail = reader.GetBoolean(10),
            RoleMapping = JsonSerializer.Deserialize<RoleMapping[]>(reader.GetString(11), JsonSerializerOptions.Web)!,
            DefaultRoles = reader.GetFieldValue<string[]>(12),
            JustInTime = reader.GetBoolean(13),
            Status = reader.GetString(14),
            CreatedAt = reader.GetFieldValue<DateTimeOffset>(15),
            UpdatedAt = reader.GetFieldValue<DateTimeOffset>(16),
            Domains = reader.GetFieldValue<string[]>(17),
        };
}
