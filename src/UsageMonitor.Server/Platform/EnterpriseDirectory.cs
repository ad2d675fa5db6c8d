using Microsoft.Extensions.DependencyInjection.Extensions;
using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>An enterprise as every service needs it.</summary>
/// <param name="EnterpriseId">The enterprise; <see cref="Guid.Empty"/> is the platform itself.</param>
/// <param name="Name">For people.</param>
/// <param name="TimeZone">Windows and buckets follow it.</param>
/// <param name="LogPartition">The event log's partition that orders its events.</param>
/// <param name="DataKey">32 bytes, unwrapped. Never log it, never send it anywhere.</param>
/// <param name="Status"><c>ACTIVE</c> or <c>SUSPENDED</c>.</param>
internal sealed record EnterpriseInfo(
    Guid EnterpriseId,
    string Name,
    TimeZoneInfo TimeZone,
    short LogPartition,
    byte[] DataKey,
    string Status
)
{
    /// <summary>Whoever signs in with a password must show a second factor.</summary>
    public bool SecondFactorRequired { get; init; }

    /// <summary>False: people sign in by single sign-on only.</summary>
    public bool PasswordSignIn { get; init; } = true;

    /// <summary>What happens to usage that a BLOCK limit is about and that cannot be counted just now: false, it is let through.</summary>
    public bool IsClosedWhenUncounted { get; init; }

    /// <summary>How much it takes to be held for abnormal behaviour: <c>OFF</c>, <c>LOW</c>, <c>NORMAL</c> or <c>HIGH</c>.</summary>
    public string AnomalySensitivity { get; init; } = "NORMAL";

    public const string Active = "ACTIVE";
    public const string Suspended = "SUSPENDED";

    public bool IsSuspended => Status == Suspended;
}

/// <summary>The enterprises that this instance has met, with their data keys unwrapped. A hit takes no lock and allocates nothing.</summary>
internal sealed class EnterpriseDirectory(Database database, MasterKey masterKey, IdentityVersion version)
{
    private const int EnterprisesMax = 100_000;
    private readonly VersionedCache<Guid, EnterpriseInfo> _known = new(
        version,
        EnterprisesMax,
        static (enterpriseId, _) => enterpriseId
    );

    /// <summary>The enterprise, or null when there is none.</summary>
    public ValueTask<EnterpriseInfo?> FindAsync(Guid enterpriseId, CancellationToken cancellationToken) =>
        _known.TryGet(enterpriseId, out EnterpriseInfo? enterprise)
            ? new ValueTask<EnterpriseInfo?>(enterprise)
            : LoadAsync(enterpriseId, cancellationToken);

    /// <summary>The enterprise of whom the guard let through.</summary>
    public async ValueTask<EnterpriseInfo> OfCallerAsync(HttpContext context, CancellationToken cancellationToken) =>
        await FindAsync(context.GetCaller().EnterpriseId, cancellationToken)
        ?? throw new InvalidOperationException("The caller's enterprise does not exist.");

    private ValueTask<EnterpriseInfo?> LoadAsync(Guid enterpriseId, CancellationToken cancellationToken) =>
        new(_known.LoadAsync(enterpriseId, () => ReadAsync(enterpriseId), cancellationToken));

    private const string ReadEnterprise = """
        SELECT name, time_zone, log_partition, data_key, status, second_factor_required, password_sign_in, limits_unreachable = 'CLOSED',
               anomaly_sensitivity
        FROM enterprises WHERE enterprise_id = $1
        """;

    private async Task<EnterpriseInfo?> ReadAsync(Guid enterpriseId)
    {
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(ReadEnterprise);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = enterpriseId });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        if (!await reader.ReadAsync())
        {
            return null;
        }

        return new EnterpriseInfo(
            enterpriseId,
            reader.GetString(0),
            TimeZoneInfo.FindSystemTimeZoneById(reader.GetString(1)),
            reader.GetInt16(2),
            masterKey.Unwrap(reader.GetFieldValue<byte[]>(3), enterpriseId),
            reader.GetString(4)
        )
        {
            SecondFactorRequired = reader.GetBoolean(5),
            PasswordSignIn = reader.GetBoolean(6),
            IsClosedWhenUncounted = reader.GetBoolean(7),
            AnomalySensitivity = reader.GetString(8),
        };
    }
}

internal static class EnterpriseDirectoryServices
{
    /// <summary>The directory and the poll that keeps it true; every role needs it, and asking twice does no harm.</summary>
    public static IServiceCollection AddEnterpriseDirectory(this IServiceCollection services)
    {
        services.TryAddSingleton<IdentityNews>();
        services.TryAddSingleton<IdentityVersion>();
        services.TryAddSingleton<EnterpriseDirectory>();
        services.TryAddSingleton<MonthPartitions>();
        services.TryAddSingleton<Auditing.AuditTrail>();
        services.TryAddSingleton<Auditing.AuditRequests>();
        services.TryAddSingleton<Auditing.AuditRefusals>();
        services.AddHostedService<IdentityVersionPolling>();
        return services;
    }
}
