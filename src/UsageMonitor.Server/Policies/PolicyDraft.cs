using System.Globalization;
using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>A request for a policy, checked; what is wrong is told by the field's name.</summary>
internal sealed record PolicyDraft(string Name, string Effect, string Status, PolicyDocument Document)
{
    public const int UsersMax = 1_000;
    public const int RolesMax = 50;
    public const int GroupsMax = 100;
    public const int ApiKeysMax = 100;
    public const int FeaturesMax = 200;
    public const int NetworksMax = 100;
    public const int EventTypesMax = 50;
    private const int ActionsMax = 2;
    private const int ReferenceCharactersMax = 200;

    /// <summary>What is wrong with a request, for people: it begins with the field.</summary>
    private sealed class WrongException(string field, string what) : Exception($"{field}: {what}.");

    /// <param name="request">As it was sent.</param>
    /// <param name="enterprise">Whose policy it will be.</param>
    /// <param name="transaction">In the enterprise's scope: roles, groups and keys must exist.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The draft, or null with what is wrong.</returns>
    public static async Task<(PolicyDraft? Draft, string Error)> ReadAsync(
        PolicyRequest request,
        EnterpriseInfo enterprise,
        ScopedTransaction transaction,
        CancellationToken cancellationToken
    )
    {
        try
        {
            PolicyPrincipals principals = request.Principals ?? new PolicyPrincipals();
            PolicyConditions conditions = request.Conditions ?? new PolicyConditions();
            var references = new PolicyReferences(transaction, enterprise.EnterpriseId);
            string name = request.Name?.Trim() ?? "";
            if (EventText.Fault(name, EventText.NameCharactersMax) is { } fault)
            {
                throw new WrongException("name", fault);
            }

            var document = new PolicyDocument(
                new PolicySubjects(
                    ReadUsers(principals.Users, enterprise),
                    Known(
                        "principals.roles",
                        await references.FindRolesAsync(
                            Texts("principals.roles", principals.Roles, RolesMax, ReferenceCharactersMax),
                            cancellationToken
                        )
                    ),
                    Known(
                        "principals.groups",
                        await references.FindGroupsAsync(
                            Texts("principals.groups", principals.Groups, GroupsMax, ReferenceCharactersMax),
                            cancellationToken
                        )
                    ),
                    Known(
                        "principals.apiKeys",
                        await references.FindApiKeysAsync(
                            Texts("principals.apiKeys", principals.ApiKeys, ApiKeysMax, ReferenceCharactersMax),
                            cancellationToken
                        )
                    )
                ),
                ReadFeatures(request.Features),
                [
                    .. Texts("actions", request.Actions, ActionsMax, ReferenceCharactersMax)
                        .Select(action => OneOf("actions", action, PolicyTerms.Record, PolicyTerms.Check)),
                ],
                ReadConditions(conditions)
            );
            return (
                new PolicyDraft(
                    name,
                    OneOf("effect", request.Effect, PolicyTerms.Permit, PolicyTerms.Forbid),
                    OneOf("status", request.Status ?? PolicyTerms.Active, PolicyTerms.Active, PolicyTerms.Inactive),
                    document
                ),
                ""
            );
        }
        catch (WrongException wrong)
        {
            return (null, wrong.Message);
        }
    }

    // Users need not exist: one who is refused from the first day on never will, and one may be permitted before the first use.
    private static PolicyUser[] ReadUsers(IReadOnlyList<string>? users, EnterpriseInfo enterprise) =>
        [
            .. Texts("principals.users", users, UsersMax, EventText.UserIdCharactersMax)
                .Select(user => new PolicyUser(
                    UserIds.Resolve(enterprise.EnterpriseId, user, out string? externalId),
                    externalId is null ? null : ExternalIds.Seal(enterprise, externalId)
                ))
                .DistinctBy(user => user.UserId),
        ];

