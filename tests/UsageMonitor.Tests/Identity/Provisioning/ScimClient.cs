using System.Text;
using System.Text.Json;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Identity.Access;
using Xunit;

namespace UsageMonitor.Tests.Identity.Provisioning;

/// <summary>A provisioning system with a key of an enterprise.</summary>
internal sealed class ScimClient
{
    private readonly RunningServer _server;
    private readonly string _key;

    private ScimClient(RunningServer server, AccessTester tester, string key) =>
        (_server, Tester, _key) = (server, tester, key);

    public AccessTester Tester { get; }

    public static async Task<ScimClient> CreateAsync(RunningServer server)
    {
        AccessTester tester = await AccessTester.CreateAsync(server);
        return new ScimClient(server, tester, await tester.Acme.CreateKeyAsync(Permissions.ProvisioningWrite));
    }

    public async Task<HttpResponseMessage> SendAsync(string method, string path, string? json = null)
    {
        StringContent? content = json is null ? null : new StringContent(json, Encoding.UTF8, "application/scim+json");
        return await _server.SendAsync(new HttpMethod(method), "/scim/v2" + path, _key, content);
    }

    /// <summary>The answer, which must have this status and SCIM's media type.</summary>
    public async Task<JsonElement> SendAsync(string method, string path, string? json, int status)
    {
        using HttpResponseMessage response = await SendAsync(method, path, json);
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True((int)response.StatusCode == status, $"{method} {path}: {response.StatusCode}: {body}");
        if (status == 204)
        {
            Assert.Empty(body);
            return default;
        }

        Assert.Equal("application/scim+json", response.Content.Headers.ContentType?.MediaType);
        return AccessTester.Json(body);
    }

    public async Task AssertErrorAsync(string method, string path, string? json, int status, string? scimType)
    {
        JsonElement error = await SendAsync(method, path, json, status);
        Assert.Equal("urn:ietf:params:scim:api:messages:2.0:Error", error.GetProperty("schemas")[0].GetString());
        Assert.Equal($"{status}", error.GetProperty("status").GetString());
        Assert.Equal(scimType, error.TryGetProperty("scimType", out JsonElement type) ? type.GetString() : null);
        Assert.NotEmpty(error.GetProperty("detail").GetString()!);
    }

    public async Task<string> CreateUserAsync(string? userName = null, string more = "")
    {
        userName ??= NewAddress();
        JsonElement made = await SendAsync(
            "POST",
            "/Users",
            $$"""{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"{{userName}}"{{more}}}""",
            201
        );
        return made.GetProperty("id").GetString()!;
    }

    public async Task<string> CreateGroupAsync(string name, params string[] members)
    {
        JsonElement made = await SendAsync(
            "POST",
            "/Groups",
            $$"""
            {"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"{{name}}",
             "members":[{{string.Join(',', members.Select(id => $$"""{"value":"{{id}}"}"""))}}]}
            """,
            201
        );
        return made.GetProperty("id").GetString()!;
    }

    public Task<JsonElement> PatchAsync(string path, int status, params string[] operations) =>
        SendAsync("PATCH", path, Patch(operations), status);

    public static string Patch(params string[] operations) =>
        $$"""
            {"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{{string.Join(
                ',',
                operations
            )}}]}
            """;

    public Task SetActiveAsync(string id, bool active) =>
        PatchAsync(
            $"/Users/{id}",
            200,
            $$"""{"op":"replace","path":"active","value":{{(active ? "true" : "false")}}}"""
        );

    /// <summary>How many, and the ids of those on the page.</summary>
    public async Task<(int Total, string[] Ids)> FindAsync(string kind, string filter, string more = "")
    {
        JsonElement list = await SendAsync("GET", $"/{kind}?filter={Uri.EscapeDataString(filter)}{more}", null, 200);
        return (
            list.GetProperty("totalResults").GetInt32(),
            [.. list.GetProperty("Resources").EnumerateArray().Select(found => found.GetProperty("id").GetString()!)]
        );
    }

    /// <summary>Signs the person in, as single sign-on does.</summary>
    public Task<IssuedTokens> SignInAsync(string id, string userName) =>
        Tester.SignInAsync(new Person(Tester.EnterpriseId, Guid.Parse(id), userName, []));

    public static string NewAddress() => $"p{Guid.NewGuid():N}@acme.example";
}
