using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Anomalies;

/// <summary>What is found of users' days.</summary>
public sealed class UserStepTests(Engines engines)
{
    private const int Users = 12;
    private const int Accountants = 6;
    private static readonly int[] s_onCall = [2, 8, 9, 10];
    private static readonly DateTimeOffset s_start = new(2026, 3, 30, 12, 0, 0, TimeSpan.Zero);
    private static readonly DateOnly s_last = new(2026, 3, 30);

    [Fact]
    public async Task RunAsync_WhenUsersAreAsEver_ShouldFindNothing()
    {
        await using Watched watched = await Watched.StartAsync(engines, s_start);
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync("UTC");
        await LearnAsync(watched, enterprise);
        await watched.UseAsync(enterprise, s_last, [.. Usual(s_last)]);

        await watched.AdvanceAsync(TimeSpan.FromDays(1), TimeSpan.FromDays(1));

        Assert.Equal([], await watched.FoundAsync(enterprise, "USER"));
        Assert.Equal(
            [(Users, true)],
            await watched.Pipeline.QueryAsync(
                "SELECT count(*)::int, max(length(state)) < 300 FROM anomaly_users",
                row => (row.GetInt32(0), row.GetBoolean(1))
            )
        );
    }

    [Fact]
    public async Task RunAsync_WhenAUserIsActiveAtNight_ShouldSayWhen()
    {
        List<(string Kind, string Feature, string Status, string Detail)> found = await FindAsync([
            (0, "ledger", 3, 5),
        ]);

        (string kind, _, _, string detail) = Assert.Single(found);
        Assert.Equal("UNUSUAL_HOURS", kind);
        Assert.StartsWith("Active from 03:00 on Mon 30 Mar 2026", detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_WhenAUserDoesFarMore_ShouldSayHowMuch()
    {
        List<(string Kind, string Feature, string Status, string Detail)> found = await FindAsync([
            (1, "ledger", 10, 900),
        ]);

        (string kind, _, _, string detail) = Assert.Single(found);
        Assert.Equal("SUDDEN_VOLUME", kind);
        Assert.Contains("most of ledger", detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_WhenAFeatureIsNewToAUserAndToThoseLikeThem_ShouldSaySo()
    {
        // What the others use every day; none of the accountants ever has.
        List<(string Kind, string Feature, string Status, string Detail)> found = await FindAsync([
            (2, "deploy", 10, 1),
        ]);

        (string kind, string feature, _, string detail) = Assert.Single(found);
        Assert.Equal(("NEW_FEATURE", "deploy"), (kind, feature));
        Assert.Contains("use similar features has ever used it", detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_WhenThoseOfTheSameGroupUseTheFeature_ShouldFindNothing() =>
        Assert.Empty(
            await FindAsync(
                [(2, "deploy", 10, 1)],
                (watched, enterprise) =>
                    watched.ExecuteAsync(
                        """
                        INSERT INTO user_roles (enterprise_id, user_id, role_name) SELECT $1, user_id, 'On call' FROM unnest($2) AS user_id
                        """,
                        enterprise.EnterpriseId,
                        s_onCall.Select(user => Watched.UserId(enterprise, user)).ToArray()
                    )
            )
        );

    [Fact]
    public async Task RunAsync_WhenMoreStandOutThanAnHourMayTell_ShouldTellTheStrangestByTheNamesTheCustomerKnows()
    {
        await using Watched watched = await Watched.StartAsync(engines, s_start);
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync("UTC");
        await watched.TellAsync(enterprise, "ops@acme.example");
        await LearnAsync(watched, enterprise);
        for (int user = 1; user < Users; user++)
        {
            // One is known by nothing but the UUID.
            await watched.ExecuteAsync(
                "UPDATE users SET external_id = $3 WHERE enterprise_id = $1 AND user_id = $2",
                enterprise.EnterpriseId,
                Watched.UserId(enterprise, user),
                ExternalIds.Seal(enterprise, $"person-{user}@acme.example")
            );
        }

        // Everybody does far more than ever, each later one more than the one before; the first the most.
        await watched.UseAsync(
            enterprise,
            s_last,
            [
                .. Usual(s_last),
                .. Enumerable
                    .Range(0, Users)
                    .Select(user =>
                        (user, user < Accountants ? "ledger" : "deploy", 10, user == 0 ? 90_000L : 900 * user)
                    ),
            ]
        );
        await watched.AdvanceAsync(TimeSpan.FromDays(1), TimeSpan.FromDays(1));

        Assert.Equal(Users, (await watched.FoundAsync(enterprise, "USER")).Count);
        List<(string Channel, string Recipient, AlertNotice Notice)> told = await watched.NoticesAsync(enterprise);
        Assert.Equal(
            Enumerable
                .Range(3, Users - 3)
                .Select(user => $"person-{user}@acme.example")
                .Append(Watched.UserId(enterprise, 0).ToString())
                .Order(StringComparer.Ordinal),
            told.Select(one => one.Notice.Subject!).Order(StringComparer.Ordinal)
        );
        Assert.Equal(AnomalyLimits.NoticesPerHourMax, told.Count);
        MailMessage mail = AlertMail.Compose(
            enterprise,
            told.Single(one => one.Notice.Subject == "person-5@acme.example").Notice,
            "ops@acme.example",
            null
        );
        Assert.Equal("[LOW] all features: person-5@acme.example behaves unlike before", mail.Subject);
        Assert.Contains(
            "events on Mon 30 Mar 2026, most of ledger; an active day of theirs has about",
            mail.Text,
            StringComparison.Ordinal
        );
        Assert.Contains("Ask the user whether this was meant.", mail.Text, StringComparison.Ordinal);

        // The next hour has a number of its own.
        await watched.UseAsync(
            enterprise,
            s_last.AddDays(1),
            [.. Usual(s_last.AddDays(1)), (1, "ledger", 10, 900_000)]
        );
        await watched.AdvanceAsync(TimeSpan.FromDays(1), TimeSpan.FromDays(1));
        Assert.Equal(
            "person-1@acme.example",
            (await watched.NoticesAsync(enterprise)).Skip(AnomalyLimits.NoticesPerHourMax).Single().Notice.Subject
        );
    }

    [Fact]
    public async Task RunAsync_WhenSensitivityIsOff_ShouldLearnAndFindNothing() =>
        Assert.Empty(
            await FindAsync(
                [(0, "ledger", 3, 5), (1, "ledger", 10, 900), (2, "deploy", 10, 1)],
                (watched, enterprise) =>
                    watched.ExecuteAsync(
                        "UPDATE enterprises SET anomaly_sensitivity = 'OFF' WHERE enterprise_id = $1",
                        enterprise.EnterpriseId
                    )
            )
        );

    private async Task<List<(string Kind, string Feature, string Status, string Detail)>> FindAsync(
        (int User, string Feature, int LocalHour, long Events)[] odd,
        Func<Watched, EnterpriseInfo, Task>? prepare = null
    )
    {
        await using Watched watched = await Watched.StartAsync(engines, s_start);
        EnterpriseInfo enterprise = await watched.AddEnterpriseAsync("UTC");
        await LearnAsync(watched, enterprise);
        if (prepare is not null)
        {
            await prepare(watched, enterprise);
        }

        await watched.UseAsync(enterprise, s_last, [.. Usual(s_last), .. odd]);
        await watched.AdvanceAsync(TimeSpan.FromDays(1), TimeSpan.FromDays(1));
        return await watched.FoundAsync(enterprise, "USER");
    }

    private static async Task LearnAsync(Watched watched, EnterpriseInfo enterprise)
    {
        for (DateOnly day = s_last.AddDays(-34); day < s_last; day = day.AddDays(1))
        {
            if (day.DayOfWeek is not (DayOfWeek.Saturday or DayOfWeek.Sunday))
            {
                await watched.UseAsync(enterprise, day, [.. Usual(day)]);
            }
        }

        await watched.PassAsync();
        Assert.Equal([], await watched.FoundAsync(enterprise, "USER"));
    }

    // Accountants and developers, from nine to five.
    private static IEnumerable<(int User, string Feature, int LocalHour, long Events)> Usual(DateOnly day)
    {
        for (int user = 0; user < Users; user++)
        {
            string[] features = user < Accountants ? ["ledger", "invoice"] : ["deploy", "build"];
            for (int hour = 9; hour < 17; hour += 2)
            {
                yield return (user, features[0], hour, 3 + ((user + day.DayNumber) % 3));
                yield return (user, features[1], hour, 2);
            }
        }
    }
}
