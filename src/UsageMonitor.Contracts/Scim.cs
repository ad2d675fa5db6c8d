using System.Text.Json.Serialization;

namespace UsageMonitor.Contracts;

/// <summary>A person, as a provisioning system knows them (RFC 7643, 4.1). Attributes beyond these are taken and not kept.</summary>
/// <param name="Schemas">What the resource is made of.</param>
/// <param name="Id">The person; it stays when the address changes.</param>
/// <param name="ExternalId">The provisioning system's own id.</param>
/// <param name="UserName">The e-mail address with which the person signs in, in lower case.</param>
/// <param name="Name">The parts of the name.</param>
/// <param name="DisplayName">What people call them.</param>
/// <param name="Emails">At most ten.</param>
/// <param name="Active">False: everything of the person is refused.</param>
/// <param name="Meta">About the resource.</param>
public sealed record ScimUser(
    IReadOnlyList<string> Schemas,
    Guid Id,
    string? ExternalId,
    string UserName,
    ScimName? Name,
    string? DisplayName,
    IReadOnlyList<ScimEmail> Emails,
    bool Active,
    ScimMeta Meta
);

/// <summary>The parts of a name.</summary>
public sealed record ScimName(string? Formatted, string? GivenName, string? FamilyName);

/// <summary>An address of a person; only <see cref="ScimUser.UserName"/> signs in.</summary>
public sealed record ScimEmail(string Value, string? Type, bool? Primary);

/// <summary>A group that a provisioning system made (RFC 7643, 4.2). Which roles its members have is decided here.</summary>
/// <param name="Schemas">What the resource is made of.</param>
/// <param name="Id">The group.</param>
/// <param name="ExternalId">The provisioning system's own id.</param>
/// <param name="DisplayName">Unique in the enterprise.</param>
/// <param name="Members">People; absent when it was not asked for.</param>
/// <param name="Meta">About the resource.</param>
public sealed record ScimGroup(
    IReadOnlyList<string> Schemas,
    Guid Id,
    string? ExternalId,
    string DisplayName,
    IReadOnlyList<ScimMember>? Members,
    ScimMeta Meta
);

/// <summary>A person in a group.</summary>
/// <param name="Value">The person's id.</param>
/// <param name="Ref">Where the person is.</param>
public sealed record ScimMember(Guid Value, [property: JsonPropertyName("$ref")] string Ref);

/// <summary>About a resource (RFC 7643, 3.1).</summary>
public sealed record ScimMeta(
    string ResourceType,
    DateTimeOffset Created,
    DateTimeOffset LastModified,
    string Location
);

/// <summary>A page of resources (RFC 7644, 3.4.2).</summary>
public sealed record ScimListResponse<T>(
    IReadOnlyList<string> Schemas,
    long TotalResults,
    int StartIndex,
    int ItemsPerPage,
    [property: JsonPropertyName("Resources")] IReadOnlyList<T> Resources
);

/// <summary>What went wrong (RFC 7644, 3.12).</summary>
/// <param name="Schemas">That it is an error.</param>
/// <param name="Status">The HTTP status, as text.</param>
/// <param name="ScimType">For programs, such as <c>uniqueness</c>.</param>
/// <param name="Detail">For people.</param>
public sealed record ScimError(IReadOnlyList<string> Schemas, string Status, string? ScimType, string Detail);
