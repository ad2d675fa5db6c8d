using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Limits;

/// <summary>A request for a limit, checked; what is wrong is told by the field's name.</summary>
internal sealed record LimitDraft(
    LimitMeter Meter,
    Guid? SubjectUserId,
    byte[]? SubjectExternalId,
    long LimitValue,
    LimitAction Action,
    string Status,
    DateTime? StartsAt,
    DateTime? ExpiresAt
)
{
    public const long LimitValueMax = 1_000_000_000_000;
    private const int RoleCharactersMax = 200;
    private static readonly DateTime s_earliest = new(2000, 1, 1, 0, 0, 0, DateTimeKind.Utc);
    private static readonly DateTime s_latest = new(2200, 1, 1, 0, 0, 0, DateTimeKind.Utc);

    /// <summary>What is wrong with a request, for people: it begins with the field.</summary>
    private sealed class WrongException(string field, string what) : Exception($"{field}: {what}.");

    /// <param name="request">As it was sent.</param>
    /// <param name="enterprise">Whose limit it will be.</param>
    /// <param name="transaction">In the enterprise's scope: a role must exist.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The draft, or null with what is wrong.</returns>
    public static async Task<(LimitDraft? Draft, string Error)> ReadAsync(
        LimitRequest request,
        EnterpriseInfo enterprise,
        ScopedTransaction transaction,
        CancellationToken cancellationToken
    )
    {
        try
        {
            string feature = ReadFeature(request.FeatureName);
            LimitScope scope = LimitTerms.Scope(request.Scope) ?? throw NotOneOf("scope", "USER", "ROLE", "ENTERPRISE");
            string subject = request.Subject?.Trim() ?? "";
            string? role = null;
            Guid? userId = null;
            byte[]? externalId = null;
            switch (scope)
            {
                case LimitScope.User when subject.Length > 0:
                    Check("subject", subject, EventText.UserIdCharactersMax);
                    userId = UserIds.Resolve(enterprise.EnterpriseId, subject, out string? external);
                    externalId = external is null ? null : ExternalIds.Seal(enterprise, external);
                    break;
                case LimitScope.Role:
                    role = await ReadRoleAsync(subject, enterprise, transaction, cancellationToken);
                    break;
                case LimitScope.Enterprise when subject.Length > 0:
                    throw new WrongException("subject", "must be absent when the scope is ENTERPRISE");
            }

            LimitWindow window =
                LimitTerms.Window(request.WindowType) ?? throw NotOneOf("windowType", "HOURLY", "DAILY", "MONTHLY");
            (DateTime? startsAt, DateTime? expiresAt) = ReadSpan(request);
            return (
                new LimitDraft(
                    LimitMeter.Of(enterprise.EnterpriseId, feature, scope, role, window),
                    userId,
                    externalId,
                    ReadValue(request.LimitValue),
                    LimitTerms.Action(request.Action) ?? throw NotOneOf("action", "ALERT", "BLOCK"),
                    ReadStatus(request.Status),
                    startsAt,
                    expiresAt
                ),
                ""
            );
        }
        catch (WrongException wrong)
        {
            return (null, wrong.Message);
        }
    }

    public StoredLimit Stored(Guid limitId, int version, Guid createdBy, DateTime createdAt, DateTime updatedAt) =>
        new(
            limitId,
            version,
            Meter,
            SubjectUserId,
            SubjectExternalId,
            LimitValue,
            Action,
            Status,
            StartsAt,
            ExpiresAt,
            createdBy,
            createdAt,
            updatedAt
        );

    private static string ReadFeature(string? text)
    {
        string feature = text?.Trim() ?? "";
        if (feature.Length == 0)
        {
            return LimitTerms.AnyFeature;
        }

        Check("featureName", feature, EventText.NameCharactersMax + 1);
        int star = feature.IndexOf('*', StringComparison.Ordinal);
        if (star >= 0 && star < feature.Length - 1)
        {
            throw new WrongException("featureName", $"“{Shortened(feature)}” has a * that is not at its end");
        }

        if (star < 0)
        {
            Check("featureName", feature, EventText.NameCharactersMax);
        }

        return feature;
    }

    private static async Task<string> ReadRoleAsync(
        string subject,
        EnterpriseInfo enterprise,
        ScopedTransaction transaction,
        CancellationToken cancellationToken
    )
    {
        if (subject.Length == 0)
        {
            throw new WrongException("subject", "is missing; when the scope is ROLE it is the role's name");
        }

        Check("subject", subject, RoleCharactersMax);
        (_, string? missing) = await new PolicyReferences(transaction, enterprise.EnterpriseId).FindRolesAsync(
            [subject],
            cancellationToken
        );
        return missing is null ? subject : throw new WrongException("subject", missing);
    }

    private static long ReadValue(long? value) =>
        value switch
        {
            null => throw new WrongException("limitValue", "is missing"),
            < 0 or > LimitValueMax => throw new WrongException(
                "limitValue",
                string.Create(CultureInfo.InvariantCulture, $"must be 0 to {LimitValueMax}")
            ),
            { } within => within,
        };

    private static string ReadStatus(string? status) =>
        status is null or LimitTerms.Active ? LimitTerms.Active
        : status == LimitTerms.Inactive ? LimitTerms.Inactive
        : throw NotOneOf("status", LimitTerms.Active, LimitTerms.Inactive);

    private static (DateTime? StartsAt, DateTime? ExpiresAt) ReadSpan(LimitRequest request)
    {
        DateTime? startsAt = ReadInstant("startsAt", request.StartsAt);
        DateTime? expiresAt = ReadInstant("expiresAt", request.ExpiresAt);
        return startsAt >= expiresAt
            ? throw new WrongException("expiresAt", "must be after startsAt")
            : (startsAt, expiresAt);
    }

    // As precise as PostgreSQL keeps it, so that the answer is what will be read.
    private static DateTime? ReadInstant(string field, DateTimeOffset? instant)
    {
        if (instant is not { UtcDateTime: var utc })
        {
            return null;
        }

        return utc < s_earliest || utc > s_latest
            ? throw new WrongException(field, "must be between the years 2000 and 2200")
            : utc.AddTicks(-(utc.Ticks % TimeSpan.TicksPerMicrosecond));
    }

    private static void Check(string field, string text, int charactersMax)
    {
        if (EventText.Fault(text, charactersMax) is { } fault)
        {
            throw new WrongException(field, $"“{Shortened(text)}” {fault}");
        }
    }

    private static WrongException NotOneOf(string field, params string[] allowed) =>
        new(field, $"must be one of {string.Join(", ", allowed)}");

    private static string Shortened(string text) => EventText.Echo(System.Text.Encoding.UTF8.GetBytes(text));
}
