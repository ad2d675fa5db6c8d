using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;
using Xunit;

namespace UsageMonitor.Tests.Alerts;

public sealed class AlertMailTests
{
    private static readonly EnterpriseInfo s_enterprise = new(
        Guid.NewGuid(),
        "Acme",
        TimeZoneInfo.FindSystemTimeZoneById("Asia/Kolkata"),
        0,
        new byte[32],
        EnterpriseInfo.Active
    );

    internal static AlertNotice Notice(DateTime now) =>
        new(
            Guid.CreateVersion7(now),
            AlertNotice.Limit,
            AlertNotice.High,
            "export.pdf",
            "USER",
            "ana@acme.example",
            "DAILY",
            new DateTime(2026, 3, 9, 18, 30, 0, DateTimeKind.Utc),
            new DateTime(2026, 3, 10, 18, 30, 0, DateTimeKind.Utc),
            1_000,
            100,
            1_000,
            true,
            1_000,
            new DateTime(2026, 3, 10, 3, 42, 0, DateTimeKind.Utc),
            now
        );

    [Fact]
    public void Compose_WhenABlockingLimitIsReached_ShouldSayWhoWhatHowMuchSinceWhenAndWhatToDo()
    {
        AlertNotice notice = Notice(new DateTime(2026, 3, 10, 12, 0, 0, DateTimeKind.Utc));

        MailMessage mail = AlertMail.Compose(s_enterprise, notice, "to@acme.example", "https://usage.example");

        Assert.Equal("[HIGH] export.pdf: ana@acme.example has reached the limit", mail.Subject);
        string[] said =
        [
            "Enterprise:   Acme",
            "Feature:      export.pdf",
            "Who:          ana@acme.example",
            "1,000 of 1,000, 100%",
            "2026-03-10 09:12 +05:30", // since
            "Window ends:  2026-03-11 00:00 +05:30",
            "Further use is refused until 2026-03-11 00:00 +05:30",
            "raise the limit",
            "https://usage.example/alerts",
        ];
        Assert.All(said, words => Assert.Contains(words, mail.Text, StringComparison.Ordinal));
    }

    [Fact]
    public void Compose_WhenNamesHaveLineBreaks_ShouldStayOneMailOfOneSubject()
    {
        AlertNotice notice = Notice(DateTime.UnixEpoch) with
        {
            FeatureName = "a\r\nBcc: b@example.com",
            Subject = "x\u0085y" + new string('z', 500),
        };

        MailMessage mail = AlertMail.Compose(s_enterprise, notice, "to@acme.example", null);

        Assert.DoesNotContain(mail.Subject, char.IsControl);
        Assert.InRange(mail.Subject.Length, 1, 200);
        Assert.DoesNotContain("\nBcc", mail.Text, StringComparison.Ordinal);
        Assert.DoesNotContain("https://", mail.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("LOW", 80, 1000L, true, "has reached 80% of the limit", "Nothing is refused yet. From 1,000 on")]
    [InlineData("LOW", 80, 1000L, false, "has reached 80% of the limit", "a violation will be noted")]
    [InlineData("HIGH", 80, 1000L, false, "has reached the limit", "noted as a violation")]
    [InlineData("LOW", null, null, false, "has reached 1,000", "not repeated in this window")]
    public void Compose_WhenNothingIsRefused_ShouldSaySo(
        string severity,
        int? percent,
        long? limit,
        bool isBlocking,
        string subject,
        string now
    )
    {
        AlertNotice notice = Notice(DateTime.UnixEpoch) with
        {
            Severity = severity,
            ThresholdPct = percent,
            LimitValue = limit,
            IsBlocking = isBlocking,
            Subject = null,
            Scope = "ENTERPRISE",
        };

        MailMessage mail = AlertMail.Compose(s_enterprise, notice, "to@acme.example", null);

        Assert.Contains("everybody at Acme " + subject, mail.Subject, StringComparison.Ordinal);
        Assert.Contains(now, mail.Text, StringComparison.Ordinal);
    }
}
