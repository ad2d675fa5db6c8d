using System.Globalization;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>Names of the groups and API keys of policies, which hold their ids.</summary>
internal sealed class PolicyNames
{
    private readonly Dictionary<string, string> _names = new(StringComparer.Ordinal);

    private const string ReadNames = """
        SELECT group_id, group_name FROM groups WHERE enterprise_id = $1 AND group_id = ANY ($2)
        UNION ALL
        SELECT api_key_id, name FROM api_keys WHERE enterprise_id = $1 AND api_key_id = ANY ($3)
        """;

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterpriseId">The enterprise.</param>
    /// <param name="policies">Whose groups and keys.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<PolicyNames> ReadAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        IReadOnlyList<PolicyResponse> policies,
        CancellationToken cancellationToken
    )
    {
        var names = new PolicyNames();
        Guid[] groups =
        [
            .. policies.SelectMany(policy => policy.Principals.Groups ?? []).Distinct().Select(Guid.Parse),
        ];
        Guid[] keys = [.. policies.SelectMany(policy => policy.Principals.ApiKeys ?? []).Distinct().Select(Guid.Parse)];
        if (groups.Length + keys.Length == 0)
        {
            return names;
        }

        await using NpgsqlCommand command = transaction.Command(ReadNames, enterpriseId, groups, keys);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            names._names[reader.GetGuid(0).ToString()] = reader.GetString(1);
        }

        return names;
    }

    /// <summary>The name of an id, or the id itself.</summary>
    public string OrId(string id) => _names.GetValueOrDefault(id, id);

    /// <summary>The name of an id, or that there is none any more.</summary>
    public string Of(string id) => _names.GetValueOrDefault(id, "(deleted)");
}

/// <summary>Policies and refusals as people say them.</summary>
internal static class PolicyWords
{
    private const int NamedMax = 3;

    private static readonly string[] s_weekdays = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

    /// <summary>Such as <c>everybody</c>, or <c>ana, members of Sales</c>.</summary>
    public static string Who(PolicyPrincipals principals, PolicyNames names)
    {
        List<string> parts = [];
        Add(principals.Users, user => user, "users ");
        Add(principals.Roles, role => role, "role ");
        Add(principals.Groups, names.Of, "group ");
        Add(principals.ApiKeys, names.Of, "API key ");
        return parts.Count == 0 ? "everybody" : string.Join("; ", parts);

        void Add(IReadOnlyList<string>? ids, Func<string, string> name, string kind)
        {
            if (ids is { Count: > 0 })
            {
                parts.Add((kind == "users " ? "" : kind) + Listed([.. ids.Select(name)]));
            }
        }
    }

    /// <summary>Such as <c>any feature</c>, or <c>export, report*</c>.</summary>
    public static string What(IReadOnlyList<string> features) => features.Count == 0 ? "any feature" : Listed(features);

    /// <summary>Such as <c>always</c>, or <c>Mon–Fri, 22:00–06:00, from 10.0.0.0/8</c>.</summary>
    public static string When(PolicyConditions conditions, IReadOnlyList<string> actions)
    {
        List<string> parts = [];
        if (conditions.Weekdays is { Count: > 0 } weekdays)
        {
            parts.Add(Days(weekdays));
        }

        if (conditions.From is not null || conditions.To is not null)
        {
            parts.Add($"{conditions.From ?? "00:00"}–{conditions.To ?? "24:00"}");
        }

        if (conditions.Networks is { Count: > 0 } networks)
        {
            parts.Add("from " + Listed(networks));
        }

        if (conditions.EventTypes is { Count: > 0 } types)
        {
            parts.Add("events of type " + Listed(types));
        }

        if (actions is [var action])
        {
            parts.Add(action == PolicyTerms.Check ? "when asked in advance" : "when an event is sent");
        }

        return parts.Count == 0 ? "always" : string.Join(", ", parts);
    }

    /// <summary>Why something was refused.</summary>
    public static string Explain(DecisionSummary decision, PolicyResponse? policy, PolicyNames names)
    {
        string what =
            decision.Action == PolicyTerms.Check
                ? $"{decision.UserId} asked to use {decision.FeatureName}"
                : $"An event said that {decision.UserId} uses {decision.FeatureName}";
        if (decision.Limit is { } limit)
        {
            return $"{what}. {OfLimit(limit)}";
        }

        if (decision.Code == DecisionCodes.LimitUncounted)
        {
            return $"{what}. What was used of a limit could not be counted at that moment, and this enterprise chose to refuse then.";
        }

        return policy is null
            ? decision.PolicyId is null
                ? $"{what}. No policy says anything of it, and what no policy permits is forbidden in this enterprise."
                : $"{what}. Version {decision.PolicyVersion} of a policy forbids it."
            : $"{what}. Version {policy.Version} of the policy “{policy.Name}” forbids {What(policy.Features)} to "
                + $"{Who(policy.Principals, names)}, {When(policy.Conditions, policy.Actions)}.";
    }

    private static string OfLimit(DecisionLimit limit)
    {
        string window = limit.WindowType switch
        {
            "HOURLY" => "hour",
            "DAILY" => "day",
            "MONTHLY" => "month",
            _ => "window",
        };
        string whose = limit.Scope switch
        {
            "USER" => " of this user",
            "ROLE" => " of everybody in a role together",
            "ENTERPRISE" => " of everybody together",
            _ => "",
        };
        string of = limit.FeatureName is { } feature ? $" of {(feature == "*" ? "all features" : feature)}" : "";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"The limit{of} is {limit.LimitValue:N0} uses a {window}{whose}, and {limit.Used:N0} were used; it begins anew at {limit.ResetsAt:yyyy-MM-dd HH:mm zzz}."
        );
    }

    // Three or more in a row are a span.
    private static string Days(IReadOnlyList<string> weekdays)
    {
        var parts = new List<string>();
        for (int day = 0; day < s_weekdays.Length; day++)
        {
            int last = day;
            while (last < s_weekdays.Length && Has(last))
            {
                last++;
            }

            if (last - day >= 3)
            {
                parts.Add($"{s_weekdays[day]}–{s_weekdays[last - 1]}");
                day = last;
            }
            else if (last > day)
            {
                parts.Add(s_weekdays[day]);
            }
        }

        return string.Join(", ", parts);

        bool Has(int day) => weekdays.Contains(s_weekdays[day].ToUpperInvariant());
    }

    private static string Listed(IReadOnlyList<string> names) =>
        names.Count <= NamedMax + 1
            ? string.Join(", ", names)
            : $"{string.Join(", ", names.Take(NamedMax))} and {names.Count - NamedMax} more";
}
