using System.Text.RegularExpressions;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>
/// What a route is sent when somebody means it well. <see cref="ForeignIdTests"/> takes these requests, puts another
/// enterprise's ids into them one place at a time, and holds the answers to those for ids that do not exist.
/// </summary>
/// <remarks>
/// <para>
/// How to add a route: one line in <see cref="s_samples"/>, <c>["POST /v1/admin/groups/{id:guid}/members"] = new("""{"userIds":
/// ["{{user_id}}"]}""", "group_id")</c>. The key is the route as tests name it (method, pattern, no slash at its end).
/// The body has a placeholder in double braces wherever an id is: the name of a column that ids come from. What follows the body
/// says the same for the pattern's parameters, in their order. With these filled in from one's own enterprise the route must answer
/// 2xx, so that the test is not one of bad requests.
/// </para>
/// <para>
/// Placeholders: <c>user_id</c> and <c>email</c> (an analyst of one's own), <c>admin_id</c> (the one who calls), <c>session_id</c> (another of
/// the caller's), <c>api_key_id</c>, <c>group_id</c>, <c>scim_group_id</c>, <c>role_name</c>, <c>spare_role_name</c> (nobody's), <c>enterprise_id</c>, and the last column of the key of every
/// other table (<c>policy_id</c>, say), a row of which <see cref="RowGenerator"/> has made; <c>new</c> is a word nobody has used.
/// With <c>any:</c> before it the place takes whatever id is put there, since it is a name that the enterprise gives and not a
/// reference: the answer may then be 2xx, but must still be the same for another's id as for no one's.
/// </para>
/// <para>
/// A route needs no line when it has one parameter and no body, or no id at all: which ids fit is then found by trying.
/// </para>
/// </remarks>
internal static partial class SampleBodies
{
    /// <summary>A well-meant request.</summary>
    /// <param name="Json">The body, or null: none.</param>
    /// <param name="Path">The pattern's parameters in their order, as names of placeholders.</param>
    internal sealed record Sample(string? Json, params string[] Path)
    {
        /// <summary>Why even one's own ids are not answered with 2xx here: another proof is needed that the test cannot give.</summary>
        public string? OwnFails { get; init; }

        /// <summary>The names of the placeholders in the body, in their order.</summary>
        public IReadOnlyList<string> Slots =>
            [.. Placeholder().Matches(Json ?? "").Select(match => match.Groups[1].Value).Where(name => name != "new")];

        /// <summary>The body with its placeholders filled in.</summary>
        /// <param name="value">Takes a placeholder's place among <see cref="Slots"/> and its name.</param>
        public string? Filled(Func<int, string, string> value)
        {
            int slot = 0;
            return Json is null
                ? null
                : Placeholder()
                    .Replace(
                        Json,
                        match =>
                            match.Groups[1].Value == "new"
                                ? "new-" + Guid.NewGuid().ToString("N")[..8]
                                : value(slot++, match.Groups[1].Value)
                    );
        }
    }

    private const string Described = "it names a part of the protocol and no row";

    private const string Provider =
        """{"name":"{{new}}","issuer":"https://login.walls.example","clientId":"a client","domains":["{{new}}.example"],"defaultRoles":["{{role_name}}"]}""";

    private const string Policy = """
        {"name":"{{new}}","effect":"FORBID","features":["login"],
         "principals":{"users":["{{any:user_id}}"],"roles":["{{role_name}}"],"groups":["{{group_id}}"],"apiKeys":["{{api_key_id}}"]}}
        """;

    private const string Limit =
        """{"featureName":"login","scope":"USER","subject":"{{any:user_id}}","limitValue":100,"windowType":"DAILY","action":"BLOCK"}""";

    private const string RoleLimit =
        """{"featureName":"login","scope":"ROLE","subject":"{{role_name}}","limitValue":100,"windowType":"DAILY","action":"BLOCK"}""";

    private const string Group = """
        {"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"{{new}}","members":[{"value":"{{user_id}}"}]}
        """;

