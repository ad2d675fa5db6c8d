using System.Net;
using System.Reflection;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.Access;

public sealed class RoleTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Path = "/v1/admin/roles";

    [Fact]
    public async Task Permissions_WhenListed_ShouldBeThoseOfTheCode()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        string[] ofCode =
        [
            .. typeof(Permissions)
                .GetFields(BindingFlags.Public | BindingFlags.Static)
                .Select(field => (string)field.GetValue(null)!)
                .Where(permission => permission.Contains(':', StringComparison.Ordinal))
                .Order(StringComparer.Ordinal),
        ];

        PermissionSummary[] listed = await tester.SendAsync<PermissionSummary[]>(
            HttpMethod.Get,
            "/v1/admin/permissions"
        );

        Assert.Equal(ofCode, listed.Select(permission => permission.Permission).Order(StringComparer.Ordinal));
        Assert.All(listed, permission => Assert.NotEmpty(permission.Description));
    }

    [Fact]
    public async Task List_WhenAnEnterpriseAsks_ShouldShowTheBuiltInRolesButNotTheOperators()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.CreateRoleAsync("Data team", Permissions.UsageRead);

        RoleSummary[] roles = await tester.SendAsync<RoleSummary[]>(HttpMethod.Get, Path);

        Assert.Equal(
            ["Analyst", "Auditor", "Employee", "EnterpriseAdmin", "Data team"],
            roles.Select(role => role.Name)
        );
        Assert.Equal([true, true, true, true, false], roles.Select(role => role.BuiltIn));
        Assert.Equal(
            HttpStatusCode.NotFound,
            await tester.StatusAsync(HttpMethod.Get, $"{Path}/Operator", tester.Admin)
        );
    }

    [Fact]
    public async Task Role_WhenChanged_ShouldHoldAtOnceForWhoHasIt()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.CreateRoleAsync("Data team", Permissions.UsageRead);
        string token = await tester.TokenOfAsync("Data team");
        Assert.Equal([Permissions.UsageRead], await tester.PermissionsAsync(token));

        RoleSummary changed = await tester.SendAsync<RoleSummary>(
            HttpMethod.Put,
            $"{Path}/data%20TEAM",
            new ChangeRoleRequest([Permissions.PeopleRead, Permissions.DecisionsRead], "Looks at people")
        );

        Assert.Equal(("Data team", "Looks at people"), (changed.Name, changed.Description));
        Assert.Equal([Permissions.DecisionsRead, Permissions.PeopleRead], await tester.PermissionsAsync(token));
        RoleSummary read = await tester.SendAsync<RoleSummary>(HttpMethod.Get, $"{Path}/Data%20team");
        Assert.Equal([Permissions.DecisionsRead, Permissions.PeopleRead], read.Permissions);
    }

    [Theory]
    [InlineData("", "invalid_request", 400)]
    [InlineData("a/b", "invalid_request", 400)]
    [InlineData("Ünal", "invalid_request", 400)]
    [InlineData("123456789012345678901234567890123456789012345678901", "invalid_request", 400)]
    [InlineData("operator", "built_in_role", 409)]
    [InlineData("ENTERPRISEADMIN", "built_in_role", 409)]
    [InlineData("DATA TEAM", "role_exists", 409)]
    public async Task Create_WhenTheNameIsWrong_ShouldBeRefused(string name, string code, int status)
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.CreateRoleAsync("Data team", Permissions.UsageRead);

        var request = new CreateRoleRequest(name, [Permissions.UsageRead]);
        await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, request, status, code);
    }

    [Theory]
    [InlineData("enterprises:write", 403, "beyond_own_permissions")]
    [InlineData("platform:write", 403, "beyond_own_permissions")]
    [InlineData("provisioning:write", 403, "beyond_own_permissions")]
    [InlineData("person", 400, "unknown_permission")]
    [InlineData("usage:everything", 400, "unknown_permission")]
    public async Task Create_WhenThePermissionIsNotTheAdmins_ShouldBeRefused(string permission, int status, string code)
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);

        var request = new CreateRoleRequest("Data team", [Permissions.UsageRead, permission]);
        await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, request, status, code);
    }

    [Fact]
    public async Task Change_WhenTheCallerHasLess_ShouldNeitherGiveNorTakeIt()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.CreateRoleAsync("Role keepers", Permissions.RolesRead, Permissions.RolesWrite);
        await tester.CreateRoleAsync("Key keepers", Permissions.ApiKeysRead, Permissions.RolesRead);
        string keeper = await tester.TokenOfAsync("Role keepers");

        var more = new ChangeRoleRequest([Permissions.RolesRead, Permissions.RolesWrite, Permissions.PeopleWrite]);
        await tester.AssertProblemAsync(
            HttpMethod.Put,
            $"{Path}/Role keepers",
            keeper,
            more,
            403,
            "beyond_own_permissions"
        );
        var less = new ChangeRoleRequest([Permissions.RolesRead]);
        await tester.AssertProblemAsync(
            HttpMethod.Put,
            $"{Path}/Key keepers",
            keeper,
            less,
            403,
            "beyond_own_permissions"
        );
        await tester.AssertProblemAsync(
            HttpMethod.Delete,
            $"{Path}/Key keepers",
            keeper,
            null,
            403,
            "beyond_own_permissions"
        );
        var same = new ChangeRoleRequest([Permissions.ApiKeysRead], "What stays needs nothing");
        Assert.Equal(HttpStatusCode.OK, await tester.StatusAsync(HttpMethod.Put, $"{Path}/Key keepers", keeper, same));
    }

    [Fact]
    public async Task BuiltIn_WhenChangedOrDeleted_ShouldBeRefused()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);

        foreach (string role in new[] { "Employee", "analyst", "EnterpriseAdmin" })
        {
            var request = new ChangeRoleRequest([Permissions.UsageRead]);
            await tester.AssertProblemAsync(
                HttpMethod.Put,
                $"{Path}/{role}",
                tester.Admin,
                request,
                409,
                "built_in_role"
            );
            await tester.AssertProblemAsync(
                HttpMethod.Delete,
                $"{Path}/{role}",
                tester.Admin,
                null,
                409,
                "built_in_role"
            );
        }
    }

    [Fact]
    public async Task Delete_WhenSomebodyHasTheRole_ShouldSayHowMany()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.CreateRoleAsync("Data team", Permissions.UsageRead);
        await tester.AddPersonAsync("Data team");
        await tester.AddPersonAsync("Data team");
        GroupSummary group = await tester.SendAsync<GroupSummary>(
            HttpMethod.Post,
            "/v1/admin/groups",
            new SaveGroupRequest("Data", ["Data team"]),
            HttpStatusCode.Created
        );

        using HttpResponseMessage refused = await tester.SendAsync(
            HttpMethod.Delete,
            $"{Path}/Data team",
            tester.Admin
        );
        string detail = await RunningServer.AssertProblemAsync(refused, 409, "role_in_use");
        Assert.Contains("2 people and 1 groups", detail, StringComparison.Ordinal);

        await tester.ExecuteAsync("DELETE FROM user_roles WHERE role_name = 'Data team'");
        Assert.Equal(
            HttpStatusCode.NoContent,
            await tester.StatusAsync(HttpMethod.Delete, $"/v1/admin/groups/{group.GroupId}", tester.Admin)
        );
        Assert.Equal(
            HttpStatusCode.NoContent,
            await tester.StatusAsync(HttpMethod.Delete, $"{Path}/Data team", tester.Admin)
        );
        Assert.Equal(
            HttpStatusCode.NotFound,
            await tester.StatusAsync(HttpMethod.Get, $"{Path}/Data team", tester.Admin)
        );
    }

    [Fact]
    public async Task Role_WhenItIsAnotherEnterprises_ShouldNotBeFound()
    {
        AccessTester owner = await AccessTester.CreateAsync(fixture.Server);
        AccessTester stranger = await AccessTester.CreateAsync(fixture.Server);
        await owner.CreateRoleAsync("Data team", Permissions.UsageRead);

        await stranger.AssertProblemAsync(HttpMethod.Get, $"{Path}/Data team", stranger.Admin, null, 404, "not_found");
        await stranger.AssertProblemAsync(
            HttpMethod.Put,
            $"{Path}/Data team",
            stranger.Admin,
            new ChangeRoleRequest([]),
            404,
            "not_found"
        );
        await stranger.AssertProblemAsync(
            HttpMethod.Delete,
            $"{Path}/Data team",
            stranger.Admin,
            null,
            404,
            "not_found"
        );
        await stranger.AssertProblemAsync(
            HttpMethod.Post,
            "/v1/admin/groups",
            stranger.Admin,
            new SaveGroupRequest("Data", ["Data team"]),
            400,
            "unknown_role"
        );
    }

    [Fact]
    public async Task Create_WhenThereAreAHundred_ShouldBeRefused()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.ExecuteAsync(
            """
            INSERT INTO roles (enterprise_id, role_name, description, created_at, updated_at)
            SELECT $1, 'role ' || n, '', now(), now() FROM generate_series(1, 99) n
            """,
            tester.EnterpriseId
        );
        await tester.CreateRoleAsync("the hundredth", Permissions.UsageRead);

        var request = new CreateRoleRequest("one more", [Permissions.UsageRead]);
        await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, request, 409, "too_many_roles");
    }

    [Fact]
    public async Task Auditor_WhenItLooks_ShouldSeeRolesAndChangeNone()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        string auditor = await tester.TokenOfAsync(RolePermissions.Auditor);

        Assert.Equal(HttpStatusCode.OK, await tester.StatusAsync(HttpMethod.Get, Path, auditor));
        Assert.Equal(
            HttpStatusCode.Forbidden,
            await tester.StatusAsync(HttpMethod.Post, Path, auditor, new CreateRoleRequest("x", []))
        );
    }
}
