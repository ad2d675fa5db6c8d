using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>Limits as the API shows them.</summary>
internal static class LimitAnswers
{
    /// <summary>A limit without its usage. Instants have the enterprise's offset.</summary>
    public static LimitResponse Of(StoredLimit limit, EnterpriseInfo enterprise, LocalTime local) =>
        new(
            limit.LimitId,
            limit.Version,
            limit.Meter.FeatureName,
            limit.Meter.Scope.Word(),
            limit.Meter.RoleName
                ?? (
                    limit.SubjectExternalId is { } externalId
                        ? ExternalIds.Open(enterprise, externalId)
                        : limit.SubjectUserId?.ToString()
                ),
            limit.LimitValue,
            limit.Meter.Window.Word(),
            limit.Action.Word(),
            limit.Status,
            limit.StartsAt is { } starts ? local.Show(starts) : null,
            limit.ExpiresAt is { } expires ? local.Show(expires) : null,
            limit.CreatedBy,
            local.Show(limit.CreatedAt),
            local.Show(limit.UpdatedAt)
        );
}
