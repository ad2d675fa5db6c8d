using System.Text.Json;

namespace UsageMonitor.Contracts;

/// <summary><c>POST /v1/admin/privacy/property-rules</c> and <c>PUT …/{id}</c>: what happens to a property before its event is durable.</summary>
/// <param name="Property">A property's name at any depth, or the beginning of names and a star as <c>user_*</c>; 1–100 characters. Case does not count.</param>
/// <param name="Action"><c>ALLOW</c> keeps it, <c>MASK</c> replaces its value so that equal values stay equal, <c>DROP</c> leaves it out.</param>
/// <param name="FeatureName">The only feature it is about; absent: all.</param>
/// <param name="Version">The version that is meant to be changed; absent: whichever there is. Of no account for a new rule.</param>
public sealed record PropertyRuleRequest(
    string? Property,
    string? Action,
    string? FeatureName = null,
    int? Version = null
);

/// <summary>A property rule.</summary>
/// <param name="RuleId">UUIDv7.</param>
/// <param name="Version">From 1, raised by every change.</param>
/// <param name="Property">A name, or the beginning of names and a star.</param>
/// <param name="FeatureName">The only feature it is about, or null: all.</param>
/// <param name="Action"><c>ALLOW</c>, <c>MASK</c> or <c>DROP</c>.</param>
/// <param name="CreatedBy">The person, or the key, who made it.</param>
/// <param name="CreatedAt">When.</param>
/// <param name="UpdatedAt">When it changed last.</param>
public sealed record PropertyRuleResponse(
    Guid RuleId,
    int Version,
    string Property,
    string? FeatureName,
    string Action,
    Guid CreatedBy,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary><c>PUT /v1/admin/privacy/property-rules/defaults</c>: each <c>ALLOW</c>, <c>MASK</c> or <c>DROP</c>.</summary>
/// <param name="Default">What happens to properties that no rule is about.</param>
/// <param name="Emails">… to kept values with an e-mail address in them. A property that an exact rule allows is not looked at.</param>
/// <param name="Cards">… with a payment card's number.</param>
/// <param name="Tokens">… with a secret token, as keys of well-known services are.</param>
/// <param name="Version">The version that is meant to be changed, 0 when nothing has been set; absent: whichever there is.</param>
public sealed record PropertyDefaultsRequest(
    string? Default,
    string? Emails = "ALLOW",
    string? Cards = "ALLOW",
    string? Tokens = "ALLOW",
    int? Version = null
);

/// <summary>What happens to properties that no rule is about, and to values that look like something.</summary>
public sealed record PropertyDefaults(int Version, string Default, string Emails, string Cards, string Tokens);

/// <summary>The answer to <c>GET /v1/admin/privacy/property-rules</c>: rules as they were made, and the defaults.</summary>
/// <param name="Defaults">For what no rule is about.</param>
/// <param name="Rules">At most as many as asked for.</param>
/// <param name="Next">For <c>after</c>, or null: that was all.</param>
public sealed record PropertyRulesResponse(
    PropertyDefaults Defaults,
    IReadOnlyList<PropertyRuleResponse> Rules,
    Guid? Next
);

/// <summary><c>POST /v1/admin/privacy/property-rules/preview</c>.</summary>
/// <param name="Event">An event as it would be sent; nothing of it is kept.</param>
public sealed record PropertyPreviewRequest(JsonElement? Event);

/// <summary>What would be kept of an event's properties.</summary>
/// <param name="Properties">As they would be kept, or null: nothing.</param>
/// <param name="Changes">What would not be kept as it was sent; at most 200 of them.</param>
public sealed record PropertyPreviewResponse(JsonElement? Properties, IReadOnlyList<PropertyPreviewChange> Changes);

/// <summary>What would happen to a property.</summary>
/// <param name="Path">Its names from the outside in, apart by dots.</param>
/// <param name="Action"><c>MASK</c> or <c>DROP</c>.</param>
/// <param name="Because"><c>RULE</c>, <c>DEFAULT</c>, <c>EMAIL</c>, <c>CARD</c>, <c>TOKEN</c>, or <c>ROOM</c>: its mask would make the event too large.</param>
public sealed record PropertyPreviewChange(string Path, string Action, string Because);
