using System.Net;
using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.Provisioning;

/// <summary>
/// The requests that Microsoft Entra ID documents to send ("Tutorial: Develop and plan provisioning for a SCIM endpoint"),
/// in its spelling: operations with a capital letter, truth values as texts, members removed by value.
/// </summary>
public sealed class EntraTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Users_WhenEntraGoesThroughTheirLife_ShouldBeAsItSays()
    {
        ScimClient entra = await ScimClient.CreateAsync(fixture.Server);
        string address = ScimClient.NewAddress();

        // Does it exist? An answer without it is an answer, not an error.
        JsonElement none = await entra.SendAsync("GET", $"/Users?filter=userName eq \"{address}\"", null, 200);
        Assert.Equal(0, none.GetProperty("totalResults").GetInt32());
        Assert.Equal("urn:ietf:params:scim:api:messages:2.0:ListResponse", none.GetProperty("schemas")[0].GetString());

        JsonElement made = await entra.SendAsync(
            "POST",
            "/Users",
            $$"""
            {
              "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User",
                          "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
              "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
              "userName": "{{address.ToUpperInvariant()}}",
              "active": true,
              "emails": [{"primary": true, "type": "work", "value": "{{address}}"}],
              "meta": {"resourceType": "User"},
              "name": {"formatted": "givenName familyName", "familyName": "familyName", "givenName": "givenName"},
              "roles": [],
              "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Sales"}
            }
            """,
            201
        );
        string id = made.GetProperty("id").GetString()!;
        Assert.Equal(address, made.GetProperty("userName").GetString());
        Assert.Equal("0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef", made.GetProperty("externalId").GetString());
        Assert.Equal("givenName", made.GetProperty("name").GetProperty("givenName").GetString());
        Assert.True(made.GetProperty("active").GetBoolean());
        Assert.EndsWith($"/scim/v2/Users/{id}", made.GetProperty("meta").GetProperty("location").GetString()!);

        Assert.Equal([id], (await entra.FindAsync("Users", $"userName eq \"{address}\"")).Ids);
        Assert.Equal(
            [id],
            (await entra.FindAsync("Users", "externalId eq \"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef\"")).Ids
        );
        Assert.Equal([id], (await entra.FindAsync("Users", $"emails[type eq \"work\"].value eq \"{address}\"")).Ids);
        Assert.Equal([id], (await entra.FindAsync("Users", $"id eq \"{id}\" and userName eq \"{address}\"")).Ids);

        // Several attributes of several values in one request.
        string work = ScimClient.NewAddress();
        JsonElement changed = await entra.PatchAsync(
            $"/Users/{id}",
            200,
            $$"""{"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "{{work}}"}""",
            """{"op": "Replace", "path": "name.familyName", "value": "updatedFamilyName"}""",
            """{"op": "Add", "path": "displayName", "value": "Updated Name"}""",
            """{"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "value": "x"}"""
        );
        Assert.Equal(work, changed.GetProperty("emails")[0].GetProperty("value").GetString());
        Assert.Equal(1, changed.GetProperty("emails").GetArrayLength());
        Assert.Equal("updatedFamilyName", changed.GetProperty("name").GetProperty("familyName").GetString());
        Assert.Equal("Updated Name", changed.GetProperty("displayName").GetString());
        Assert.Equal([id], (await entra.FindAsync("Users", $"emails.value eq \"{work}\"")).Ids);
        Assert.Equal(0, (await entra.FindAsync("Users", $"emails.value eq \"{address}\"")).Total);

        // The address to sign in with changes; the person stays the same.
        string renamed = ScimClient.NewAddress();
        JsonElement moved = await entra.PatchAsync(
            $"/Users/{id}",
            200,
            $$"""{"op": "Replace", "path": "userName", "value": "{{renamed}}"}"""
        );
        Assert.Equal((id, renamed), (moved.GetProperty("id").GetString(), moved.GetProperty("userName").GetString()));

        // Disabled, with the truth value as a text; then enabled without a path.
        string token = (await entra.SignInAsync(id, renamed)).AccessToken;
        Assert.Equal([], await entra.Tester.PermissionsAsync(token));
        JsonElement disabled = await entra.PatchAsync(
            $"/Users/{id}",
            200,
            """{"op": "Replace", "path": "active", "value": "False"}"""
        );
        Assert.False(disabled.GetProperty("active").GetBoolean());
        Assert.Null(await entra.Tester.PermissionsAsync(token));
        JsonElement enabled = await entra.PatchAsync(
            $"/Users/{id}",
            200,
            """{"op": "replace", "value": {"active": "True", "name.givenName": "again"}}"""
        );
        Assert.True(enabled.GetProperty("active").GetBoolean());
        Assert.Equal("again", enabled.GetProperty("name").GetProperty("givenName").GetString());
        Assert.Null(await entra.Tester.PermissionsAsync(token)); // an ended session stays ended
        token = (await entra.SignInAsync(id, renamed)).AccessToken;
        Assert.NotNull(await entra.Tester.PermissionsAsync(token));

        await entra.SendAsync("DELETE", $"/Users/{id}", null, 204);
        Assert.Null(await entra.Tester.PermissionsAsync(token));
        await entra.AssertErrorAsync("GET", $"/Users/{id}", null, 404, null);
        await entra.AssertErrorAsync("DELETE", $"/Users/{id}", null, 404, null);
        Assert.Equal(0, (await entra.FindAsync("Users", $"userName eq \"{renamed}\"")).Total);
    }

    [Fact]
    public async Task Groups_WhenEntraChangesTheirMembers_ShouldGiveAndTakeTheRolesAnAdminGave()
    {
        ScimClient entra = await ScimClient.CreateAsync(fixture.Server);
        string address = ScimClient.NewAddress();
        string person = await entra.CreateUserAsync(address);
        string other = await entra.CreateUserAsync();
        string token = (await entra.SignInAsync(person, address)).AccessToken;

        Assert.Equal(
            0,
            (await entra.FindAsync("Groups", "displayName eq \"Analysts\"", "&excludedAttributes=members")).Total
        );
        JsonElement made = await entra.SendAsync(
            "POST",
            "/Groups",
            """
            {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group", "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
             "externalId": "8aa1a0c0-c4c3-4bc0-b4a5-2ef676900159", "displayName": "Analysts", "meta": {"resourceType": "Group"}}
            """,
            201
        );
        string group = made.GetProperty("id").GetString()!;
        Assert.Equal([group], (await entra.FindAsync("Groups", "displayName eq \"analysts\"")).Ids);
        Assert.Equal(
            [group],
            (await entra.FindAsync("Groups", "externalId eq \"8aa1a0c0-c4c3-4bc0-b4a5-2ef676900159\"")).Ids
        );

        // Provisioning says who is in it; that its members are analysts, an admin says.
        GroupSummary withRole = await entra.Tester.SendAsync<GroupSummary>(
            HttpMethod.Put,
            $"/v1/admin/groups/{group}",
            new SaveGroupRequest("Analysts", [RolePermissions.Analyst])
        );
        Assert.True(withRole.Provisioned);
        Assert.Equal([], await entra.Tester.PermissionsAsync(token));

        await entra.PatchAsync(
            $"/Groups/{group}",
            204,
            $$"""{"op": "Add", "path": "members", "value": [{"$ref": null, "value": "{{person}}"}, {"value": "{{other}}"}]}"""
        );
        Assert.Equal(
            RolePermissions.BuiltIn[RolePermissions.Analyst].Order(StringComparer.Ordinal),
            await entra.Tester.PermissionsAsync(token)
        );
        Assert.Equal([group], (await entra.FindAsync("Groups", $"id eq \"{group}\" and members eq \"{person}\"")).Ids);

        JsonElement without = await entra.SendAsync("GET", $"/Groups/{group}?excludedAttributes=members", null, 200);
        Assert.False(without.TryGetProperty("members", out _));
        JsonElement whole = await entra.SendAsync("GET", $"/Groups/{group}", null, 200);
        Assert.Equal(2, whole.GetProperty("members").GetArrayLength());
        JsonElement only = await entra.SendAsync("GET", $"/Groups/{group}?attributes=members.value", null, 200);
        Assert.Equal(["schemas", "id", "members"], only.EnumerateObject().Select(attribute => attribute.Name));
        Assert.All(
            only.GetProperty("members").EnumerateArray(),
            member => Assert.Equal(["value"], member.EnumerateObject().Select(part => part.Name))
        );

        await entra.PatchAsync(
            $"/Groups/{group}",
            204,
            $$"""{"op": "Remove", "path": "members", "value": [{"$ref": null, "value": "{{person}}"}]}"""
        );
        Assert.Equal([], await entra.Tester.PermissionsAsync(token));

        await entra.PatchAsync(
            $"/Groups/{group}",
            204,
            """{"op": "Replace", "path": "displayName", "value": "Number people"}""",
            $$"""{"op": "Add", "path": "members", "value": {"value": "{{person}}"} }"""
        );
        Assert.NotEmpty((await entra.Tester.PermissionsAsync(token))!);
        GroupSummary renamed = await entra.Tester.SendAsync<GroupSummary>(HttpMethod.Get, $"/v1/admin/groups/{group}");
        Assert.Equal(("Number people", 2L), (renamed.Name, renamed.Members));

        await entra.SendAsync("DELETE", $"/Groups/{group}", null, 204);
        Assert.Equal([], await entra.Tester.PermissionsAsync(token));
        await entra.AssertErrorAsync("GET", $"/Groups/{group}", null, 404, null);
    }

    [Fact]
    public async Task Members_WhenAnAdminTriesToChangeAProvisionedGroup_ShouldStayTheProvidersOwn()
    {
        ScimClient entra = await ScimClient.CreateAsync(fixture.Server);
        string person = await entra.CreateUserAsync();
        string group = await entra.CreateGroupAsync("Analysts");
        string path = $"/v1/admin/groups/{group}";

        await entra.Tester.AssertProblemAsync(
            HttpMethod.Put,
            $"{path}/members/{person}",
            entra.Tester.Admin,
            null,
            409,
            "provisioned_group"
        );
        await entra.Tester.AssertProblemAsync(
            HttpMethod.Put,
            path,
            entra.Tester.Admin,
            new SaveGroupRequest("Another name"),
            409,
            "provisioned_group"
        );
        Assert.Equal(
            HttpStatusCode.NoContent,
            await entra.Tester.StatusAsync(HttpMethod.Delete, path, entra.Tester.Admin)
        );
    }
}
