namespace UsageMonitor.Contracts;

/// <summary>Something that can be allowed.</summary>
/// <param name="Permission">Its name, such as <c>usage:read</c>.</param>
/// <param name="Description">For people.</param>
public sealed record PermissionSummary(string Permission, string Description);

/// <summary>A role: a named set of permissions.</summary>
/// <param name="Name">Unique in the enterprise whatever its case.</param>
/// <param name="Description">For people.</param>
/// <param name="BuiltIn">The same in every enterprise; it can't be changed.</param>
/// <param name="Permissions">What whoever has it may do.</param>
/// <param name="UpdatedAt">The last change, or null for a built-in role.</param>
public sealed record RoleSummary(
    string Name,
    string Description,
    bool BuiltIn,
    IReadOnlyList<string> Permissions,
    DateTimeOffset? UpdatedAt
);

/// <summary><c>POST /v1/admin/roles</c>.</summary>
/// <param name="Name">1–50 letters, digits, spaces, <c>-</c> and <c>_</c>.</param>
/// <param name="Permissions">Such as the caller has.</param>
/// <param name="Description">Up to 200 characters.</param>
public sealed record CreateRoleRequest(string? Name, IReadOnlyList<string>? Permissions, string? Description = null);

/// <summary><c>PUT /v1/admin/roles/{roleName}</c>: replaces description and permissions.</summary>
/// <param name="Permissions">Those that come or go must be such as the caller has.</param>
/// <param name="Description">Up to 200 characters.</param>
public sealed record ChangeRoleRequest(IReadOnlyList<string>? Permissions, string? Description = null);

/// <summary>A group of people.</summary>
/// <param name="GroupId">The group.</param>
/// <param name="Name">Unique in the enterprise whatever its case.</param>
/// <param name="Roles">What its members have by being in it.</param>
/// <param name="Members">How many there are.</param>
/// <param name="Provisioned">Its name and members come from the provisioning system (SCIM) and are changed there.</param>
/// <param name="UpdatedAt">The last change of name or roles.</param>
public sealed record GroupSummary(
    Guid GroupId,
    string Name,
    IReadOnlyList<string> Roles,
    long Members,
    bool Provisioned,
    DateTimeOffset UpdatedAt
);

/// <summary>The answer to <c>GET /v1/admin/groups</c>: groups by name.</summary>
/// <param name="Groups">At most as many as asked for.</param>
/// <param name="Next">For <c>after</c>, or null: that was all.</param>
public sealed record GroupsResponse(IReadOnlyList<GroupSummary> Groups, string? Next);

/// <summary><c>POST /v1/admin/groups</c> and <c>PUT /v1/admin/groups/{groupId}</c>.</summary>
/// <param name="Name">1–200 characters.</param>
/// <param name="Roles">Names of roles; those that come or go must permit nothing that the caller may not do.</param>
public sealed record SaveGroupRequest(string? Name, IReadOnlyList<string>? Roles = null);

/// <summary>A person in a group.</summary>
/// <param name="UserId">The person.</param>
/// <param name="Email">Their address.</param>
/// <param name="DisplayName">What people call them, or null.</param>
/// <param name="Active">False: deactivated.</param>
public sealed record GroupMember(Guid UserId, string Email, string? DisplayName, bool Active);

/// <summary>The answer to <c>GET /v1/admin/groups/{groupId}/members</c>.</summary>
/// <param name="Members">At most as many as asked for, in no order that means anything.</param>
/// <param name="Next">For <c>after</c>, or null: that was all.</param>
public sealed record GroupMembersResponse(IReadOnlyList<GroupMember> Members, string? Next);
