using UsageMonitor.Server.Policies;

namespace UsageMonitor.Tests.Policies;

/// <summary>Short ways to make policies and questions.</summary>
internal static class PolicyMaking
{
    public static StoredPolicy Policy(int number, string effect, PolicyDocument document, string status = "ACTIVE") =>
        new(
            new Guid(number, 0, 0x7000, 0x80, 0, 0, 0, 0, 0, 0, 0),
            number + 1,
            $"policy {number}",
            effect,
            document,
            status,
            Guid.Empty,
            default,
            default
        );

    public static PolicyDocument Document(
        Guid[]? users = null,
        string[]? roles = null,
        Guid[]? groups = null,
        Guid[]? apiKeys = null,
        string[]? features = null,
        string[]? actions = null,
        PolicyLimits? conditions = null
    ) =>
        new(
            new PolicySubjects(
                [.. (users ?? []).Select(user => new PolicyUser(user, null))],
                roles ?? [],
                groups ?? [],
                apiKeys ?? []
            ),
            features ?? [],
            actions ?? [],
            conditions ?? PolicyLimits.None
        );

    public static PolicyQuestion Question(
        Guid user,
        string feature,
        DateTimeOffset at,
        string eventType = "use",
        Guid? apiKey = null,
        string? address = null,
        PolicyActions action = PolicyActions.Record
    ) =>
        new(
            user,
            apiKey,
            feature,
            action,
            eventType,
            (at.UtcTicks - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerMicrosecond,
            ClientAddress.Of(address is null ? null : System.Net.IPAddress.Parse(address))
        );
}
