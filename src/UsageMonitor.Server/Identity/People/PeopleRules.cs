using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>
/// Who may do what to whom. All of it in one place, for the API, the pages, and whatever else changes people: each rule
/// answers the problem, or null when there is none.
/// </summary>
internal static class PeopleRules
{
    public const int DisplayNameCharactersMax = 100;
    public const int RolesPerPersonMax = 20;

    /// <summary>People who sign in or are invited, of one enterprise.</summary>
    public const int PeopleMax = 100_000;

    public static readonly string DisplayNameWrong =
        $"displayName must have at most {DisplayNameCharactersMax} characters, none of them a control character.";

    /// <summary>The role without whose holders nobody could administer the enterprise, or the platform.</summary>
    public static string AdminRoleOf(Guid enterpriseId) =>
        enterpriseId == Guid.Empty ? RolePermissions.Operator : RolePermissions.EnterpriseAdmin;

    /// <summary>Whether a built-in role is for this enterprise: <c>Operator</c> is of the platform and no other, the others of enterprises.</summary>
    public static bool IsBuiltInFor(Guid enterpriseId, string role) =>
        RolePermissions.BuiltIn.ContainsKey(role) && role == RolePermissions.Operator == (enterpriseId == Guid.Empty);

    /// <summary>An empty name is none.</summary>
    public static bool TryDisplayName(string? text, out string? name)
    {
        name = string.IsNullOrWhiteSpace(text) ? null : text.Trim();
        return name is null || (name.Length <= DisplayNameCharactersMax && !name.Any(char.IsControl));
    }

    /// <summary>Nobody gives a role that does not exist, or one that permits what they are not permitted themselves.</summary>
    /// <param name="caller">Who gives.</param>
    /// <param name="added">The roles that the person does not have yet.</param>
    /// <param name="known">The enterprise's roles with what they permit.</param>
    public static IResult? WhyNotGive(
        Caller caller,
        IEnumerable<string> added,
        IReadOnlyDictionary<string, string[]> known
    )
    {
        foreach (string role in added)
        {
            if (!known.TryGetValue(role, out string[]? permissions))
            {
                return Problems.Problem(400, "unknown_role", "roles must be names of roles of your enterprise.");
            }

            if (!permissions.All(caller.May))
            {
                return Problems.Problem(
                    403,
                    "beyond_your_permissions",
                    $"The role {role} permits what you are not permitted; somebody who is must give it."
                );
            }
        }

        return null;
    }

    /// <summary>Nobody changes a person who may do more than they: they could else send themselves that person's link.</summary>
    public static IResult? WhyNotTouch(Caller caller, ResolvedRoles person) =>
        person.Permissions.All(caller.May)
            ? null
            : Problems.Problem(
                403,
                "beyond_your_permissions",
                "This person may do more than you; somebody who may as much must change them."
            );

    /// <summary>Nobody locks themselves out: another admin does it, who then knows that there is one.</summary>
    /// <param name="caller">Who changes.</param>
    /// <param name="userId">Whom.</param>
    /// <param name="had">The person's own roles before.</param>
    /// <param name="roles">And afterwards.</param>
    /// <param name="isActive">Whether they can sign in afterwards.</param>
    public static IResult? WhyNotOneself(
        Caller caller,
        Guid userId,
        IReadOnlyCollection<string> had,
        IReadOnlyCollection<string> roles,
        bool isActive
    )
    {
        string adminRole = AdminRoleOf(caller.EnterpriseId);
        bool givesUpAdmin = had.Contains(adminRole) && !roles.Contains(adminRole);
        return userId == caller.UserId && (!isActive || givesUpAdmin)
            ? Problems.Problem(
                409,
                "own_account",
                $"You cannot deactivate yourself or give up {adminRole}; another administrator can do that."
            )
            : null;
    }

    public static IResult NotFound => Problems.Problem(404, "not_found", "Your enterprise has no such person.");

    public static IResult LastAdmin(Guid enterpriseId) =>
        Problems.Problem(
            409,
            "last_admin",
            $"This is the last {AdminRoleOf(enterpriseId)} who can sign in. Make another one first."
        );
}
