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

    /// <summary>The sign-in the person calls by, or null for an API key.</summary>
    public Guid? SessionId { get; init; }

    /// <summary>The person's e-mail address, or null for an API key.</summary>
    public string? Email { get; init; }

    /// <summary>What the caller may do; see <see cref="Permissions"/>.</summary>
    public required FrozenSet<string> Permissions { get; init; }

    public bool May(string permission) => Permissions.Contains(permission);
}

/// <summary>
/// The names of permissions. API keys call theirs scopes; they are the same names. Those with a colon are rows of the table
/// <c>permissions</c> too, and roles are made of them.
/// </summary>
internal static class Permissions
{
    public const string UsageWrite = "usage:write";
    public const string UsageBackfill = "usage:backfill";
    public const string UsageCheck = "usage:check";
    public const string UsageRead = "usage:read";
    public const string ApiKeysRead = "api-keys:read";
    public const string ApiKeysWrite = "api-keys:write";
    public const string PeopleRead = "people:read";
    public const string PeopleWrite = "people:write";
    public const string RolesRead = "roles:read";
    public const string RolesWrite = "roles:write";
    public const string PoliciesRead = "policies:read";
    public const string PoliciesWrite = "policies:write";
    public const string DecisionsRead = "decisions:read";
    public const string DecisionsWrite = "decisions:write";
    public const string LimitsRead = "limits:read";
    public const string LimitsWrite = "limits:write";
    public const string ViolationsWrite = "violations:write";
    public const string AlertsRead = "alerts:read";
    public const string AlertsWrite = "alerts:write";
    public const string SettingsRead = "settings:read";
    public const string SettingsWrite = "settings:write";
    public const string PrivacyRead = "privacy:read";
    public const string PrivacyWrite = "privacy:write";
    public const string ProvisioningWrite = "provisioning:write";
    public const string AuditRead = "audit:read";
    public const string AuditExport = "audit:export";
    public const string AuditWrite = "audit:write";
    public const string EnterprisesWrite = "enterprises:write";
    public const string PlatformWrite = "platform:write";

    /// <summary>Any signed-in person who has shown every factor that is asked of them; never an API key.</summary>
    public const string Person = "person";

    /// <summary>Any signed-in person, also one who has yet to set up the second factor their enterprise asks for.</summary>
    public const string SettingUp = "setting-up";

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
