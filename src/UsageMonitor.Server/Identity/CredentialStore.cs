using System.Net;
using Npgsql;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>
/// Reads from the database who is behind a credential. An access token's signature alone is not enough: its session must
/// stand and its roles are those of now, which costs one look-up per token and change of identity.
/// </summary>
internal sealed class CredentialStore(
    Database database,
    EnterpriseDirectory enterprises,
    AccessTokens accessTokens,
    ApiKeyUses apiKeyUses,
    TimeProvider time
)
{
    public Task<Credential?> ReadAsync(PresentedCredential presented, byte[] hash) =>
        presented.Kind switch
        {
            CredentialKind.ApiKey => ReadApiKeyAsync(hash),
            CredentialKind.Cookie => ReadCookieAsync(hash),
            CredentialKind.AccessToken => ReadAccessTokenAsync(presented.Span.ToString()),
            _ => Task.FromResult<Credential?>(null),
        };

    private const string FindApiKey = """
        SELECT enterprise_id, api_key_id, scopes, expires_at, networks FROM api_keys
        WHERE key_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
        """;

    private async Task<Credential?> ReadApiKeyAsync(byte[] hash)
    {
        Caller caller;
        DateTimeOffset expiresAt;
        IPNetwork[]? networks;
        await using (ScopedTransaction lookup = await database.OpenLookupAsync(hash, CancellationToken.None))
        {
            await using NpgsqlCommand command = lookup.Command(FindApiKey, hash, time.GetUtcNow());
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
            if (!await reader.ReadAsync())
            {
                return null;
            }

            caller = new Caller
            {
                EnterpriseId = reader.GetGuid(0),
                ApiKeyId = reader.GetGuid(1),
                Permissions = RolePermissions.OfScopes(reader.GetFieldValue<string[]>(2)),
            };
            expiresAt = reader.IsDBNull(3) ? DateTimeOffset.MaxValue : reader.GetFieldValue<DateTimeOffset>(3);
            networks = reader.IsDBNull(4) ? null : reader.GetFieldValue<IPNetwork[]>(4);
        }

        return await enterprises.FindAsync(caller.EnterpriseId, CancellationToken.None) is { } enterprise
            ? WithUse(
                new Credential(CredentialKind.ApiKey, caller, enterprise.IsSuspended, expiresAt) { Networks = networks }
            )
            : null;
    }

    /// <summary>A credential that another instance has read, with what is this instance's own.</summary>
    public Credential WithUse(Credential credential) =>
        credential.Caller.ApiKeyId is { } apiKeyId
            ? credential with
            {
                Use = apiKeyUses.Of(credential.Caller.EnterpriseId, apiKeyId),
            }
            : credential;

    private const string FindCookie = "SELECT enterprise_id, session_id FROM sessions WHERE cookie_hash = $1";

    private async Task<Credential?> ReadCookieAsync(byte[] hash)
    {
        await using ScopedTransaction lookup = await database.OpenLookupAsync(hash, CancellationToken.None);
        (Guid EnterpriseId, Guid SessionId) found;
        await using (NpgsqlCommand command = lookup.Command(FindCookie, hash))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
            if (!await reader.ReadAsync())
            {
                return null;
            }

            found = (reader.GetGuid(0), reader.GetGuid(1));
        }

        await lookup.SetAsync("app.enterprise_id", found.EnterpriseId.ToString(), CancellationToken.None);
        return await ReadSessionAsync(lookup, CredentialKind.Cookie, found.EnterpriseId, found.SessionId);
    }

    private async Task<Credential?> ReadAccessTokenAsync(string token)
    {
        if (await accessTokens.ValidateAsync(token, CancellationToken.None) is not { } claims)
        {
            return null;
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            claims.EnterpriseId,
            CancellationToken.None
        );
        Credential? session = await ReadSessionAsync(
            own,
            CredentialKind.AccessToken,
            claims.EnterpriseId,
            claims.SessionId
        );
        if (session is null || session.Caller.UserId != claims.UserId)
        {
            return null;
        }

        return claims.ExpiresAt < session.ExpiresAt ? session with { ExpiresAt = claims.ExpiresAt } : session;
    }

    private const string FindSession = """
        SELECT s.user_id, s.expires_at, u.email, s.method = 'password' AND s.second_factor IS NULL, s.method <> 'sso'
        FROM sessions s JOIN users u ON u.enterprise_id = s.enterprise_id AND u.user_id = s.user_id
        WHERE s.enterprise_id = $1 AND s.session_id = $2 AND s.revoked_at IS NULL AND s.expires_at > $3
          AND u.email IS NOT NULL AND u.deactivated_at IS NULL
        """;

    private async Task<Credential?> ReadSessionAsync(
        ScopedTransaction own,
        CredentialKind kind,
        Guid enterpriseId,
        Guid sessionId
    )
    {
        if (await enterprises.FindAsync(enterpriseId, CancellationToken.None) is not { } enterprise)
        {
            return null;
        }

        Guid userId;
        DateTimeOffset expiresAt;
        string email;
        bool passwordOnly;
        bool bySignInHere;
        await using (NpgsqlCommand command = own.Command(FindSession, enterpriseId, sessionId, time.GetUtcNow()))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
            if (!await reader.ReadAsync())
            {
                return null;
            }

            userId = reader.GetGuid(0);
            expiresAt = reader.GetFieldValue<DateTimeOffset>(1);
            email = Users.OpenEmail(enterprise.DataKey, enterpriseId, reader.GetFieldValue<byte[]>(2));
            passwordOnly = reader.GetBoolean(3);
            bySignInHere = reader.GetBoolean(4);
        }

        ResolvedRoles roles = await RoleResolver.ResolveAsync(own, enterpriseId, userId, CancellationToken.None);
        if (bySignInHere && !PasswordRule.Allows(enterprise, roles.Names))
        {
            return null;
        }

        var caller = new Caller
        {
            EnterpriseId = enterpriseId,
            UserId = userId,
            SessionId = sessionId,
            Email = email,
            Permissions =
                PasswordRule.NeedsSecondFactor(enterprise) && passwordOnly
                    ? RolePermissions.WhileSettingUp
                    : roles.Permissions,
        };
        return new Credential(kind, caller, enterprise.IsSuspended, expiresAt);
    }
}
