using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.Access;

public sealed class GroupTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Path = "/v1/admin/groups";

    [Fact]
    public async Task Members_WhenTheyComeAndGo_ShouldHaveTheGroupsRolesAtOnce()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        Person person = await tester.AddPersonAsync(RolePermissions.Employee);
        string token = (await tester.SignInAsync(person)).AccessToken;
        GroupSummary group = await CreateAsync(tester, "Analysts", RolePermissions.Analyst);
        string member = $"{Path}/{group.GroupId}/members/{person.UserId}";
        Assert.Equal([], await tester.PermissionsAsync(token));

        Assert.Equal(HttpStatusCode.NoContent, await tester.StatusAsync(HttpMethod.Put, member, tester.Admin));
        Assert.Equal(
            RolePermissions.BuiltIn[RolePermissions.Analyst].Order(StringComparer.Ordinal),
            await tester.PermissionsAsync(token)
        );

        GroupSummary changed = await tester.SendAsync<GroupSummary>(
            HttpMethod.Put,
            $"{Path}/{group.GroupId}",
            new SaveGroupRequest("Auditors", [RolePermissions.Auditor])
        );
        Assert.Equal(("Auditors", 1L, false), (changed.Name, changed.Members, changed.Provisioned));
        Assert.Contains(Permissions.PeopleRead, (await tester.PermissionsAsync(token))!);

        Assert.Equal(HttpStatusCode.NoContent, await tester.StatusAsync(HttpMethod.Delete, member, tester.Admin));
        Assert.Equal([], await tester.PermissionsAsync(token));
    }

    [Fact]
    public async Task Group_WhenItsRolesAreBeyondTheCaller_ShouldBeOutOfReach()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.CreateRoleAsync("Helpers", Permissions.PeopleRead, Permissions.PeopleWrite);
        Person helper = await tester.AddPersonAsync("Helpers");
        string token = (await tester.SignInAsync(helper)).AccessToken;
        GroupSummary admins = await CreateAsync(tester, "Admins", RolePermissions.EnterpriseAdmin);
        GroupSummary plain = await CreateAsync(tester, "Plain");
        string code = "beyond_own_permissions";
        string asMember = $"{Path}/{admins.GroupId}/members/{helper.UserId}";

        await tester.AssertProblemAsync(HttpMethod.Put, asMember, token, null, 403, code);
        await tester.AssertProblemAsync(HttpMethod.Delete, asMember, token, null, 403, code);
        await tester.AssertProblemAsync(HttpMethod.Delete, $"{Path}/{admins.GroupId}", token, null, 403, code);
        var takes = new SaveGroupRequest("Admins", []);
        await tester.AssertProblemAsync(HttpMethod.Put, $"{Path}/{admins.GroupId}", token, takes, 403, code);
        var gives = new SaveGroupRequest("Plain", [RolePermissions.Analyst]);
        await tester.AssertProblemAsync(HttpMethod.Put, $"{Path}/{plain.GroupId}", token, gives, 403, code);
        var makes = new SaveGroupRequest("Mine", [RolePermissions.EnterpriseAdmin]);
        await tester.AssertProblemAsync(HttpMethod.Post, Path, token, makes, 403, code);
        var operators = new SaveGroupRequest("Operators", [RolePermissions.Operator]);
        await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, operators, 400, "unknown_role");
        Assert.Equal(
            HttpStatusCode.NoContent,
            await tester.StatusAsync(HttpMethod.Put, $"{Path}/{plain.GroupId}/members/{helper.UserId}", token)
        );
        Assert.Equal([Permissions.PeopleRead, Permissions.PeopleWrite], await tester.PermissionsAsync(token));
    }

    [Fact]
    public async Task Group_WhenItHoldsTheLastAdmin_ShouldKeepThem()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        GroupSummary admins = await CreateAsync(tester, "Admins", RolePermissions.EnterpriseAdmin);
        string member = $"{Path}/{admins.GroupId}/members/{tester.Acme.Admin.User.UserId}";
        Assert.Equal(HttpStatusCode.NoContent, await tester.StatusAsync(HttpMethod.Put, member, tester.Admin));
        await tester.ExecuteAsync("DELETE FROM user_roles WHERE role_name = $1", RolePermissions.EnterpriseAdmin);

        await tester.AssertProblemAsync(HttpMethod.Delete, member, tester.Admin, null, 409, "last_admin");
        string group = $"{Path}/{admins.GroupId}";
        await tester.AssertProblemAsync(HttpMethod.Delete, group, tester.Admin, null, 409, "last_admin");
        var none = new SaveGroupRequest("Admins", []);
        await tester.AssertProblemAsync(HttpMethod.Put, group, tester.Admin, none, 409, "last_admin");
        Assert.Contains(Permissions.PeopleWrite, (await tester.PermissionsAsync(tester.Admin))!);
    }

    [Fact]
    public async Task Lists_WhenTheyAreLong_ShouldComeInPages()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        string[] names = ["alpha", "Beta", "gamma", "Öl", "zeta"];
        foreach (string name in names.Reverse())
        {
            await CreateAsync(tester, name);
        }

        GroupSummary first = (await tester.SendAsync<GroupsResponse>(HttpMethod.Get, $"{Path}?limit=1")).Groups[0];
        var people = new List<Guid>();
        for (int i = 0; i < 5; i++)
        {
            people.Add((await tester.AddPersonAsync()).UserId);
            string path = $"{Path}/{first.GroupId}/members/{people[^1]}";
            Assert.Equal(HttpStatusCode.NoContent, await tester.StatusAsync(HttpMethod.Put, path, tester.Admin));
        }

        var seenGroups = new List<string>();
        var seenPeople = new List<Guid>();
        string? next = "";
        while (next is not null)
        {
            string after = next.Length > 0 ? $"&after={next}" : "";
            var page = await tester.SendAsync<GroupsResponse>(HttpMethod.Get, $"{Path}?limit=2{after}");
            seenGroups.AddRange(page.Groups.Select(group => group.Name));
            next = page.Next;
        }

        for (next = ""; next is not null; )
        {
            string after = next.Length > 0 ? $"&after={next}" : "";
            string path = $"{Path}/{first.GroupId}/members?limit=2{after}";
            var page = await tester.SendAsync<GroupMembersResponse>(HttpMethod.Get, path);
            seenPeople.AddRange(page.Members.Select(member => member.UserId));
            next = page.Next;
        }

        Assert.Equal(names.Order(), seenGroups.Order());
        Assert.Equal(5, seenGroups.Count);
        Assert.Equal(people.Order(), seenPeople.Order());
        string wrong = $"{Path}?after=%21";
        await tester.AssertProblemAsync(HttpMethod.Get, wrong, tester.Admin, null, 400, "invalid_request");
        await tester.AssertProblemAsync(
            HttpMethod.Get,
            $"{Path}?limit=201",
            tester.Admin,
            null,
            400,
            "invalid_request"
        );
    }

    [Fact]
    public async Task Group_WhenTheNameIsTakenInAnyCase_ShouldBeRefused()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await CreateAsync(tester, "Data");
        GroupSummary other = await CreateAsync(tester, "Other");
        var same = new SaveGroupRequest("dATA");

        await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, same, 409, "group_exists");
        await tester.AssertProblemAsync(
            HttpMethod.Put,
            $"{Path}/{other.GroupId}",
            tester.Admin,
            same,
            409,
            "group_exists"
        );
        await tester.SendAsync<GroupSummary>(HttpMethod.Put, $"{Path}/{other.GroupId}", new SaveGroupRequest("OTHER"));
    }

    [Fact]
    public async Task Group_WhenItIsAnotherEnterprises_ShouldNotBeFound()
    {
        AccessTester owner = await AccessTester.CreateAsync(fixture.Server);
        AccessTester stranger = await AccessTester.CreateAsync(fixture.Server);
        GroupSummary group = await CreateAsync(owner, "Data");
        GroupSummary own = await CreateAsync(stranger, "Data");
        Person person = await owner.AddPersonAsync();
        string path = $"{Path}/{group.GroupId}";
        var save = new SaveGroupRequest("Mine");

        foreach (
            (HttpMethod method, string address, object? body) in new (HttpMethod, string, object?)[]
            {
                (HttpMethod.Get, path, null),
                (HttpMethod.Put, path, save),
                (HttpMethod.Delete, path, null),
                (HttpMethod.Get, $"{path}/members", null),
                (HttpMethod.Put, $"{path}/members/{person.UserId}", null),
                (HttpMethod.Delete, $"{path}/members/{person.UserId}", null),
                (HttpMethod.Put, $"{Path}/{own.GroupId}/members/{person.UserId}", null),
            }
        )
        {
            await stranger.AssertProblemAsync(method, address, stranger.Admin, body, 404, "not_found");
        }

        GroupSummary still = await owner.SendAsync<GroupSummary>(HttpMethod.Get, path);
        Assert.Equal(("Data", 0L), (still.Name, still.Members));
    }

    private static Task<GroupSummary> CreateAsync(AccessTester tester, string name, params string[] roles) =>
        tester.SendAsync<GroupSummary>(
            HttpMethod.Post,
            Path,
            new SaveGroupRequest(name, roles),
            HttpStatusCode.Created
        );
}
