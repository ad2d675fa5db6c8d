using System.Text.Json;
using System.Text.Json.Serialization;

namespace UsageMonitor.Server.Policies;

/// <summary>What a policy says, as the column <c>document</c> holds it. Everything in it has been checked.</summary>
internal sealed record PolicyDocument(
    PolicySubjects Principals,
    string[] Features,
    string[] Actions,
    PolicyLimits Conditions
)
{
    public static readonly PolicyDocument Anything = new(PolicySubjects.Everybody, [], [], PolicyLimits.None);

    public static PolicyDocument Parse(string json) =>
        JsonSerializer.Deserialize(json, PolicyJson.Default.PolicyDocument)
        ?? throw new InvalidDataException("A policy's document is null.");

    public string ToJson() => JsonSerializer.Serialize(this, PolicyJson.Default.PolicyDocument);
}

/// <summary>Whom a policy is about; everybody when all lists are empty.</summary>
internal sealed record PolicySubjects(PolicyUser[] Users, string[] Roles, Guid[] Groups, Guid[] ApiKeys)
{
    public static readonly PolicySubjects Everybody = new([], [], [], []);

    [JsonIgnore]
    public bool AreEverybody => Users.Length + Roles.Length + Groups.Length + ApiKeys.Length == 0;
}

/// <summary>A user of a policy.</summary>
/// <param name="UserId">The user.</param>
/// <param name="ExternalId">The enterprise's own id when that is not a UUID, sealed: it may be an e-mail address.</param>
internal sealed record PolicyUser(Guid UserId, byte[]? ExternalId);

/// <summary>When a policy holds. Weekdays are <c>MON</c> …, times <c>HH:mm</c>, networks in CIDR notation.</summary>
internal sealed record PolicyLimits(string[] Weekdays, string? From, string? To, string[] Networks, string[] EventTypes)
{
    public static readonly PolicyLimits None = new([], null, null, [], []);
}

/// <summary>A policy, or a version of one.</summary>
internal sealed record StoredPolicy(
    Guid PolicyId,
    int Version,
    string Name,
    string Effect,
    PolicyDocument Document,
    string Status,
    Guid CreatedBy,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary>The words that policies are made of.</summary>
internal static class PolicyTerms
{
    public const string Permit = "PERMIT";
    public const string Forbid = "FORBID";
    public const string Active = "ACTIVE";
    public const string Inactive = "INACTIVE";
    public const string Deleted = "DELETED";
    public const string Record = "record";
    public const string Check = "check";

    /// <summary>In the order of <see cref="DayOfWeek"/>.</summary>
    public static readonly string[] Weekdays = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(PolicyDocument))]
internal sealed partial class PolicyJson : JsonSerializerContext;
