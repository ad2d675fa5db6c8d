using Microsoft.Extensions.Primitives;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Web;

/// <summary>A policy as the form shows it: lists are texts with an entry a line.</summary>
/// <param name="PolicyId">The policy that is changed, or null for a new one.</param>
/// <param name="Version">The version that is being changed.</param>
/// <param name="Request">What the fields hold.</param>
public sealed record PolicyForm(Guid? PolicyId, int? Version, PolicyRequest Request)
{
    public const string SimulateButton = "simulate";

    private static readonly (string Field, string Label)[] s_labels =
    [
        ("principals.users", "Users"),
        ("principals.roles", "Roles"),
        ("principals.groups", "Groups"),
        ("principals.apiKeys", "API keys"),
        ("conditions.weekdays", "Weekdays"),
        ("conditions.from", "From"),
        ("conditions.to", "To"),
        ("conditions.networks", "Networks"),
        ("conditions.eventTypes", "Event types"),
        ("features", "Features"),
        ("actions", "Applies to"),
    ];

    public static readonly PolicyForm New = new(null, null, new PolicyRequest("", PolicyTerms.Forbid));

    /// <summary>As a browser sent it.</summary>
    public static PolicyForm Read(IFormCollection form, Guid? policyId) =>
        new(
            policyId,
            int.TryParse(form["version"], out int version) ? version : null,
            new PolicyRequest(
                form["name"],
                form["effect"],
                new PolicyPrincipals(
                    Lines(form["users"]),
                    Lines(form["roles"]),
                    Lines(form["groups"]),
                    Lines(form["apiKeys"])
                ),
                Lines(form["features"]),
                // Both ticked is what a policy without actions says; none is taken for the same.
                form["actions"] is { Count: 1 } one
                    ? [.. one.OfType<string>()]
                    : [],
                new PolicyConditions(
                    [.. form["weekdays"].OfType<string>()],
                    Time(form["from"]),
                    Time(form["to"]),
                    Lines(form["networks"]),
                    Lines(form["eventTypes"])
                ),
                form["status"] == PolicyTerms.Inactive ? PolicyTerms.Inactive : PolicyTerms.Active,
                int.TryParse(form["version"], out int meant) ? meant : null
            )
        );

    /// <summary>A policy to be changed; groups and keys by their names where they have one.</summary>
    internal static PolicyForm Of(PolicyResponse policy, PolicyNames names) =>
        new(
            policy.PolicyId,
            policy.Version,
            new PolicyRequest(
                policy.Name,
                policy.Effect,
                policy.Principals with
                {
                    Groups = [.. (policy.Principals.Groups ?? []).Select(names.OrId)],
                    ApiKeys = [.. (policy.Principals.ApiKeys ?? []).Select(names.OrId)],
                },
                policy.Features,
                policy.Actions,
                policy.Conditions,
                policy.Status,
                policy.Version
            )
        );

    /// <summary>What is wrong, by the name that the field has on the page.</summary>
    public static string Explain(string error)
    {
        string plain = error.StartsWith("Policy.", StringComparison.Ordinal) ? error["Policy.".Length..] : error;
        foreach ((string field, string label) in s_labels)
        {
            if (plain.StartsWith(field + ":", StringComparison.OrdinalIgnoreCase))
            {
                return label + plain[field.Length..];
            }
        }

        return char.ToUpperInvariant(plain[0]) + plain[1..];
    }

    public static string Text(IReadOnlyList<string>? lines) => string.Join('\n', lines ?? []);

    private static string[] Lines(StringValues text) =>
        text.ToString().Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    // Browsers may send seconds; midnight as an end is the end of the day.
    private static string? Time(StringValues text) =>
        text.ToString() is { Length: > 0 } time ? time[..Math.Min(time.Length, 5)] : null;
}