    private static readonly Dictionary<string, Sample> s_samples = new()
    {
        // Sending and asking: users and events are the sender's own names for them, kept under the sender's enterprise.
        ["POST /v1/usage/events"] = new(
            """{"userId":"{{any:user_id}}","featureName":"login","eventId":"{{any:event_id}}"}"""
        ),
        ["POST /v1/usage/check"] = new("""{"checks":[{"userId":"{{any:user_id}}","featureName":"login"}]}"""),
        ["POST /v1/usage/reservations"] = new("""{"userId":"{{any:user_id}}","featureName":"login"}"""),
        ["POST /v1/usage/reservations/{reservationId:guid}/commit"] = new("{}", "reservation_id")
        {
            OwnFails = "the generated one has expired",
        },
        ["GET /v1/dashboard/users/{userId}/analytics"] = new(null, "user_id")
        {
            OwnFails = "nobody has used anything yet",
        },
        // API keys.
        ["PUT /v1/admin/api-keys/{id:guid}"] = new("""{"name":"{{new}}"}""", "api_key_id"),
        ["POST /v1/admin/api-keys/{id:guid}/rotate"] = new("""{"overlapHours":1}""", "api_key_id"),
        // People.
        ["POST /v1/admin/users"] = new("""{"email":"{{new}}@walls.example","roles":["{{role_name}}"]}"""),
        ["PUT /v1/admin/users/{userId:guid}"] = new("""{"roles":["{{role_name}}"],"active":true}""", "user_id"),
        ["POST /v1/admin/users/{userId:guid}/invitation"] = new(null, "user_id")
        {
            OwnFails = "only who has not joined is invited again",
        },
        ["DELETE /v1/admin/users/{userId:guid}/sessions/{sessionId:guid}"] = new(null, "admin_id", "session_id"),
        ["POST /people"] = new("""{"email":"{{new}}@walls.example","roles":"{{role_name}}"}"""),
        ["POST /people/{userId:guid}"] = new("""{"roles":"{{role_name}}"}""", "user_id"),
        ["POST /people/{userId:guid}/sessions/{sessionId:guid}/end"] = new(null, "admin_id", "session_id"),
        ["PUT /v1/platform/enterprises/{enterpriseId:guid}"] = new("""{"name":"{{new}}"}""", "enterprise_id"),
        // Roles and groups.
        ["PUT /v1/admin/roles/{roleName}"] = new("""{"permissions":["usage:read"]}""", "role_name"),
        ["DELETE /v1/admin/roles/{roleName}"] = new(null, "spare_role_name"),
        ["POST /v1/admin/groups"] = new("""{"name":"{{new}}","roles":["{{role_name}}"]}"""),
        ["PUT /v1/admin/groups/{groupId:guid}"] = new("""{"name":"{{new}}","roles":["{{role_name}}"]}""", "group_id"),
        ["PUT /v1/admin/groups/{groupId:guid}/members/{userId:guid}"] = new(null, "group_id", "user_id"),
        ["DELETE /v1/admin/groups/{groupId:guid}/members/{userId:guid}"] = new(null, "group_id", "user_id"),
        // Single sign-on.
        ["POST /v1/admin/identity-providers"] = new(Provider),
        ["PUT /v1/admin/identity-providers/{providerId:guid}"] = new(Provider, "provider_id"),
        // Policies.
        ["POST /v1/admin/policies"] = new(Policy),
        ["PUT /v1/admin/policies/{id:guid}"] = new(Policy, "policy_id"),
        ["POST /v1/admin/policies/simulate"] = new($$"""{"policy":{{Policy}},"replaces":"{{"{{policy_id}}"}}"}"""),
        ["POST /v1/admin/decisions/{receiptId:guid}/reclassify"] = new("""{"reason":"agreed"}""", "receipt_id")
        {
            OwnFails = "its event is in no segment of the log; ReclassifyTests has one that is",
        },
        ["POST /decisions/{receiptId:guid}/reclassify"] = new("""{"reason":"agreed"}""", "receipt_id")
        {
            OwnFails = "its event is in no segment of the log; ReclassifyTests has one that is",
        },
        // Property rules.
        ["PUT /v1/admin/privacy/property-rules/{id:guid}"] = new(
            """{"property":"{{new}}","action":"DROP"}""",
            "rule_id"
        ),
        // Violations.
        ["POST /v1/dashboard/violations/resolve"] = new("""{"ids":["{{violation_id}}"],"reason":"settled"}"""),
        ["POST /v1/dashboard/violations/{violationId:guid}/resolve"] = new("""{"reason":"settled"}""", "violation_id"),
        ["POST /violations/resolve"] = new("""{"ids":"{{violation_id}}","reason":"settled"}"""),
        // Limits.
        ["POST /v1/admin/usage/limits"] = new(RoleLimit),
        ["PUT /v1/admin/usage/limits/{limitId:guid}"] = new(Limit, "limit_id"),
        ["POST /v1/admin/usage/limits/backtest"] = new($$"""{"limit":{{RoleLimit}}}"""),
        // Anomalies.
        ["POST /v1/dashboard/anomalies/{anomalyId:guid}/feedback"] = new("""{"isExpected":false}""", "anomaly_id"),
        ["POST /anomalies/{anomalyId:guid}/feedback"] = new("""{"isExpected":"false"}""", "anomaly_id"),
        // Alerts and webhooks.
        ["POST /v1/admin/alerts"] = new(
            """{"featureName":"login","thresholdPct":80,"windowType":"DAILY","notification":"WEBHOOK","recipients":["{{webhook_id}}"]}"""
        ),
        ["PUT /v1/admin/alerts/{alertId:guid}"] = new(
            """{"featureName":"login","thresholdPct":80,"windowType":"DAILY","notification":"WEBHOOK","recipients":["{{webhook_id}}"]}""",
            "alert_id"
        ),
        ["POST /v1/admin/webhooks"] = new("""{"name":"{{new}}","url":"https://hooks.walls.example/usage"}"""),
        ["PUT /v1/admin/webhooks/{webhookId:guid}"] = new(
            """{"name":"{{new}}","url":"https://hooks.walls.example/usage"}""",
            "webhook_id"
        ),
        ["POST /alerts/rules"] = new(
            """{"featureName":"login","threshold":"80","of":"PCT","windowType":"DAILY","notification":"WEBHOOK","recipients":"{{webhook_id}}"}"""
        ),
        ["POST /alerts/rules/{alertId:guid}"] = new(
            """{"featureName":"login","threshold":"80","of":"PCT","windowType":"DAILY","notification":"WEBHOOK","recipients":"{{webhook_id}}"}""",
            "alert_id"
        ),
        ["POST /alerts/webhooks"] = new("""{"name":"{{new}}","url":"https://hooks.walls.example/usage"}"""),
        ["POST /alerts/webhooks/{webhookId:guid}"] = new(
            """{"name":"{{new}}","url":"https://hooks.walls.example/usage"}""",
            "webhook_id"
        ),
        // Audit.
        ["GET /v1/audit/{sequence}"] = new(null, "entry_id") { OwnFails = "an entry has a number in one's own chain" },
        ["POST /v1/audit/destinations"] = new(
            """{"name":"{{new}}","kind":"WEBHOOK","address":"https://hooks.walls.example/audit"}"""
        ),
        ["PUT /v1/audit/destinations/{destinationId:guid}"] = new(
            """{"name":"{{new}}","kind":"WEBHOOK","address":"https://hooks.walls.example/audit"}""",
            "destination_id"
        ),
        ["POST /v1/audit/destinations/{destinationId:guid}/replay"] = new("""{"fromSequence":1}""", "destination_id"),
        // Provisioning.
        ["POST /scim/v2/Users"] = new(
            """{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"{{new}}@walls.example"}"""
        ),
        ["PUT /scim/v2/Users/{id}"] = new(
            """{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"{{any:email}}"}""",
            "user_id"
        ),
        ["PATCH /scim/v2/Users/{id}"] = new(
            """{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"active","value":true}]}""",
            "user_id"
        ),
        ["POST /scim/v2/Groups"] = new(Group),
        ["PUT /scim/v2/Groups/{id}"] = new(Group, "scim_group_id"),
        ["PATCH /scim/v2/Groups/{id}"] = new(
            """
            {"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
             "Operations":[{"op":"add","path":"members","value":[{"value":"{{user_id}}"}]}]}
            """,
            "scim_group_id"
        ),
        ["GET /scim/v2/Groups/{id}"] = new(null, "scim_group_id"),
        ["DELETE /scim/v2/Groups/{id}"] = new(null, "scim_group_id"),
        ["GET /scim/v2/ResourceTypes/{id}"] = new(null, "user_id") { OwnFails = Described },
        ["GET /scim/v2/Schemas/{id}"] = new(null, "user_id") { OwnFails = Described },
        ["GET /scim/v2/{**other}"] = new(null, "user_id") { OwnFails = Described },
        ["POST /scim/v2/{**other}"] = new("{}", "user_id") { OwnFails = Described },
    };

    /// <summary>The request for a route, or null: none is written down.</summary>
    public static Sample? For(Route route) => s_samples.GetValueOrDefault(route.Name);

    /// <summary>Fails when lines are left of routes that are gone.</summary>
    public static void AssertAllAreRoutes(IEnumerable<Route> routes) =>
        Assert.Equal([], s_samples.Keys.Except(routes.Select(route => route.Name)));

    /// <summary>What to do about a route that needs a line.</summary>
    public static string Missing(Route route, string why) =>
        $"{route.Name}: {why}. Add a line for it to s_samples in tests/UsageMonitor.Tests/Security/SampleBodies.cs; its top says how.";

    [GeneratedRegex(@"\{\{((?:any:)?\w+)\}\}")]
    private static partial Regex Placeholder();
}
