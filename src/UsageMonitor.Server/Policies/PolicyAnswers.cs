using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>Policies as the API shows them.</summary>
internal static class PolicyAnswers
{
    public static PolicyResponse Of(StoredPolicy policy, EnterpriseInfo enterprise)
    {
        (PolicySubjects principals, PolicyLimits conditions) = (policy.Document.Principals, policy.Document.Conditions);
        return new PolicyResponse(
            policy.PolicyId,
            policy.Version,
            policy.Name,
            policy.Effect,
            new PolicyPrincipals(
                [
                    .. principals.Users.Select(user =>
                        user.ExternalId is { } externalId
                            ? ExternalIds.Open(enterprise, externalId)
                            : user.UserId.ToString()
                    ),
                ],
                principals.Roles,
                [.. principals.Groups.Select(group => group.ToString())],
                [.. principals.ApiKeys.Select(apiKey => apiKey.ToString())]
            ),
            policy.Document.Features,
            policy.Document.Actions,
            new PolicyConditions(
                conditions.Weekdays,
                conditions.From,
                conditions.To,
                conditions.Networks,
                conditions.EventTypes
            ),
            policy.Status,
            policy.CreatedBy,
            policy.CreatedAt,
            policy.UpdatedAt
        );
    }
}
