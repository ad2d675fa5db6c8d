using System.Globalization;
using System.Net;
using CsCheck;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Policies;
using Xunit;
using static UsageMonitor.Tests.Policies.PolicyMaking;

namespace UsageMonitor.Tests.Policies;

public sealed class PolicySetTests
{
    private static readonly Guid s_ana = Guid.Parse("00000000-0000-7000-8000-00000000000a");
    private static readonly DateTimeOffset s_now = new(2026, 3, 10, 12, 0, 0, TimeSpan.Zero);

    [Fact]
    public void Decide_WhenThereIsNoPolicy_ShouldFollowTheDefault()
    {
        var open = new PolicySet([], false, TimeZoneInfo.Utc, PolicyMembers.None);
        var closed = new PolicySet([], true, TimeZoneInfo.Utc, PolicyMembers.None);

        Assert.True(open.IsOpen);
        Assert.False(closed.IsOpen);
        Assert.Equal(PolicyDecision.PermittedByDefault, open.Decide(Question(s_ana, "f", s_now)));
        Assert.Equal(PolicyDecision.ForbiddenByDefault, closed.Decide(Question(s_ana, "f", s_now)));
    }

    [Fact]
    public void Decide_WhenPoliciesDisagree_ShouldLetForbidOverride()
    {
        var set = new PolicySet(
            [Policy(0, "PERMIT", Document(users: [s_ana])), Policy(1, "FORBID", Document(features: ["exp*"]))],
            true,
            TimeZoneInfo.Utc,
            PolicyMembers.None
        );

        PolicyDecision forbidden = set.Decide(Question(s_ana, "export", s_now));
        PolicyDecision permitted = set.Decide(Question(s_ana, "search", s_now));

        Assert.Equal(
            (false, DecisionCodes.PolicyForbidden, 2),
            (forbidden.IsAllowed, forbidden.Code, forbidden.PolicyVersion)
        );
        Assert.Equal(
            (true, DecisionCodes.PolicyPermitted, 1),
            (permitted.IsAllowed, permitted.Code, permitted.PolicyVersion)
        );
        Assert.False(set.Decide(Question(Guid.NewGuid(), "search", s_now)).IsAllowed);
    }

    [Theory]
    [InlineData("10.1.2.3", true)]
    [InlineData("::ffff:10.1.2.3", true)]
    [InlineData("11.1.2.3", false)]
    [InlineData("2001:db8::1", true)]
    [InlineData("2001:db9::1", false)]
    [InlineData(null, false)]
    public void Decide_WhenThereIsANetwork_ShouldMatchTheClientsAddress(string? address, bool isForbidden)
    {
        var limits = PolicyLimits.None with { Networks = ["10.0.0.0/8", "2001:db8::/32"] };
        var set = new PolicySet(
            [Policy(0, "FORBID", Document(conditions: limits))],
            false,
            TimeZoneInfo.Utc,
            PolicyMembers.None
        );

        Assert.Equal(!isForbidden, set.Decide(Question(s_ana, "f", s_now, address: address)).IsAllowed);
    }

    [Theory]
    [InlineData("0.0.0.0/0", "10.1.2.3", true)]
    [InlineData("0.0.0.0/0", "2001:db8::1", false)]
    [InlineData("::/0", "2001:db8::1", true)]
    [InlineData("::/0", "10.1.2.3", false)]
    [InlineData("10.1.2.3/32", "10.1.2.3", true)]
    public void Decide_WhenANetworkIsAllOrOne_ShouldStayWithinItsFamily(
        string network,
        string address,
        bool isForbidden
    )
    {
        var set = new PolicySet(
            [Policy(0, "FORBID", Document(conditions: PolicyLimits.None with { Networks = [network] }))],
            false,
            TimeZoneInfo.Utc,
            PolicyMembers.None
        );

        Assert.Equal(!isForbidden, set.Decide(Question(s_ana, "f", s_now, address: address)).IsAllowed);
    }

