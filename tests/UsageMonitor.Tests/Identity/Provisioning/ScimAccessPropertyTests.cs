using CsCheck;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.Provisioning;

/// <summary>
/// Whatever a provisioning system does in whatever order: a person has access exactly if the last word about them was that
/// they are active, and has a group's role exactly while they are in it.
/// </summary>
public sealed class ScimAccessPropertyTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const int PeopleCount = 3;
    private const int Sequences = 12;

    private enum Act
    {
        Create,
        PatchOff,
        PatchOffAsText,
        PatchOffWithoutPath,
        PatchOn,
        PutOff,
        PutOn,
        PutSilent,
        Rename,
        Delete,
        Join,
        JoinTwice,
        LeaveByFilter,
        LeaveByValue,
        ReplaceMembers,
        RemoveAllMembers,
        AdminDeactivates,
        AdminReactivates,
    }

    private static readonly Gen<(Act, int)[]> s_sequences = Gen.Select(
        Gen.Int[0, Enum.GetValues<Act>().Length - 1].Select(act => (Act)act),
        Gen.Int[0, PeopleCount - 1]
    ).Array[1, 25];

    [Fact]
    public Task Access_AfterAnySequence_ShouldBeTheModels() =>
        s_sequences.SampleAsync(RunAsync, iter: Sequences, threads: 1);

    private async Task RunAsync((Act Act, int Person)[] sequence)
    {
        ScimClient scim = await ScimClient.CreateAsync(fixture.Server);
        string group = await scim.CreateGroupAsync("Analysts");
        await scim.Tester.SendAsync<GroupSummary>(
            HttpMethod.Put,
            $"/v1/admin/groups/{group}",
            new SaveGroupRequest("Analysts", [RolePermissions.Analyst])
        );
        Model[] people = [.. Enumerable.Range(0, PeopleCount).Select(_ => new Model(ScimClient.NewAddress()))];
        foreach ((Act act, int at) in sequence)
        {
            await DoAsync(scim, group, people, people[at], act);
            foreach (Model person in people)
            {
                await CheckAsync(scim, person, $"{act} of {at}");
            }
        }
    }

    private static async Task DoAsync(ScimClient scim, string group, Model[] people, Model person, Act act)
    {
        string user = $"/Users/{person.Id}";
        int ok = person.Exists ? 200 : 404;
        string members = $"/Groups/{group}";
        string value = $$"""[{"value":"{{person.Id}}"}]""";
        switch (act)
        {
            case Act.Create when person.Exists:
                await scim.AssertErrorAsync(
                    "POST",
                    "/Users",
                    $$"""{"userName":"{{person.Address}}"}""",
                    409,
                    "uniqueness"
                );
                break;
            case Act.Create:
                person.Id = await scim.CreateUserAsync(person.Address);
                person.Begin();
                break;
            case Act.PatchOff:
                await scim.PatchAsync(user, ok, """{"op":"replace","path":"active","value":false}""");
                person.ProvisioningTurnsOff();
                break;
            case Act.PatchOffAsText:
                await scim.PatchAsync(user, ok, """{"op":"Replace","path":"active","value":"False"}""");
                person.ProvisioningTurnsOff();
                break;
            case Act.PatchOffWithoutPath:
                await scim.PatchAsync(user, ok, """{"op":"replace","value":{"active":false}}""");
                person.ProvisioningTurnsOff();
                break;
            case Act.PatchOn:
                await scim.PatchAsync(user, ok, """{"op":"replace","path":"active","value":"True"}""");
                person.ProvisioningTurnsOn();
                break;
            case Act.PutOff:
                await scim.SendAsync("PUT", user, $$"""{"userName":"{{person.Address}}","active":false}""", ok);
                person.ProvisioningTurnsOff();
                break;
            case Act.PutOn:
                await scim.SendAsync("PUT", user, $$"""{"userName":"{{person.Address}}","active":true}""", ok);
                person.ProvisioningTurnsOn();
                break;
            case Act.PutSilent:
                await scim.SendAsync("PUT", user, $$"""{"userName":"{{person.Address}}","displayName":"x"}""", ok);
                break;
            case Act.Rename:
                string renamed = ScimClient.NewAddress();
                await scim.PatchAsync(user, ok, $$"""{"op":"replace","path":"userName","value":"{{renamed}}"}""");
                person.Address = person.Exists ? renamed : person.Address;
                break;
            case Act.Delete:
                await scim.SendAsync("DELETE", user, null, person.Exists ? 204 : 404);
                person.End();
                break;
            case Act.Join or Act.JoinTwice:
                string join = $$"""{"op":"add","path":"members","value":{{value}}}""";
                string[] joins = act == Act.Join ? [join] : [join, join];
                await scim.PatchAsync(members, person.Exists ? 204 : 400, joins);
                person.IsMember = person.Exists;
                break;
            case Act.LeaveByFilter:
                await scim.PatchAsync(
                    members,
                    204,
                    $$"""{"op":"remove","path":"members[value eq \"{{person.Id}}\"]"}"""
                );
                person.IsMember = false;
                break;
            case Act.LeaveByValue:
                await scim.PatchAsync(members, 204, $$"""{"op":"Remove","path":"members","value":{{value}}}""");
                person.IsMember = false;
                break;
            case Act.ReplaceMembers:
                string replace = $$"""{"op":"replace","path":"members","value":{{value}}}""";
                await scim.PatchAsync(members, person.Exists ? 204 : 400, replace);
                foreach (Model other in people)
                {
                    other.IsMember = person.Exists ? other == person : other.IsMember;
                }

                break;
            case Act.RemoveAllMembers:
                await scim.PatchAsync(members, 204, """{"op":"remove","path":"members"}""");
                Array.ForEach(people, other => other.IsMember = false);
                break;
            case Act.AdminDeactivates when person.Exists:
                await scim.Tester.ExecuteAsync(
                    "UPDATE users SET deactivated_at = now(), deprovisioned_at = NULL WHERE user_id = $1",
                    Guid.Parse(person.Id)
                );
                person.AdminTurnsOff();
                break;
            case Act.AdminReactivates when person.Exists:
                await scim.Tester.ExecuteAsync(
                    "UPDATE users SET deactivated_at = NULL, deprovisioned_at = NULL WHERE user_id = $1",
                    Guid.Parse(person.Id)
                );
                person.AdminTurnsOn();
                break;
        }
    }

    private static async Task CheckAsync(ScimClient scim, Model person, string after)
    {
        if (person.Token is { } held)
        {
            // A session that was ended stays so; only one that provisioning did not end comes back with the person.
            bool accepted = await scim.Tester.PermissionsAsync(held) is not null;
            Assert.True(accepted == (person.HasAccess && !person.IsTokenEnded), $"after {after}: the session");
        }

        // A session begun behind the API's back: that is all that stands between a person and access.
        string token = (await scim.SignInAsync(person.Id, person.Address)).AccessToken;
        IReadOnlyList<string>? permissions = await scim.Tester.PermissionsAsync(token);
        string[]? expected =
            !person.HasAccess ? null
            : person.IsMember ? [.. RolePermissions.BuiltIn[RolePermissions.Analyst].Order(StringComparer.Ordinal)]
            : [];
        Assert.True(
            permissions is null == expected is null && (expected ?? []).SequenceEqual(permissions ?? []),
            $"after {after}: expected {Text(expected)}, found {Text(permissions)}"
        );
        if (person.HasAccess && (person.Token is null || person.IsTokenEnded))
        {
            (person.Token, person.IsTokenEnded) = (token, false);
        }
    }

    private static string Text(IEnumerable<string>? permissions) =>
        permissions is null ? "no access" : $"[{string.Join(", ", permissions)}]";

    private sealed class Model(string address)
    {
        public string Address { get; set; } = address;

        /// <summary>Of nobody until the person is made.</summary>
        public string Id { get; set; } = Guid.NewGuid().ToString();

        public bool Exists { get; private set; }

        public bool IsMember { get; set; }

        public bool HasAccess => Exists && _off == Off.No;

        public string? Token { get; set; }

        public bool IsTokenEnded { get; set; }

        private Off _off;

        private enum Off
        {
            No,
            ByProvisioning,
            ByAdmin,
        }

        public void Begin() => (Exists, _off, IsMember) = (true, Off.No, false);

        public void End()
        {
            IsTokenEnded = true;
            (Exists, IsMember) = (false, false);
        }

        public void ProvisioningTurnsOff()
        {
            if (Exists && _off == Off.No)
            {
                (_off, IsTokenEnded) = (Off.ByProvisioning, true);
            }
        }

        public void ProvisioningTurnsOn() => _off = _off == Off.ByProvisioning ? Off.No : _off;

        public void AdminTurnsOff() => _off = Off.ByAdmin;

        public void AdminTurnsOn() => _off = Off.No;
    }
}
