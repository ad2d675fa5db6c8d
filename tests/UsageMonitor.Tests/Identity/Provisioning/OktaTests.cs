using System.Text.Json;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.Provisioning;

/// <summary>
/// The requests that Okta documents to send ("Okta and SCIM Version 2.0"): a test query, whole resources by PUT, operations
/// without a path, members by <c>members[value eq "…"]</c>; it deactivates and never deletes.
/// </summary>
public sealed class OktaTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Users_WhenOktaGoesThroughTheirLife_ShouldBeAsItSays()
    {
        ScimClient okta = await ScimClient.CreateAsync(fixture.Server);
        string address = ScimClient.NewAddress();
        JsonElement first = await okta.SendAsync("GET", "/Users?startIndex=1&count=2", null, 200);
        Assert.Equal(1, first.GetProperty("totalResults").GetInt32()); // the admin, whom nobody provisioned
        JsonElement none = await okta.SendAsync(
            "GET",
            $"/Users?filter=userName%20eq%20%22{Uri.EscapeDataString(address)}%22&startIndex=1&count=100",
            null,
            200
        );
        Assert.Equal(0, none.GetProperty("totalResults").GetInt32());

        string whole = $$"""
            {
              "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
              "userName": "{{address}}",
              "name": {"givenName": "Test", "familyName": "User"},
              "emails": [{"primary": true, "value": "{{address}}", "type": "work"}],
              "displayName": "Test User",
              "locale": "en-US",
              "externalId": "00ujl29u0le5T6Aj10h7",
              "groups": [],
              "password": "1mz050nq",
              "active": true
            }
            """;
        JsonElement made = await okta.SendAsync("POST", "/Users", whole, 201);
        string id = made.GetProperty("id").GetString()!;
        Assert.False(made.TryGetProperty("password", out _));
        await okta.AssertErrorAsync("POST", "/Users", whole, 409, "uniqueness");

        // The whole resource again, with a change; what it no longer has is gone.
        JsonElement changed = await okta.SendAsync(
            "PUT",
            $"/Users/{id}",
            $$"""
            {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": "{{id}}", "userName": "{{address}}",
             "name": {"givenName": "Another", "middleName": "Excited", "familyName": "User"},
             "emails": [{"primary": true, "value": "{{address}}", "type": "work", "display": "x"}],
             "active": true, "groups": [], "meta": {"resourceType": "User"} }
            """,
            200
        );
        Assert.Equal("Another", changed.GetProperty("name").GetProperty("givenName").GetString());
        Assert.Equal("Another User", changed.GetProperty("displayName").GetString());
        Assert.False(changed.TryGetProperty("externalId", out _));
        Assert.Equal(0, (await okta.FindAsync("Users", "externalId eq \"00ujl29u0le5T6Aj10h7\"")).Total);

        string token = (await okta.SignInAsync(id, address)).AccessToken;
        Assert.NotNull(await okta.Tester.PermissionsAsync(token));
        JsonElement off = await okta.PatchAsync(
            $"/Users/{id}",
            200,
            """{"op": "replace", "value": {"active": false}}"""
        );
        Assert.False(off.GetProperty("active").GetBoolean());
        Assert.Null(await okta.Tester.PermissionsAsync(token));

        // A whole resource that does not say whether the person is active brings nobody back; one that does, does.
        string silent = $$"""{"schemas": [], "userName": "{{address}}"}""";
        Assert.False((await okta.SendAsync("PUT", $"/Users/{id}", silent, 200)).GetProperty("active").GetBoolean());
        JsonElement back = await okta.SendAsync("PUT", $"/Users/{id}", whole, 200);
        Assert.True(back.GetProperty("active").GetBoolean());
        token = (await okta.SignInAsync(id, address)).AccessToken;
        Assert.NotNull(await okta.Tester.PermissionsAsync(token));
    }

    [Fact]
    public async Task Groups_WhenOktaPushesThem_ShouldHaveItsMembers()
    {
        ScimClient okta = await ScimClient.CreateAsync(fixture.Server);
        string one = await okta.CreateUserAsync();
        string two = await okta.CreateUserAsync();
        string three = await okta.CreateUserAsync();
        await okta.SendAsync("GET", "/Groups?startIndex=1&count=100", null, 200);
        string group = await okta.CreateGroupAsync("Test SCIMv2", one);
        await okta.AssertErrorAsync(
            "POST",
            "/Groups",
            """{"displayName": "TEST scimv2", "members": []}""",
            409,
            "uniqueness"
        );

        await okta.PatchAsync(
            $"/Groups/{group}",
            204,
            $$"""{"op": "replace", "value": {"id": "{{group}}", "displayName": "Renamed"} }"""
        );
        await okta.PatchAsync(
            $"/Groups/{group}",
            204,
            $$"""{"op": "remove", "path": "members[value eq \"{{one}}\"]"}""",
            $$"""{"op": "add", "path": "members", "value": [{"value": "{{two}}", "display": "a"}, {"value": "{{three}}"}]}"""
        );
        Assert.Equal(new[] { two, three }.Order(), await MembersAsync(okta, group));

        await okta.PatchAsync(
            $"/Groups/{group}",
            204,
            $$"""{"op": "replace", "path": "members", "value": [{"value": "{{one}}"}]}"""
        );
        Assert.Equal([one], await MembersAsync(okta, group));
        JsonElement put = await okta.SendAsync(
            "PUT",
            $"/Groups/{group}",
            $$"""{"displayName": "Renamed", "members": [{"value": "{{two}}"}, {"value": "{{two}}"}]}""",
            200
        );
        Assert.Equal("Renamed", put.GetProperty("displayName").GetString());
        Assert.Equal([two], await MembersAsync(okta, group));
        await okta.PatchAsync($"/Groups/{group}", 204, """{"op": "remove", "path": "members"}""");
        Assert.Empty(await MembersAsync(okta, group));
    }

    private static async Task<IEnumerable<string>> MembersAsync(ScimClient okta, string group) =>
        (await okta.SendAsync("GET", $"/Groups/{group}", null, 200))
            .GetProperty("members")
            .EnumerateArray()
            .Select(member => member.GetProperty("value").GetString()!)
            .Order();
}