    [Theory]
    // 29 March 2026 in Berlin: from 02:00 to 03:00 is no time at all; 25 October: 02:30 comes twice.
    [InlineData("2026-03-29T00:59:00Z", "01:30", "02:30", true)] // 01:59
    [InlineData("2026-03-29T01:00:00Z", "01:30", "02:30", false)] // 03:00
    [InlineData("2026-10-25T00:15:00Z", "02:00", "03:00", true)] // 02:15 in summer
    [InlineData("2026-10-25T01:15:00Z", "02:00", "03:00", true)] // 02:15 again
    [InlineData("2026-10-25T02:00:00Z", "02:00", "03:00", false)] // 03:00
    // Sunday's night goes on into Monday, and Saturday's into Sunday does not count.
    [InlineData("2026-03-08T22:30:00Z", "22:00", "06:00", true)] // Sunday 23:30
    [InlineData("2026-03-09T04:30:00Z", "22:00", "06:00", true)] // Monday 05:30
    [InlineData("2026-03-08T04:30:00Z", "22:00", "06:00", false)] // Sunday 05:30
    [InlineData("2026-03-09T22:30:00Z", "22:00", "06:00", false)] // Monday 23:30
    public void Decide_WhenThereIsATime_ShouldFollowTheEnterprisesClock(
        string at,
        string from,
        string to,
        bool isForbidden
    )
    {
        var limits = new PolicyLimits(["SUN"], from, to, [], []);
        var set = new PolicySet(
            [Policy(0, "FORBID", Document(conditions: limits))],
            false,
            TimeZoneInfo.FindSystemTimeZoneById("Europe/Berlin"),
            PolicyMembers.None
        );

        PolicyDecision decision = set.Decide(
            Question(s_ana, "f", DateTimeOffset.Parse(at, CultureInfo.InvariantCulture))
        );

        Assert.Equal(!isForbidden, decision.IsAllowed);
    }

    [Fact]
    public void Decide_WhenAMemberIsDeactivated_ShouldNotPermitByRoleButStillForbid()
    {
        var members = PolicyMembers.Of([("Staff", new PolicyMember(s_ana, IsActive: false))], []);
        var permit = new PolicySet([Policy(0, "PERMIT", Document(roles: ["Staff"]))], true, TimeZoneInfo.Utc, members);
        var forbid = new PolicySet([Policy(0, "FORBID", Document(roles: ["Staff"]))], false, TimeZoneInfo.Utc, members);

        Assert.False(permit.Decide(Question(s_ana, "f", s_now)).IsAllowed);
        Assert.False(forbid.Decide(Question(s_ana, "f", s_now)).IsAllowed);
    }

    [Fact]
    public void Decide_WhenMoreFeaturesComeThanAreRemembered_ShouldStayRight()
    {
        var set = new PolicySet(
            [Policy(0, "FORBID", Document(features: ["a*"]))],
            false,
            TimeZoneInfo.Utc,
            PolicyMembers.None
        );

        for (int i = 0; i < (2 * PolicySet.RememberedFeaturesMax) + 10; i++)
        {
            Assert.False(set.Decide(Question(s_ana, $"a{i}", s_now)).IsAllowed);
            Assert.True(set.Decide(Question(s_ana, $"b{i}", s_now)).IsAllowed);
        }
    }

