using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using MimeKit;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Identity;
using Xunit;

namespace UsageMonitor.Tests.Platform.Mail;

/// <summary>The outbox and its sender, against a real mail server and a clock that stands still.</summary>
public sealed class MailDeliveryTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>, IAsyncLifetime
{
    private readonly FakeTimeProvider _time = new(TimeProvider.System.GetUtcNow());

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    // The outbox is one for all: what an earlier test left unsent would be due here.
    public async ValueTask InitializeAsync()
    {
        await using var owner = NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using NpgsqlCommand clear = owner.CreateCommand("DELETE FROM mail_outbox");
        await clear.ExecuteNonQueryAsync(Stop);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    [Fact]
    public async Task SendDueAsync_WhenTheServerDemandsTlsAndAPassword_ShouldGiveBoth()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync(isSecure: true);
        Guid mailId = await EnqueueAsync(smtp, "secure@example.com");

        await Sender(smtp.Settings).SendDueAsync(Stop);

        MimeMessage mail = Assert.Single(smtp.MailsTo("secure@example.com"));
        Assert.Equal(
            ("A subject – with ünicode", "First\nsecond"),
            (mail.Subject, mail.TextBody!.ReplaceLineEndings("\n").TrimEnd())
        );
        Row row = await RowAsync(mailId);
        Assert.Equal((true, false, null, null), (row.IsSent, row.HasMessage, row.NextAttemptAt, row.LastError));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheCertificateIsOfNobodyKnown_ShouldSendNothing()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync(isSecure: true);
        Guid mailId = await EnqueueAsync(smtp, "stranger@example.com");
        (string, string)[] settings = [.. smtp.Settings.Where(s => s.Key != "Smtp:CertificateAuthority")];

        await Sender(settings).SendDueAsync(Stop);

        Assert.Empty(smtp.MailsTo("stranger@example.com"));
        Row row = await RowAsync(mailId);
        Assert.Equal((true, "SslHandshakeException"), (row.HasMessage, row.LastError));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheServerIsDown_ShouldTryAgainLaterAndSendItOnce()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        Guid mailId = await EnqueueAsync(smtp, "patient@example.com");
        MailSender sender = Sender(smtp.Settings);
        await smtp.StopAsync();

        await sender.SendDueAsync(Stop);
        Row failed = await RowAsync(mailId);
        await smtp.StartAgainAsync();
        await sender.SendDueAsync(Stop); // not due yet
        Assert.Equal(1, (await RowAsync(mailId)).Attempts);
        Assert.Empty(smtp.MailsTo("patient@example.com"));
        _time.Advance(MailSender.FirstDelay);
        await sender.SendDueAsync(Stop);
        await sender.SendDueAsync(Stop);

        Assert.Equal((1, true, false), (failed.Attempts, failed.HasMessage, failed.IsSent));
        Assert.Equal(_time.Start + MailSender.FirstDelay, failed.NextAttemptAt!.Value, TimeSpan.FromMilliseconds(1));
        Assert.Single(smtp.MailsTo("patient@example.com"));
        Row sent = await RowAsync(mailId);
        Assert.Equal((2, true, false), (sent.Attempts, sent.IsSent, sent.HasMessage));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheServerStaysDown_ShouldWaitLongerEachTimeAndGiveUpAfterADay()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        Guid mailId = await EnqueueAsync(smtp, "never@example.com");
        MailSender sender = Sender(smtp.Settings);
        await smtp.StopAsync();

        var delays = new List<double>();
        Row row;
        do
        {
            await sender.SendDueAsync(Stop);
            row = await RowAsync(mailId);
            if (row.NextAttemptAt is { } next)
            {
                delays.Add(Math.Round((next - _time.GetUtcNow()).TotalMinutes));
                _time.SetUtcNow(next.AddMilliseconds(1));
            }
        } while (row.NextAttemptAt is not null && delays.Count < 100);

        Assert.Equal([1, 2, 4, 8, 16, 32, 60, 60], delays.Take(8));
        Assert.InRange((_time.GetUtcNow() - _time.Start).TotalHours, 22.5, 24);
        Assert.Equal((false, false, "SocketException"), (row.IsSent, row.HasMessage, row.LastError));
    }

    [Fact]
    public async Task SendDueAsync_WhenTheServerRefusesForGood_ShouldGiveUpWithoutNamingAnybody()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        Guid refusedId = await EnqueueAsync(smtp, "unknown@example.com");
        smtp.Answer("550 unknown@example.com does not live here");
        await Sender(smtp.Settings).SendDueAsync(Stop);
        smtp.Answer("451 later");
        Guid laterId = await EnqueueAsync(smtp, "later@example.com");
        await Sender(smtp.Settings).SendDueAsync(Stop);
        smtp.Answer(null);
        Guid goodId = await EnqueueAsync(smtp, "good@example.com");
        await Sender(smtp.Settings).SendDueAsync(Stop);

