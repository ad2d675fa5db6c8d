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
/// Placeholders: <c>user_id</c> (an analyst of one's own), <c>admin_id</c> (the one who calls), <c>session_id</c> (another of
/// the caller's), <c>api_key_id</c>, <c>group_id</c>, <c>role_name</c>, <c>enterprise_id</c>, and the last column of the key of every
/// other table (<c>policy_id</c>, say), a row of which <see cref="RowGenerator"/> has made; <c>new</c> is a word nobody has used.
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
        /// <summary>Why an id that is not one's own is answered with 2xx: it is a name that the enterprise gives, not a reference.</summary>
        public string? TakesAnyId { get; init; }

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

    private static readonly Dictionary<string, Sample> s_samples = new()
    {
        ["POST /v1/usage/events"] = new("""{"userId":"{{user_id}}","featureName":"login","eventId":"{{event_id}}"}""")
        {
            TakesAnyId =
                "an event's user and id are the sender's own names for them, kept under the sender's enterprise",
        },
        ["GET /v1/dashboard/users/{userId}/analytics"] = new(null, "user_id")
        {
            OwnFails = "nobody has used anything yet",
        },
    };

    /// <summary>The request for a route, or null: none is written down.</summary>
    public static Sample? For(Route route) => s_samples.GetValueOrDefault(route.Name);

    /// <summary>Fails when lines are left of routes that are gone.</summary>
    public static void AssertAllAreRoutes(IEnumerable<Route> routes) =>
        Assert.Equal([], s_samples.Keys.Except(routes.Select(route => route.Name)));

    /// <summary>What to do about a route that needs a line.</summary>
    public static string Missing(Route route, string why) =>
        $"{route.Name}: {why}. Add a line for it to s_samples in tests/UsageMonitor.Tests/Security/SampleBodies.cs; its top says how.";

    [GeneratedRegex(@"\{\{(\w+)\}\}")]
    private static partial Regex Placeholder();
}
