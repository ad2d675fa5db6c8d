using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Identity;

/// <summary>The first start makes the platform itself, as the enterprise with the empty id, and its operator.</summary>
internal sealed class OperatorBootstrap(
    Database database,
    ServerSettings settings,
    MasterKey masterKey,
    Enterprises enterprises,
    Users users,
    Passwords passwords,
    IdentityVersion version,
    AuditTrail audit
)
{
    public const string DefaultEmail = "operator@localhost";
    private const string PlatformName = "Platform";
    private const string PlatformTimeZone = "Etc/UTC";
    private const long BootstrapLock = 0x756d6f706572; // "umoper"

    private const string FindPlatform = "SELECT data_key FROM enterprises WHERE enterprise_id = $1";

    private const string FindOperator = """
        SELECT u.email FROM user_roles r JOIN users u USING (enterprise_id, user_id)
        WHERE r.enterprise_id = $1 AND r.role_name = $2 AND u.email IS NOT NULL
        ORDER BY u.created_at LIMIT 1
        """;

    /// <summary>
    /// Makes the operator when there is none. One that exists keeps address and password whatever the settings say: whoever
    /// can set an environment variable must not be able to take the account over.
    /// </summary>
    /// <returns>The operator's address, and the password if it was made up just now: print it, it is kept nowhere.</returns>
    /// <exception cref="SettingsException">The settings' address or password cannot be one.</exception>
    public async Task<(string Email, string? PrintedPassword)> EnsureAsync(CancellationToken cancellationToken)
    {
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(Guid.Empty, cancellationToken);
        await transaction.ExecuteAsync("SELECT pg_advisory_xact_lock($1)", [BootstrapLock], cancellationToken);
        byte[]? dataKey = await ReadAsync(transaction, FindPlatform, [Guid.Empty], cancellationToken) is { } wrapped
            ? masterKey.Unwrap(wrapped, Guid.Empty)
            : null;
        object[] anOperator = [Guid.Empty, RolePermissions.Operator];
        if (
            dataKey is not null
            && await ReadAsync(transaction, FindOperator, anOperator, cancellationToken) is { } sealedEmail
        )
        {
            return (Users.OpenEmail(dataKey, Guid.Empty, sealedEmail), null);
        }

        (string email, string? given) = Checked();
        string? printed = given is null ? Passwords.Generate() : null;
        dataKey ??= await enterprises.InsertAsync(
            transaction,
            Guid.Empty,
            PlatformName,
            PlatformTimeZone,
            cancellationToken
        );
        Guid userId = await users.AddAsync(
            transaction,
            Guid.Empty,
            dataKey,
            new NewPerson(email, null, passwords.Hash(given ?? printed!), [RolePermissions.Operator]),
            cancellationToken
        );
        using IDisposable scope = AuditScope.OfSystem(audit);
        transaction.Audit("operator.created", "user", userId);
        await version.CommitAsync(transaction, cancellationToken);
        return (email, printed);
    }

    private (string Email, string? Password) Checked()
    {
        var errors = new List<string>();
        if (!EmailAddress.TryNormalize(settings.OperatorEmail ?? DefaultEmail, out string? email))
        {
            errors.Add("USAGEMONITOR_OPERATOR_EMAIL: is not an e-mail address.");
        }

        if (
            settings.OperatorPassword is { } password
            && PasswordRules.WhatIsWrong(password, new PasswordContext(email)) is { } wrong
        )
        {
            errors.Add($"USAGEMONITOR_OPERATOR_PASSWORD: {wrong}");
        }

        return errors.Count == 0 ? (email!, settings.OperatorPassword) : throw new SettingsException(errors);
    }

    private static async Task<byte[]?> ReadAsync(
        ScopedTransaction transaction,
        string sql,
        object[] parameters,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(sql, parameters);
        return (byte[]?)await command.ExecuteScalarAsync(cancellationToken);
    }
}