        Row refused = await RowAsync(refusedId);
        Assert.Equal(
            (false, null, "SMTP 550 RecipientNotAccepted"),
            (refused.HasMessage, refused.NextAttemptAt, refused.LastError)
        );
        Row later = await RowAsync(laterId);
        Assert.Equal((true, "SMTP 451 RecipientNotAccepted"), (later.HasMessage, later.LastError));
        Assert.True((await RowAsync(goodId)).IsSent);
    }

    [Fact]
    public async Task SendDueAsync_WhenSeveralInstancesSend_ShouldSendEachMailOnce()
    {
        await using SmtpServer smtp = await SmtpServer.StartAsync();
        string[] addresses = [.. Enumerable.Range(0, 30).Select(i => $"one-of-{i}@example.com")];
        foreach (string address in addresses)
        {
            await EnqueueAsync(smtp, address);
        }

        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Sender(smtp.Settings).SendDueAsync(Stop)));

        Assert.All(addresses, address => Assert.Single(smtp.MailsTo(address)));
    }

    [Fact]
    public async Task EnqueueAsync_WhenMailIsNotSetUp_ShouldCloseTheRowAndKeepNothing()
    {
        Guid mailId = await EnqueueAsync([], "nobody@example.com");

        Row row = await RowAsync(mailId);

        Assert.Equal(
            (false, false, null, MailOutbox.NotSetUp),
            (row.IsSent, row.HasMessage, row.NextAttemptAt, row.LastError)
        );
    }

    [Theory]
    [InlineData("a@example.com\r\nBcc: b@example.com", "Subject")]
    [InlineData("a@example.com\nBcc: b@example.com", "Subject")]
    [InlineData("a@example.com, b@example.com", "Subject")]
    [InlineData("Name <a@example.com>", "Subject")]
    [InlineData("a@example.com", "Subject\r\nBcc: b@example.com")]
    [InlineData("a@example.com", "Subject\nBcc: b@example.com")]
    [InlineData("", "Subject")]
    public void Compose_WhenItWouldBeMoreThanOneHeader_ShouldRefuse(string to, string subject)
    {
        using var connection = new SmtpConnection(
            Settings([
                ("Smtp:Host", "localhost"),
                ("Smtp:From", "u@example.com"),
                ("PublicUrl", "https://u.example"),
            ]).Smtp!
        );

        Assert.Throws<FormatException>(() => connection.Compose(new MailMessage(to, subject, "text"), Guid.NewGuid()));
    }

    [Theory]
    [InlineData("Smtp:From", "nobody", "Smtp:From")]
    [InlineData("Smtp:Security", "Perhaps", "Smtp:Security")]
    [InlineData("Smtp:User", "alone", "Smtp:Password")]
    [InlineData("Smtp:Port", "0", "Port")]
    [InlineData("PublicUrl", "", "PublicUrl")]
    [InlineData("PublicUrl", "usage.example", "PublicUrl")]
    [InlineData("PublicUrl", "javascript:alert(1)", "PublicUrl")]
    [InlineData("PublicUrl", "https://usage.example/?a=b", "PublicUrl")]
    public void Load_WhenASettingIsWrong_ShouldNameIt(string key, string value, string named)
    {
        var settings = new Dictionary<string, string>
        {
            ["Smtp:Host"] = "localhost",
            ["Smtp:From"] = "usage@example.com",
            ["PublicUrl"] = "https://usage.example",
            [key] = value,
        };

        SettingsException exception = Assert.Throws<SettingsException>(() =>
            Settings([.. settings.Select(pair => (pair.Key, pair.Value))])
        );

        Assert.Contains(named, exception.Message, StringComparison.Ordinal);
    }

    private Task<Guid> EnqueueAsync(SmtpServer smtp, string address) => EnqueueAsync(smtp.Settings, address);

    private async Task<Guid> EnqueueAsync((string, string)[] settings, string address)
    {
        LoginResponse admin = await fixture.Host.CreateEnterpriseAsync();
        EnterpriseInfo enterprise = (
            await fixture
                .Host.Services.GetRequiredService<EnterpriseDirectory>()
                .FindAsync(admin.User.EnterpriseId!.Value, Stop)
        )!;
        await using ScopedTransaction own = await fixture.Database.Database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            Stop
        );
        await new MailOutbox(Settings(settings), _time).EnqueueAsync(
            own,
            enterprise,
            new MailMessage(address, "A subject – with ünicode", "First\nsecond\n"),
            Stop
        );
        await using NpgsqlCommand find = own.Command(
            "SELECT mail_id FROM mail_outbox WHERE enterprise_id = $1",
            enterprise.EnterpriseId
        );
        var mailId = (Guid)(await find.ExecuteScalarAsync(Stop))!;
        await own.CommitAsync(Stop);
        return mailId;
    }

    private MailSender Sender((string, string)[] settings) =>
        new(
            fixture.Database.Database,
            fixture.Host.Services.GetRequiredService<EnterpriseDirectory>(),
            Settings(settings),
            _time,
            NullLogger<MailSender>.Instance
        );

    private static ServerSettings Settings((string Key, string Value)[] settings) =>
        ServerSettings.Load(
            new ConfigurationBuilder()
                .AddInMemoryCollection(settings.Select(s => new KeyValuePair<string, string?>(s.Key, s.Value)))
                .Build()
        );

    private sealed record Row(
        bool IsSent,
        bool HasMessage,
        DateTimeOffset? NextAttemptAt,
        int Attempts,
        string? LastError
    );

    private async Task<Row> RowAsync(Guid mailId)
    {
        await using var owner = NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using NpgsqlCommand command = owner.CreateCommand(
            """
            SELECT sent_at IS NOT NULL, message IS NOT NULL, next_attempt_at, attempts, last_error
            FROM mail_outbox WHERE mail_id = $1
            """
        );
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = mailId });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(Stop);
        Assert.True(await reader.ReadAsync(Stop));
        return new Row(
            reader.GetBoolean(0),
            reader.GetBoolean(1),
            reader.IsDBNull(2) ? null : reader.GetFieldValue<DateTimeOffset>(2),
            reader.GetInt32(3),
            reader.IsDBNull(4) ? null : reader.GetString(4)
        );
    }
}