    private static string[] ReadFeatures(IReadOnlyList<string>? features)
    {
        string[] read = Texts("features", features, FeaturesMax, EventText.NameCharactersMax + 1);
        return
            Array.Find(
                read,
                feature =>
                    feature.IndexOf('*', StringComparison.Ordinal) is >= 0 and var star && star < feature.Length - 1
            )
                is { } wrong
            ? throw new WrongException("features", $"“{wrong}” has a * that is not at its end")
            : read;
    }

    private static PolicyLimits ReadConditions(PolicyConditions conditions)
    {
        string? from = Time("conditions.from", conditions.From);
        string? to = conditions.To == "24:00" ? conditions.To : Time("conditions.to", conditions.To);
        if ((from ?? "00:00") == (to ?? "24:00") && (from ?? to) is not null)
        {
            throw new WrongException("conditions.to", "must be another time than conditions.from");
        }

        return new PolicyLimits(
            [
                .. Texts(
                        "conditions.weekdays",
                        conditions.Weekdays,
                        PolicyTerms.Weekdays.Length,
                        ReferenceCharactersMax
                    )
                    .Select(day => OneOf("conditions.weekdays", day, PolicyTerms.Weekdays)),
            ],
            from,
            to,
            [
                .. Texts("conditions.networks", conditions.Networks, NetworksMax, ReferenceCharactersMax)
                    .Select(Network)
                    .Distinct(),
            ],
            Texts("conditions.eventTypes", conditions.EventTypes, EventTypesMax, EventText.NameCharactersMax)
        );
    }

    private static string? Time(string field, string? text) =>
        string.IsNullOrEmpty(text) ? null
        : TimeOnly.TryParseExact(text, "HH:mm", CultureInfo.InvariantCulture, DateTimeStyles.None, out _) ? text
        : throw new WrongException(field, $"“{Shortened(text)}” is not a time such as 22:00");

    /// <summary>A network in its one form; an address alone is the network of just itself.</summary>
    private static string Network(string text)
    {
        bool isAddress = !text.Contains('/', StringComparison.Ordinal);
        string cidr = isAddress ? text + (text.Contains(':', StringComparison.Ordinal) ? "/128" : "/32") : text;

        // .NET also takes 10/8 and 0x0A000000/8, which people and other programs read differently.
        bool isPlain = cidr.Contains(':', StringComparison.Ordinal)
            ? !cidr.Contains('%', StringComparison.Ordinal)
            : cidr.Count(character => character == '.') == 3
                && cidr.All(character => character is '.' or '/' || char.IsAsciiDigit(character));
        return
            isPlain
            && IPNetwork.TryParse(cidr, out IPNetwork network)
            && !network.BaseAddress.IsIPv4MappedToIPv6
            && network.BaseAddress.Equals(IPAddress.Parse(cidr[..cidr.IndexOf('/', StringComparison.Ordinal)]))
            ? network.ToString()
            : throw new WrongException(
                "conditions.networks",
                $"“{Shortened(text)}” is not a network such as 10.0.0.0/8 or 2001:db8::/32, with zeros after its prefix"
            );
    }

    private static string[] Texts(string field, IReadOnlyList<string?>? texts, int countMax, int charactersMax)
    {
        string[] read = [.. (texts ?? []).Select(text => text?.Trim() ?? "").Distinct(StringComparer.Ordinal)];
        if (read.Length > countMax)
        {
            throw new WrongException(field, $"has more than {countMax}");
        }

        foreach (string text in read)
        {
            if (EventText.Fault(text, charactersMax) is { } fault)
            {
                throw new WrongException(field, $"“{Shortened(text)}” {fault}");
            }
        }

        return read;
    }

    private static T[] Known<T>(string field, (T[] Found, string? Missing) references) =>
        references.Missing is { } missing ? throw new WrongException(field, $"{missing}") : references.Found;

    private static string OneOf(string field, string? text, params string[] allowed) =>
        Array.Find(allowed, each => each == text)
        ?? throw new WrongException(field, $"must be one of {string.Join(", ", allowed)}");

    private static string Shortened(string text) => EventText.Echo(System.Text.Encoding.UTF8.GetBytes(text));
}
