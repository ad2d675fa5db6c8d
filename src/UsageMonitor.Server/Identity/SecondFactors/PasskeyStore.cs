using System.Buffers.Text;
using Microsoft.AspNetCore.Identity;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>A person as ASP.NET Core Identity's passkeys know one.</summary>
/// <param name="EnterpriseId">Their enterprise.</param>
/// <param name="UserId">The person.</param>
internal sealed record PasskeyUser(Guid EnterpriseId, Guid UserId)
{
    private const int IdBytes = 16;

    /// <summary>WebAuthn's user handle: says nothing to a stranger, and where to look when a passkey alone signs in.</summary>
    public string Handle => Base64Url.EncodeToString([.. EnterpriseId.ToByteArray(), .. UserId.ToByteArray()]);

    public static PasskeyUser? Of(string handle)
    {
        Span<byte> bytes = stackalloc byte[2 * IdBytes];
        return
            handle.Length == Base64Url.GetEncodedLength(bytes.Length)
            && Base64Url.IsValid(handle)
            && Base64Url.TryDecodeFromChars(handle, bytes, out int written)
            && written == bytes.Length
            ? new PasskeyUser(new Guid(bytes[..IdBytes]), new Guid(bytes[IdBytes..]))
            : null;
    }
}

/// <summary>
/// Shows our table to <see cref="PasskeyHandler{TUser}"/>, which only ever asks: passkeys are written by
/// <see cref="Passkeys"/>, in the transaction of the act that they are part of.
/// </summary>
internal sealed class PasskeyStore(Database database) : IUserPasskeyStore<PasskeyUser>
{
    private const string Columns =
        "credential_id, public_key, created_at, sign_count, transports, user_verified, backup_eligible, backed_up";

    private const string FindUser = """
        SELECT 1 FROM users WHERE enterprise_id = $1 AND user_id = $2 AND email IS NOT NULL AND deactivated_at IS NULL
        """;

    public async Task<PasskeyUser?> FindByIdAsync(string userId, CancellationToken cancellationToken)
    {
        if (PasskeyUser.Of(userId) is not { } user)
        {
            return null;
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(user.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(FindUser, user.EnterpriseId, user.UserId);
        return await command.ExecuteScalarAsync(cancellationToken) is null ? null : user;
    }

    private const string FindOwner = "SELECT enterprise_id, user_id FROM passkeys WHERE credential_id = $1";

    public async Task<PasskeyUser?> FindByPasskeyIdAsync(byte[] credentialId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction lookup = await database.OpenLookupAsync(credentialId, cancellationToken);
        await using NpgsqlCommand command = lookup.Command(FindOwner, credentialId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? new PasskeyUser(reader.GetGuid(0), reader.GetGuid(1)) : null;
    }

    private const string ReadPasskeys =
        $"SELECT {Columns} FROM passkeys WHERE enterprise_id = $1 AND user_id = $2 ORDER BY created_at LIMIT $3";

    public async Task<IList<UserPasskeyInfo>> GetPasskeysAsync(PasskeyUser user, CancellationToken cancellationToken)
    {
        var passkeys = new List<UserPasskeyInfo>();
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(user.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(
            ReadPasskeys,
            user.EnterpriseId,
            user.UserId,
            Passkeys.PerPersonMax
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            passkeys.Add(Read(reader));
        }

        return passkeys;
    }

    private const string FindPasskey =
        $"SELECT {Columns} FROM passkeys WHERE enterprise_id = $1 AND user_id = $2 AND credential_id = $3";

    public async Task<UserPasskeyInfo?> FindPasskeyAsync(
        PasskeyUser user,
        byte[] credentialId,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(user.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(FindPasskey, user.EnterpriseId, user.UserId, credentialId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? Read(reader) : null;
    }

    public Task<string> GetUserIdAsync(PasskeyUser user, CancellationToken cancellationToken) =>
        Task.FromResult(user.Handle);

    public Task<string?> GetUserNameAsync(PasskeyUser user, CancellationToken cancellationToken) =>
        Task.FromResult<string?>(user.Handle);

    public Task<string?> GetNormalizedUserNameAsync(PasskeyUser user, CancellationToken cancellationToken) =>
        Task.FromResult<string?>(user.Handle);

    public Task<PasskeyUser?> FindByNameAsync(string normalizedUserName, CancellationToken cancellationToken) =>
        FindByIdAsync(normalizedUserName, cancellationToken);

    public Task SetUserNameAsync(PasskeyUser user, string? userName, CancellationToken cancellationToken) =>
        throw ReadOnly();

    public Task SetNormalizedUserNameAsync(PasskeyUser user, string? name, CancellationToken cancellationToken) =>
        throw ReadOnly();

    public Task<IdentityResult> CreateAsync(PasskeyUser user, CancellationToken cancellationToken) => throw ReadOnly();

    public Task<IdentityResult> UpdateAsync(PasskeyUser user, CancellationToken cancellationToken) => throw ReadOnly();

    public Task<IdentityResult> DeleteAsync(PasskeyUser user, CancellationToken cancellationToken) => throw ReadOnly();

    public Task AddOrUpdatePasskeyAsync(
        PasskeyUser user,
        UserPasskeyInfo passkey,
        CancellationToken cancellationToken
    ) => throw ReadOnly();

    public Task RemovePasskeyAsync(PasskeyUser user, byte[] credentialId, CancellationToken cancellationToken) =>
        throw ReadOnly();

    public void Dispose() { }

    // Attestation is not asked for, so there is nothing of it to keep.
    private static UserPasskeyInfo Read(NpgsqlDataReader reader) =>
        new(
            reader.GetFieldValue<byte[]>(0),
            reader.GetFieldValue<byte[]>(1),
            reader.GetFieldValue<DateTimeOffset>(2),
            (uint)reader.GetInt64(3),
            reader.IsDBNull(4) ? null : reader.GetFieldValue<string[]>(4),
            reader.GetBoolean(5),
            reader.GetBoolean(6),
            reader.GetBoolean(7),
            [],
            []
        );

    private static NotSupportedException ReadOnly() => new("People and passkeys are not written through this store.");
}
