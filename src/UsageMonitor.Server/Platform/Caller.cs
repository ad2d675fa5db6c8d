using System.Collections.Frozen;

namespace UsageMonitor.Server.Platform;

/// <summary>Who is calling, as the gateway's guard has established it. Endpoints take the enterprise from here and nowhere else.</summary>
internal sealed class Caller
{
    /// <summary>The enterprise the caller belongs to; <see cref="Guid.Empty"/> is the platform itself.</summary>
    public required Guid EnterpriseId { get; init; }

    /// <summary>The signed-in person, or null for an API key.</summary>
    public Guid? UserId { get; init; }

    /// <summary>The API key, or null for a person.</summary>
    public Guid? ApiKeyId { get; init; }

    /// <summary>The person's e-mail address, or null for an API key.</summary>
    public string? Email { get; init; }

    /// <summary>What the caller may do; see <see cref="Permissions"/>.</summary>
    public required FrozenSet<string> Permissions { get; init; }

    public bool May(string permission) => Permissions.Contains(permission);
}

/// <summary>The names of permissions. API keys call theirs scopes; they are the same names.</summary>
internal static class Permissions
{
    public const string UsageWrite = "usage:write";
    public const string UsageBackfill = "usage:backfill";
    public const string UsageRead = "usage:read";
    public const string ApiKeysWrite = "api-keys:write";
    public const string EnterprisesWrite = "enterprises:write";

    /// <summary>Any signed-in person or valid key.</summary>
    public const string Authenticated = "authenticated";

    /// <summary>Deliberately open to everybody.</summary>
    public const string Anonymous = "anonymous";
}

/// <summary>What an endpoint demands of its caller; an endpoint without it is refused to everybody.</summary>
internal sealed record PermissionMetadata(string Permission);

internal static class PermissionExtensions
{
    /// <summary>Demands a permission of the endpoint's callers.</summary>
    public static TBuilder RequirePermission<TBuilder>(this TBuilder builder, string permission)
        where TBuilder : IEndpointConventionBuilder => builder.WithMetadata(new PermissionMetadata(permission));

    /// <summary>The caller whom the guard let through.</summary>
    /// <exception cref="InvalidOperationException">The endpoint is open to everybody, so that there may be no caller.</exception>
    public static Caller GetCaller(this HttpContext context) =>
        context.Features.Get<Caller>()
        ?? throw new InvalidOperationException("This endpoint has no caller: it is open to everybody.");
}
