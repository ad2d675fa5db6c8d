using Npgsql;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Demo;

/// <summary>Makes the demo's enterprises where they are missing, each with an admin whose password is shown once.</summary>
internal sealed class DemoEnterprises(
    Database database,
    Enterprises enterprises,
    Users users,
    Passwords passwords,
    IdentityVersion version
)
{
    private const long CreationLock = 0x756d64656d6f; // "umdemo"

    private const string ReadCreatedAt = "SELECT created_at FROM enterprises WHERE enterprise_id = $1";

    /// <returns>When the enterprise was created, and the admin's password if that was just now.</returns>
    /// <exception cref="EmailTakenException">Somebody else signs in with the demo's address.</exception>
    public async Task<(DateTimeOffset CreatedAt, string? Password)> EnsureAsync(
        DemoEnterprise demo,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            demo.EnterpriseId,
            cancellationToken
        );
        await transaction.ExecuteAsync("SELECT pg_advisory_xact_lock($1)", [CreationLock], cancellationToken);
        if (await ReadCreatedAtAsync(transaction, demo, cancellationToken) is { } known)
        {
            return (known, null);
        }

        string password = Passwords.Generate();
        byte[] dataKey = await enterprises.InsertAsync(
            transaction,
            demo.EnterpriseId,
            demo.Name,
            demo.TimeZone,
            cancellationToken
        );
        await users.AddAsync(
            transaction,
            demo.EnterpriseId,
            dataKey,
            new NewPerson(demo.AdminEmail, null, passwords.Hash(password), [RolePermissions.EnterpriseAdmin]),
            cancellationToken
        );
        DateTimeOffset createdAt = (await ReadCreatedAtAsync(transaction, demo, cancellationToken))!.Value;
        await version.CommitAsync(transaction, cancellationToken);
        return (createdAt, password);
    }

    private const string FindEvent = """
        SELECT EXISTS (SELECT FROM usage_events WHERE enterprise_id = $1 AND event_id = $2 AND event_timestamp = $3)
        """;

    /// <summary>Whether an event is stored.</summary>
    public async Task<bool> HasAsync(DemoEnterprise demo, DemoEvent one, CancellationToken cancellationToken)
    {
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            demo.EnterpriseId,
            cancellationToken
        );
        await using NpgsqlCommand command = transaction.Command(
            FindEvent,
            demo.EnterpriseId,
            one.EventId,
            one.Timestamp
        );
        return await command.ExecuteScalarAsync(cancellationToken) is true;
    }

    private static async Task<DateTimeOffset?> ReadCreatedAtAsync(
        ScopedTransaction transaction,
        DemoEnterprise demo,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(ReadCreatedAt, demo.EnterpriseId);
        return await command.ExecuteScalarAsync(cancellationToken) is DateTime createdAt
            ? new DateTimeOffset(createdAt, TimeSpan.Zero)
            : null;
    }
}
