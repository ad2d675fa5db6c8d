using System.Diagnostics;
using System.Net;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench policies</c>: what a decision costs once the policies are compiled: 200 policies on 50 features, 10,000 users in
/// groups, with times and networks. In one thread, without a database or server.
/// </summary>
internal sealed class PoliciesBench(Options options, TextWriter progress)
{
    private const int Policies = 200;
    private const int Features = 50;
    private const int Users = 10_000;
    private const int Groups = 20;
    private const int Questions = 4_096;
    private const int DecisionsOfRound = 2_000_000;
    private const int Seed = 20_260_101;
    private const double NanosecondsTarget = 5_000;

    public Report Run()
    {
        var random = new Random(Seed);
        Guid[] users = [.. Enumerable.Range(0, Users).Select(_ => NextId(random))];
        Guid[] groups = [.. Enumerable.Range(0, Groups).Select(_ => NextId(random))];
        var members = PolicyMembers.Of(
            [],
            users.SelectMany(user =>
                Enumerable
                    .Range(0, 2)
                    .Select(_ => (groups[random.Next(Groups)], new PolicyMember(user, IsActive: true)))
            )
        );
        long compiledAt = Stopwatch.GetTimestamp();
        var set = new PolicySet(
            [.. Enumerable.Range(0, Policies).Select(number => Make(number, groups, random))],
            isForbiddenByDefault: true,
            TimeZoneInfo.FindSystemTimeZoneById("America/New_York"),
            members
        );
        progress.WriteLine($"compiled in {Stopwatch.GetElapsedTime(compiledAt).TotalMilliseconds:0.0} ms");
        PolicyQuestion[] questions = [.. Enumerable.Range(0, Questions).Select(_ => Ask(users, random))];
        var nanoseconds = new List<double>();
        var bytes = new List<double>();
        int decisions = options.Quick ? DecisionsOfRound / 10 : DecisionsOfRound;
        int allowed = 0;
        for (int round = 0; round <= options.Rounds; round++)
        {
            long allocated = GC.GetAllocatedBytesForCurrentThread();
            long started = Stopwatch.GetTimestamp();
            for (int i = 0; i < decisions; i++)
            {
                allowed += set.Decide(questions[i & (Questions - 1)]).IsAllowed ? 1 : 0;
            }

            TimeSpan took = Stopwatch.GetElapsedTime(started);
            allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
            if (round > 0)
            {
                nanoseconds.Add(took.TotalNanoseconds / decisions);
                bytes.Add((double)allocated / decisions);
                progress.WriteLine($"round {round}: {nanoseconds[^1]:0} ns, {allocated} bytes in all");
            }
        }

        var report = new Report();
        report.Add(new Measure("A policy decision (ns)", nanoseconds, "< 5,000", value => value < NanosecondsTarget));
        report.Add(new Measure("Allocated a decision (bytes)", bytes, "0", value => value == 0));
        report.Note(
            $"{Policies} policies, each of one to three of {Features} features or a beginning of some, for one to three of {Groups} groups of "
                + $"{Users:N0} users in all; half have a time in New York, a third a network. {Questions:N0} questions in turn; "
                + $"{100.0 * allowed / ((options.Rounds + 1.0) * decisions):0} % were allowed."
        );
        return report;
    }

    private static StoredPolicy Make(int number, Guid[] groups, Random random)
    {
        string[] features =
        [
            .. Enumerable
                .Range(0, random.Next(1, 4))
                .Select(_ => FeatureOf(random.Next(Features)))
                .Select(feature => random.Next(10) == 0 ? feature[..^1] + "*" : feature),
        ];
        var conditions = new PolicyLimits(
            random.Next(2) == 0 ? ["MON", "TUE", "WED", "THU", "FRI"] : [],
            random.Next(2) == 0 ? "08:00" : "20:00",
            random.Next(2) == 0 ? "18:30" : "06:00",
            random.Next(3) == 0 ? ["10.0.0.0/8", "2001:db8::/32"] : [],
            random.Next(5) == 0 ? ["use", "open"] : []
        );
        var document = new PolicyDocument(
            new PolicySubjects([], [], [.. random.GetItems(groups, random.Next(1, 4)).Distinct()], []),
            [.. features.Distinct()],
            [],
            random.Next(2) == 0 ? conditions : conditions with { Weekdays = [], From = null, To = null }
        );
        return new StoredPolicy(
            NextId(random),
            1,
            $"policy {number}",
            random.Next(3) == 0 ? PolicyTerms.Forbid : PolicyTerms.Permit,
            document,
            PolicyTerms.Active,
            Guid.Empty,
            default,
            default
        );
    }

    private static PolicyQuestion Ask(Guid[] users, Random random) =>
        new(
            users[random.Next(users.Length)],
            NextId(random),
            FeatureOf(random.Next(Features)),
            PolicyActions.Record,
            "use",
            (1_767_225_600L + random.Next(365 * 24 * 60 * 60)) * 1_000_000, // some second of 2026
            ClientAddress.Of(new IPAddress([10, 1, (byte)random.Next(256), (byte)random.Next(256)]))
        );

    private static string FeatureOf(int number) => $"area-{number % 7}.feature-{number:00}";

    private static Guid NextId(Random random)
    {
        byte[] bytes = new byte[16];
        random.NextBytes(bytes);
        return new Guid(bytes);
    }
}
