using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Identity.Access;
using Xunit;

namespace UsageMonitor.Tests.Identity.Provisioning;

/// <summary>What a provisioning system, or who has taken its key, cannot do.</summary>
public sealed class ScimSafetyTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Deactivate_WhenThePersonIsSignedIn_ShouldEndEverythingWithinASecond()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string address = ScimClient.NewAddress();
        string id = await scim.CreateUserAsync(address);
        const string Password = "a provisioned person's password";
        await scim.Tester.ExecuteAsync(
            "UPDATE users SET password_hash = $1 WHERE user_id = $2",
            fixture.Server.Services.GetRequiredService<Passwords>().Hash(Password),
            Guid.Parse(id)
        );
        LoginResponse login = await fixture.Server.LoginAsync(address, Password);
        Assert.Equal([RolePermissions.Employee], login.User.Roles);
        Assert.NotNull(await scim.Tester.PermissionsAsync(login.AccessToken));

        await scim.SetActiveAsync(id, false);

        long deactivatedAt = Stopwatch.GetTimestamp();
        Assert.Null(await scim.Tester.PermissionsAsync(login.AccessToken));
        Assert.InRange(Stopwatch.GetElapsedTime(deactivatedAt), TimeSpan.Zero, TimeSpan.FromSeconds(1));
        Assert.Equal(HttpStatusCode.Unauthorized, await RefreshAsync(login));
        using (HttpResponseMessage again = await LoginAsync(address, Password))
        {
            await RunningServer.AssertProblemAsync(again, 401, "invalid_credentials");
        }

        await scim.SetActiveAsync(id, true);
        Assert.Equal(HttpStatusCode.Unauthorized, await RefreshAsync(login));
        Assert.NotNull(
            await scim.Tester.PermissionsAsync((await fixture.Server.LoginAsync(address, Password)).AccessToken)
        );

        await scim.SendAsync("DELETE", $"/Users/{id}", null, 204);
        using HttpResponseMessage gone = await LoginAsync(address, Password);
        await RunningServer.AssertProblemAsync(gone, 401, "invalid_credentials");
    }

    [Fact]
    public async Task Admin_WhenNobodyProvisionedThemAndTheyAreTheLast_ShouldStay()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string admin = scim.Tester.Acme.Admin.User.UserId.ToString();
        // An admin whom provisioning made, or whom one of its groups makes one, is no way in beyond it.
        string provisioned = await scim.CreateUserAsync();
        await scim.Tester.GiveRoleAsync(Guid.Parse(provisioned), RolePermissions.EnterpriseAdmin);
        Person local = await scim.Tester.AddPersonAsync(RolePermissions.Employee);
        string group = await scim.CreateGroupAsync("Admins", local.UserId.ToString());
        await scim.Tester.SendAsync<GroupSummary>(
            HttpMethod.Put,
            $"/v1/admin/groups/{group}",
            new SaveGroupRequest("Admins", [RolePermissions.EnterpriseAdmin])
        );

        string off = ScimClient.Patch("""{"op":"replace","path":"active","value":false}""");
        await scim.AssertErrorAsync("PATCH", $"/Users/{admin}", off, 403, null);
        await scim.AssertErrorAsync("DELETE", $"/Users/{admin}", null, 403, null);
        string put = $$"""{"userName":"{{scim.Tester.Acme.Admin.User.Email}}","active":false}""";
        await scim.AssertErrorAsync("PUT", $"/Users/{admin}", put, 403, null);
        Assert.NotNull(await scim.Tester.PermissionsAsync(scim.Tester.Admin));

        // With a second one, the first may go; then the second is the last.
        Person second = await scim.Tester.AddPersonAsync(RolePermissions.EnterpriseAdmin);
        await scim.SetActiveAsync(admin, false);
        Assert.Null(await scim.Tester.PermissionsAsync(scim.Tester.Admin));
        await scim.AssertErrorAsync("PATCH", $"/Users/{second.UserId}", off, 403, null);
        await scim.SetActiveAsync(provisioned, false);
        await scim.SetActiveAsync(admin, true);
        await scim.SetActiveAsync(second.UserId.ToString(), false);
    }

    [Fact]
    public async Task Admins_WhenTwoAreDeactivatedAtOnce_ShouldLeaveOne()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        Person second = await scim.Tester.AddPersonAsync(RolePermissions.EnterpriseAdmin);
        string off = ScimClient.Patch("""{"op":"replace","path":"active","value":false}""");

        HttpResponseMessage[] responses = await Task.WhenAll(
            scim.SendAsync("PATCH", $"/Users/{scim.Tester.Acme.Admin.User.UserId}", off),
            scim.SendAsync("PATCH", $"/Users/{second.UserId}", off)
        );

        Assert.Equal([200, 403], responses.Select(response => (int)response.StatusCode).Order());
        Array.ForEach(responses, response => response.Dispose());
    }

    [Fact]
    public async Task UserName_WhenNobodyProvisionedThePerson_ShouldNotChange()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        UsageMonitor.Contracts.SignedInUser admin = scim.Tester.Acme.Admin.User;
        string rename = ScimClient.Patch(
            $$"""{"op":"replace","path":"userName","value":"{{ScimClient.NewAddress()}}"}"""
        );

        await scim.AssertErrorAsync("PATCH", $"/Users/{admin.UserId}", rename, 400, "mutability");

        // What harms nobody may be kept of them.
        JsonElement named = await scim.PatchAsync(
            $"/Users/{admin.UserId}",
            200,
            """{"op":"add","path":"externalId","value":"x-1"}"""
        );
        Assert.Equal(admin.Email, named.GetProperty("userName").GetString());
        Assert.Equal([admin.UserId.ToString()], (await scim.FindAsync("Users", "externalId eq \"x-1\"")).Ids);
        Assert.Equal(0, (await scim.FindAsync("Users", "externalId eq \"X-1\"")).Total);
        Assert.Equal(
            [admin.UserId.ToString()],
            (await scim.FindAsync("Users", $"userName eq \"{admin.Email.ToUpperInvariant()}\"")).Ids
        );
    }

    [Fact]
    public async Task Active_WhenAnAdminDeactivatedThePerson_ShouldNotBeProvisionings()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string id = await scim.CreateUserAsync();
        await scim.Tester.ExecuteAsync("UPDATE users SET deactivated_at = now() WHERE user_id = $1", Guid.Parse(id));

        await scim.SetActiveAsync(id, true);
        await scim.SetActiveAsync(id, false);
        await scim.SetActiveAsync(id, true);

        JsonElement person = await scim.SendAsync("GET", $"/Users/{id}", null, 200);
        Assert.False(person.GetProperty("active").GetBoolean());
    }

    [Fact]
    public async Task Roles_WhenProvisioningSendsThem_ShouldNotBeGiven()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string address = ScimClient.NewAddress();
        string roles =
            ""","roles":[{"value":"EnterpriseAdmin","primary":true}],"entitlements":[{"value":"people:write"}]""";
        string id = await scim.CreateUserAsync(address, roles);
        await scim.PatchAsync(
            $"/Users/{id}",
            200,
            """{"op":"add","path":"roles","value":[{"value":"EnterpriseAdmin"}]}""",
            """{"op":"add","path":"groups","value":[{"value":"EnterpriseAdmin"}]}"""
        );

        Assert.Equal([], await scim.Tester.PermissionsAsync((await scim.SignInAsync(id, address)).AccessToken));
    }

    [Fact]
    public async Task Groups_WhenAnAdminMadeThem_ShouldNotBeSeenOrChanged()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string person = await scim.CreateUserAsync();
        GroupSummary local = await scim.Tester.SendAsync<GroupSummary>(
            HttpMethod.Post,
            "/v1/admin/groups",
            new SaveGroupRequest("Admins", [RolePermissions.EnterpriseAdmin]),
            HttpStatusCode.Created
        );
        string path = $"/Groups/{local.GroupId}";
        string join = ScimClient.Patch($$"""{"op":"add","path":"members","value":[{"value":"{{person}}"}]}""");

        await scim.AssertErrorAsync("GET", path, null, 404, null);
        await scim.AssertErrorAsync("PATCH", path, join, 404, null);
        await scim.AssertErrorAsync("PUT", path, """{"displayName":"Admins"}""", 404, null);
        await scim.AssertErrorAsync("DELETE", path, null, 404, null);
        await scim.AssertErrorAsync("POST", "/Groups", """{"displayName":"admins"}""", 409, "uniqueness");
        Assert.Equal(0, (await scim.FindAsync("Groups", "displayName eq \"Admins\"")).Total);
    }

    [Fact]
    public async Task Resources_WhenTheyAreAnotherEnterprises_ShouldNotExist()
    {
        ScimClient owner = await ScimClient.CreateAsync(fixture.Server);
        ScimClient stranger = await ScimClient.CreateAsync(fixture.Server);
        string address = ScimClient.NewAddress();
        string person = await owner.CreateUserAsync(address, ""","externalId":"shared-id" """);
        string group = await owner.CreateGroupAsync("Analysts", person);
        string ownGroup = await stranger.CreateGroupAsync("Analysts");
        string patch = ScimClient.Patch("""{"op":"replace","path":"active","value":false}""");
        string join = ScimClient.Patch($$"""{"op":"add","path":"members","value":[{"value":"{{person}}"}]}""");

        foreach (
            (string method, string path, string? body) in new (string, string, string?)[]
            {
                ("GET", $"/Users/{person}", null),
                ("PUT", $"/Users/{person}", $$"""{"userName":"{{address}}"}"""),
                ("PATCH", $"/Users/{person}", patch),
                ("DELETE", $"/Users/{person}", null),
                ("GET", $"/Groups/{group}", null),
                ("PUT", $"/Groups/{group}", """{"displayName":"x"}"""),
                ("PATCH", $"/Groups/{group}", join),
                ("DELETE", $"/Groups/{group}", null),
                ("GET", "/Users/not-an-id", null),
                ("GET", "/Me", null),
                ("POST", "/Bulk", "{}"),
            }
        )
        {
            await stranger.AssertErrorAsync(method, path, body, 404, null);
        }

        await stranger.AssertErrorAsync("PATCH", $"/Groups/{ownGroup}", join, 400, "invalidValue");
        foreach (
            string filter in new[]
            {
                $"id eq \"{person}\"",
                $"userName eq \"{address}\"",
                "externalId eq \"shared-id\"",
            }
        )
        {
            Assert.Equal(0, (await stranger.FindAsync("Users", filter)).Total);
        }

        Assert.True((await owner.SendAsync("GET", $"/Users/{person}", null, 200)).GetProperty("active").GetBoolean());
        Assert.Equal(1, (await owner.FindAsync("Groups", $"members eq \"{person}\"")).Total);
    }

    [Fact]
    public async Task Endpoint_WhenTheKeyHasNoSuchScope_ShouldBeRefused()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        string anOperator = (await fixture.Server.LoginOperatorAsync()).AccessToken;

        foreach (string bearer in new[] { tester.Acme.ApiKey, tester.Admin, anOperator })
        {
            foreach (
                string path in new[] { "/scim/v2/Users", "/scim/v2/Groups", "/scim/v2/Schemas", "/scim/v2/nothing" }
            )
            {
                Assert.Equal(HttpStatusCode.Forbidden, await tester.StatusAsync(HttpMethod.Get, path, bearer));
            }
        }

        Assert.Equal(HttpStatusCode.Unauthorized, await tester.StatusAsync(HttpMethod.Get, "/scim/v2/Users", null));
    }

    [Fact]
    public async Task Table_WhenItIsRead_ShouldTellNothingOfThePerson()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string more =
            ""","externalId":"planted-external","displayName":"Planted Display","name":{"givenName":"Plantedgiven"},"emails":[{"value":"planted@elsewhere.example"}]""";
        string id = await scim.CreateUserAsync(null, more);
        await using var owner = NpgsqlDataSource.Create(fixture.Server.Database.OwnerConnectionString);
        await using NpgsqlCommand command = owner.CreateCommand(
            $"""
            SELECT set_config('app.enterprise_id', '{scim.Tester.EnterpriseId}', false);
            SELECT u::text, convert_from(substring(u.provisioned_profile FROM 1 FOR 0), 'UTF8'),
                   encode(u.provisioned_profile || u.display_name || u.email, 'escape'), cardinality(u.provisioned_lookup)
            FROM users u WHERE u.user_id = '{id}'
            """
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        await reader.NextResultAsync(TestContext.Current.CancellationToken);
        Assert.True(await reader.ReadAsync(TestContext.Current.CancellationToken));

        string row = reader.GetString(0) + reader.GetString(2);
        Assert.DoesNotContain("lanted", row, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain(Convert.ToHexString("lanted"u8), row, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(3, reader.GetInt32(3));
    }

    [Fact]
    public async Task Address_WhenItsFormerOwnerMovedOn_ShouldBeAnotherPersons()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string address = ScimClient.NewAddress();
        string first = await scim.CreateUserAsync(address);
        await scim.PatchAsync(
            $"/Users/{first}",
            200,
            $$"""{"op":"replace","path":"userName","value":"{{ScimClient.NewAddress()}}"}"""
        );

        string second = await scim.CreateUserAsync(address);

        Assert.NotEqual(first, second);
        Assert.Equal([second], (await scim.FindAsync("Users", $"userName eq \"{address}\"")).Ids);
        string take = ScimClient.Patch($$"""{"op":"replace","path":"userName","value":"{{address}}"}""");
        await scim.AssertErrorAsync("PATCH", $"/Users/{first}", take, 409, "uniqueness");
    }

    [Theory]
    [InlineData("POST", "/Users", "{", "invalidSyntax")]
    [InlineData("POST", "/Users", "[]", "invalidSyntax")]
    [InlineData("POST", "/Users", "{}", "invalidValue")]
    [InlineData("POST", "/Users", """{"userName":"no address"}""", "invalidValue")]
    [InlineData("POST", "/Users", """{"userName":"a@b.example","active":"maybe"}""", "invalidValue")]
    [InlineData("POST", "/Users", """{"userName":"a@b.example","emails":["a\u0000@b"]}""", "invalidValue")]
    [InlineData("POST", "/Users", """{"userName":"a@b.example","name":"x"}""", "invalidValue")]
    [InlineData("POST", "/Users", """{"userName":"\ud800@b.example"}""", "invalidSyntax")]
    [InlineData("POST", "/Groups", """{"members":[]}""", "invalidValue")]
    [InlineData("POST", "/Groups", """{"displayName":"x","members":[{"value":"x"}]}""", "invalidValue")]
    [InlineData("POST", "/Groups", """{"displayName":"x","members":[{"type":"User"}]}""", "invalidValue")]
    [InlineData("GET", "/Users?filter=userName", null, "invalidFilter")]
    [InlineData("GET", "/Users?filter=userName sw \"a\"", null, "invalidFilter")]
    [InlineData("GET", "/Users?filter=userName eq \"a", null, "invalidFilter")]
    [InlineData("GET", "/Users?filter=userName eq \"a\" or id eq \"b\"", null, "invalidFilter")]
    [InlineData("GET", "/Users?filter=password eq \"a\"", null, "invalidFilter")]
    [InlineData("GET", "/Groups?filter=displayName eq \"a\\\"", null, "invalidFilter")]
    public async Task Request_WhenItIsWrong_ShouldSayHow(string method, string path, string? body, string scimType)
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);

        await scim.AssertErrorAsync(method, path, body, 400, scimType);
    }

    [Theory]
    [InlineData("""{"op":"move","path":"active","value":true}""", "invalidSyntax")]
    [InlineData("""{"op":"replace","value":true}""", "noTarget")]
    [InlineData("""{"op":"remove"}""", "noTarget")]
    [InlineData("""{"op":"remove","path":"active"}""", "mutability")]
    [InlineData("""{"op":"remove","path":"userName"}""", "invalidValue")]
    [InlineData("""{"op":"replace","path":"emails[type eq \"work\"","value":"x"}""", "invalidFilter")]
    [InlineData("""{"op":"replace","path":"a.b.c","value":"x"}""", "invalidPath")]
    public async Task Patch_WhenAnOperationIsWrong_ShouldChangeNothing(string operation, string scimType)
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string id = await scim.CreateUserAsync();
        string patch = ScimClient.Patch("""{"op":"replace","path":"displayName","value":"changed"}""", operation);

        await scim.AssertErrorAsync("PATCH", $"/Users/{id}", patch, 400, scimType);

        JsonElement person = await scim.SendAsync("GET", $"/Users/{id}", null, 200);
        Assert.False(person.TryGetProperty("displayName", out _));
    }

    [Fact]
    public async Task List_WhenItIsLong_ShouldComeInPages()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        var made = new List<string> { scim.Tester.Acme.Admin.User.UserId.ToString() };
        for (int i = 0; i < 4; i++)
        {
            made.Add(await scim.CreateUserAsync());
        }

        var seen = new List<string>();
        for (int startIndex = 1; startIndex <= 5; startIndex += 2)
        {
            JsonElement page = await scim.SendAsync("GET", $"/Users?startIndex={startIndex}&count=2", null, 200);
            Assert.Equal(5, page.GetProperty("totalResults").GetInt32());
            Assert.Equal(startIndex, page.GetProperty("startIndex").GetInt32());
            seen.AddRange(
                page.GetProperty("Resources").EnumerateArray().Select(user => user.GetProperty("id").GetString()!)
            );
            Assert.Equal(Math.Min(2, 6 - startIndex), page.GetProperty("itemsPerPage").GetInt32());
        }

        Assert.Equal(made, seen);
        JsonElement none = await scim.SendAsync("GET", "/Users?count=0&startIndex=-5", null, 200);
        Assert.Equal(
            (5, 0),
            (none.GetProperty("totalResults").GetInt32(), none.GetProperty("Resources").GetArrayLength())
        );
    }

    [Fact]
    public async Task Discovery_WhenAsked_ShouldTellWhatThereIs()
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);

        JsonElement provider = await scim.SendAsync("GET", "/ServiceProviderConfig", null, 200);
        JsonElement types = await scim.SendAsync("GET", "/ResourceTypes", null, 200);
        JsonElement schemas = await scim.SendAsync("GET", "/Schemas", null, 200);
        JsonElement user = await scim.SendAsync(
            "GET",
            "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User",
            null,
            200
        );

        Assert.True(provider.GetProperty("patch").GetProperty("supported").GetBoolean());
        Assert.Equal(200, provider.GetProperty("filter").GetProperty("maxResults").GetInt32());
        Assert.Equal(
            ["/Users", "/Groups"],
            types.GetProperty("Resources").EnumerateArray().Select(type => type.GetProperty("endpoint").GetString())
        );
        Assert.Equal(2, schemas.GetProperty("totalResults").GetInt32());
        Assert.Contains(
            user.GetProperty("attributes").EnumerateArray(),
            attribute => attribute.GetProperty("name").GetString() == "userName"
        );
        await scim.AssertErrorAsync("GET", "/Schemas/urn:none", null, 404, null);
    }

    private async Task<HttpStatusCode> RefreshAsync(LoginResponse login)
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/auth/refresh",
            null,
            JsonContent.Create(new RefreshRequest(login.RefreshToken))
        );
        return response.StatusCode;
    }

    private Task<HttpResponseMessage> LoginAsync(string email, string password) =>
        fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/auth/login",
            null,
            JsonContent.Create(new LoginRequest(email, password))
        );
}