    [Fact]
    public void Decide_WhenAskedAgain_ShouldAllocateNothing()
    {
        Guid group = Guid.NewGuid();
        var limits = new PolicyLimits(["MON", "TUE"], "22:00", "06:00", ["10.0.0.0/8"], ["use"]);
        StoredPolicy[] policies =
        [
            .. Enumerable
                .Range(0, 100)
                .Select(i =>
                    Policy(
                        i,
                        i % 2 == 0 ? "FORBID" : "PERMIT",
                        Document(groups: [group], features: [i % 3 == 0 ? "exp*" : "export"], conditions: limits)
                    )
                ),
        ];
        var set = new PolicySet(
            policies,
            true,
            TimeZoneInfo.FindSystemTimeZoneById("America/New_York"),
            PolicyMembers.Of([], [(group, new PolicyMember(s_ana, true))])
        );
        PolicyQuestion question = Question(s_ana, "export", s_now, address: "10.1.2.3", apiKey: Guid.NewGuid());
        PolicyQuestion other = Question(Guid.NewGuid(), "search", s_now, address: "2001:db8::1");
        for (int i = 0; i < 1_000; i++)
        {
            _ = set.Decide(question);
            _ = set.Decide(other);
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10_000; i++)
        {
            _ = set.Decide(question);
            _ = set.Decide(other);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    private static readonly Guid[] s_users =
    [
        .. Enumerable.Range(1, 6).Select(i => new Guid(i, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)),
    ];
    private static readonly Guid[] s_groups =
    [
        new(1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9),
        new(2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9),
    ];
    private static readonly Guid[] s_keys =
    [
        new(1, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8),
        new(2, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8),
    ];
    private static readonly string[] s_roles = ["Analyst", "Staff"];
    private static readonly string[] s_features = ["a", "ab", "abc", "b", "a*", "ab*", "*"];
    private static readonly string[] s_asked = ["a", "ab", "abc", "abd", "b", "c"];
    private static readonly string[] s_types = ["use", "open"];
    private static readonly string[] s_networks = ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "::/0"];
    private static readonly string[] s_addresses =
    [
        "10.1.2.3",
        "10.2.0.1",
        "192.0.2.1",
        "::ffff:10.1.0.9",
        "2001:db8::7",
        "fe80::1",
    ];
    private static readonly string[] s_times = ["00:00", "01:30", "02:00", "02:30", "03:00", "22:00", "23:59"];
    private static readonly string[] s_zones =
    [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Africa/Cairo",
    ];

    private static Gen<T> OneOf<T>(params T[] all) => Gen.Int[0, all.Length - 1].Select(i => all[i]);

    private static Gen<T[]> Some<T>(T[] all) =>
        Gen.OneOf(Gen.Const(Array.Empty<T>()), OneOf(all).Array[1, 2].Select(some => some.Distinct().ToArray()));

    private static readonly Gen<PolicyLimits> s_limits = Gen.Select(
            Some(PolicyTerms.Weekdays),
            OneOf<string>([.. s_times, ""]),
            OneOf<string>([.. s_times, "24:00", ""]),
            Some(s_networks),
            Some(s_types)
        )
        .Where(t => (t.Item2.Length == 0 ? "00:00" : t.Item2) != (t.Item3.Length == 0 ? "24:00" : t.Item3))
        .Select(t => new PolicyLimits(
            t.Item1,
            t.Item2.Length == 0 ? null : t.Item2,
            t.Item3.Length == 0 ? null : t.Item3,
            t.Item4,
            t.Item5
        ));

    private static readonly Gen<(string Effect, PolicyDocument Document)> s_policy = Gen.Select(
            OneOf("PERMIT", "FORBID"),
            Gen.Select(Some(s_users), Some(s_roles), Some(s_groups), Some(s_keys)),
            Some(s_features),
            Some(new[] { "record", "check" }),
            s_limits
        )
        .Select(t =>
            (t.Item1, Document(t.Item2.Item1, t.Item2.Item2, t.Item2.Item3, t.Item2.Item4, t.Item3, t.Item4, t.Item5))
        );

    private static readonly Gen<(Guid Id, PolicyMember Member)[]> s_members = Gen.Select(
            OneOf(s_groups),
            OneOf(s_users),
            Gen.Bool
        )
        .Select(t => (t.Item1, new PolicyMember(t.Item2, t.Item3)))
        .Array[0, 8];

    // Around the changes of clocks of the zones, by the minute.
    private static readonly Gen<DateTimeOffset> s_instants = Gen.Select(
            OneOf(
                new DateTimeOffset(2026, 3, 29, 1, 0, 0, TimeSpan.Zero),
                new DateTimeOffset(2026, 10, 25, 1, 0, 0, TimeSpan.Zero),
                new DateTimeOffset(2026, 3, 8, 7, 0, 0, TimeSpan.Zero),
                new DateTimeOffset(2026, 4, 4, 15, 0, 0, TimeSpan.Zero),
                new DateTimeOffset(2026, 4, 23, 22, 0, 0, TimeSpan.Zero)
            ),
            Gen.Int[-3 * 24 * 60, 3 * 24 * 60]
        )
        .Select(t => t.Item1.AddMinutes(t.Item2));

    private static readonly Gen<(
        Guid User,
        Guid? Key,
        string Feature,
        string Type,
        string? Address,
        bool Check,
        DateTimeOffset At
    )> s_question = Gen.Select(
            OneOf(s_users),
            Gen.Select(OneOf<Guid?>([.. s_keys.Cast<Guid?>(), null]), Gen.Bool),
            OneOf(s_asked),
            OneOf(s_types),
            OneOf<string?>([.. s_addresses, null]),
            s_instants
        )
        .Select(t => (t.Item1, t.Item2.Item1, t.Item3, t.Item4, t.Item5, t.Item2.Item2, t.Item6));

    [Fact]
    public void Decide_WhenComparedWithANaiveEvaluator_ShouldAgree() =>
        Gen.Select(
                s_policy.Array[0, 12],
                Gen.Bool,
                OneOf(s_zones),
                Gen.Select(s_members, s_members),
                s_question.Array[20]
            )
            .Sample(
                (made, isForbidden, zoneName, members, questions) =>
                {
                    var zone = TimeZoneInfo.FindSystemTimeZoneById(zoneName);
                    StoredPolicy[] policies = [.. made.Select((p, i) => Policy(i, p.Effect, p.Document))];
                    (string, PolicyMember)[] roles =
                    [
                        .. members.Item1.Select(m => (s_roles[Array.IndexOf(s_groups, m.Id)], m.Member)),
                    ];
                    var set = new PolicySet(policies, isForbidden, zone, PolicyMembers.Of(roles, members.Item2));
                    foreach (var asked in questions)
                    {
                        StoredPolicy[] matching =
                        [
                            .. policies.Where(policy => NaivelyMatches(policy, asked, zone, roles, members.Item2)),
                        ];
                        StoredPolicy? decisive =
                            matching.FirstOrDefault(policy => policy.Effect == "FORBID") ?? matching.FirstOrDefault();
                        bool isAllowed = decisive is null ? !isForbidden : decisive.Effect == "PERMIT";

                        PolicyDecision decision = set.Decide(
                            Question(
                                asked.User,
                                asked.Feature,
                                asked.At,
                                asked.Type,
                                asked.Key,
                                asked.Address,
                                asked.Check ? PolicyActions.Check : PolicyActions.Record
                            )
                        );

                        Assert.Equal(
                            (isAllowed, decisive?.PolicyId, decisive?.Version),
                            (decision.IsAllowed, decision.PolicyId, decision.PolicyVersion)
                        );
                        Assert.True(decision.IsAllowed || !set.IsOpen);
                    }
                },
                iter: 2_000
            );

    private static bool NaivelyMatches(
        StoredPolicy policy,
        (Guid User, Guid? Key, string Feature, string Type, string? Address, bool Check, DateTimeOffset At) asked,
        TimeZoneInfo zone,
        (string Role, PolicyMember Member)[] roles,
        (Guid Group, PolicyMember Member)[] groups
    )
    {
        (PolicySubjects who, PolicyLimits when) = (policy.Document.Principals, policy.Document.Conditions);
        bool Counts(PolicyMember member) =>
            member.UserId == asked.User && (member.IsActive || policy.Effect == "FORBID");
        bool isAbout =
            (who.Users.Length == 0 && who.Roles.Length == 0 && who.Groups.Length == 0 && who.ApiKeys.Length == 0)
            || who.Users.Any(user => user.UserId == asked.User)
            || roles.Any(held => who.Roles.Contains(held.Role) && Counts(held.Member))
            || groups.Any(held => who.Groups.Contains(held.Group) && Counts(held.Member))
            || who.ApiKeys.Any(key => key == asked.Key);
        bool isFeature =
            policy.Document.Features.Length == 0
            || policy.Document.Features.Any(feature =>
                feature.EndsWith('*')
                    ? asked.Feature.StartsWith(feature.TrimEnd('*'), StringComparison.Ordinal)
                    : feature == asked.Feature
            );
        bool isAction =
            policy.Document.Actions.Length == 0 || policy.Document.Actions.Contains(asked.Check ? "check" : "record");
        bool isType = when.EventTypes.Length == 0 || when.EventTypes.Contains(asked.Type);
        IPAddress? address = asked.Address is null ? null : IPAddress.Parse(asked.Address);
        address = address is { IsIPv4MappedToIPv6: true } ? address.MapToIPv4() : address;
        bool isNetwork =
            when.Networks.Length == 0
            || (address is not null && when.Networks.Any(network => IPNetwork.Parse(network).Contains(address)));
        DateTime local = TimeZoneInfo.ConvertTime(asked.At, zone).DateTime;
        return isAbout && isFeature && isAction && isType && isNetwork && IsTime(when, local);
    }

    // Minute by minute from the beginning of each window, on the clock's face.
    private static bool IsTime(PolicyLimits when, DateTime local)
    {
        if (when.Weekdays.Length == 0 && when.From is null && when.To is null)
        {
            return true;
        }

        TimeSpan from = TimeSpan.Parse(when.From ?? "00:00", CultureInfo.InvariantCulture);
        TimeSpan to = when.To is null or "24:00"
            ? TimeSpan.FromDays(1)
            : TimeSpan.Parse(when.To, CultureInfo.InvariantCulture);
        foreach (DateTime day in new[] { local.Date, local.Date.AddDays(-1) })
        {
            bool isDay =
                when.Weekdays.Length == 0 || when.Weekdays.Contains(day.DayOfWeek.ToString()[..3].ToUpperInvariant());
            DateTime end = day + to + (to <= from ? TimeSpan.FromDays(1) : TimeSpan.Zero);
            if (isDay && local >= day + from && local < end)
            {
                return true;
            }
        }

        return false;
    }
}
