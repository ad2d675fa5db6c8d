using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>
/// What a step's subjects are called, as its own events and attempts say it: whatever is told of a user is told by a step
/// in which something of that user's is.
/// </summary>
internal sealed class SubjectNames
{
    private readonly Dictionary<Guid, Dictionary<Guid, string>> _externalIds = [];

    /// <summary>The user's external id; null when the user is called by the UUID.</summary>
    public string? ExternalIdOf(StepEnterprise enterprise, Guid userId)
    {
        if (!_externalIds.TryGetValue(enterprise.Id, out Dictionary<Guid, string>? known))
        {
            _externalIds[enterprise.Id] = known = [];
            foreach (ref StepEvent current in enterprise.EventSpan)
            {
                if (current.ExternalId is { } externalId)
                {
                    known.TryAdd(current.UserId, externalId);
                }
            }

            foreach (StepAttempt attempt in enterprise.Attempts)
            {
                if (attempt.Header.Event.ExternalId is { } externalId)
                {
                    known.TryAdd(attempt.Header.Event.UserId, externalId);
                }
            }
        }

        return known.GetValueOrDefault(userId);
    }

    /// <summary>For people: the user, the role, or null for the whole enterprise.</summary>
    public string? Of(StepEnterprise enterprise, LimitMeter meter, Guid subjectId) =>
        meter.Scope switch
        {
            LimitScope.User => ExternalIdOf(enterprise, subjectId) ?? subjectId.ToString(),
            LimitScope.Role => meter.RoleName,
            _ => null,
        };
}
