using System.Net;
using System.Net.Http.Json;
using Microsoft.Extensions.DependencyInjection;
using MimeKit;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.People;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.People;

/// <summary>Forgotten passwords, over a real mail server.</summary>
public sealed class PasswordResetTests(MailingServerFixture fixture) : IClassFixture<MailingServerFixture>
{
    private const string Ask = "/v1/auth/password-reset";
    private const string Complete = Ask + "/complete";
    private const string NewPassword = "nine amber kites over the dunes";

    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task Complete_WhenTheLinkIsGood_ShouldSetThePasswordAndEndEverySession()
    {
        LoginResponse before = (await Acme.CreateAsync(Server)).Admin;
        string email = before.User.Email;
        using HttpResponseMessage asked = await AskAsync(email.ToUpperInvariant());
        await PeopleOf.EnsureAsync(asked, HttpStatusCode.Accepted);
        MimeMessage mail = await fixture.Mail.MailAsync(email, "new password");
        Assert.Contains("https://usage.example/reset-password?token=", mail.TextBody!, StringComparison.Ordinal);
        string token = SmtpServer.TokenIn(mail);

        using HttpResponseMessage guessable = await CompleteAsync(token, $"{email} 1");
        await RunningServer.AssertProblemAsync(guessable, 400, "invalid_password");
        using HttpResponseMessage done = await CompleteAsync(token, NewPassword);
        await PeopleOf.EnsureAsync(done, HttpStatusCode.NoContent);

        Assert.Equal(401, await Server.StatusAsync(HttpMethod.Get, "/v1/auth/validate", before.AccessToken));
        using HttpResponseMessage refreshed = await Server.PostAsync(
            "/v1/auth/refresh",
            null,
            new RefreshRequest(before.RefreshToken)
        );
        await RunningServer.AssertProblemAsync(refreshed, 401, "invalid_token");
        using HttpResponseMessage old = await Server.PostAsync(
            "/v1/auth/login",
            null,
            new LoginRequest(email, Acme.AdminPassword)
        );
        await RunningServer.AssertProblemAsync(old, 401, "invalid_credentials");
        await Server.LoginAsync(email, NewPassword);
        using HttpResponseMessage again = await CompleteAsync(token, "another password of five words");
        await RunningServer.AssertProblemAsync(again, 400, "invalid_link");
        MimeMessage notice = await fixture.Mail.MailAsync(email, "was changed");
        Assert.DoesNotContain("token=", notice.TextBody!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Ask_WhenTheHostHeaderIsForged_ShouldMailThePublicAddress()
    {
        string email = (await Acme.CreateAsync(Server)).Admin.User.Email;
        using var request = new HttpRequestMessage(HttpMethod.Post, Ask)
        {
            Content = JsonContent.Create(new PasswordResetRequest(email)),
            Headers = { Host = "evil.example" },
        };
        request.Headers.Add("X-Forwarded-Host", "evil.example");

        using HttpResponseMessage asked = await Server.Client.SendAsync(request, TestContext.Current.CancellationToken);

        await PeopleOf.EnsureAsync(asked, HttpStatusCode.Accepted);
        MimeMessage mail = await fixture.Mail.MailAsync(email, "new password");
        Assert.DoesNotContain("evil", mail.ToString(), StringComparison.Ordinal);
        Assert.Contains("https://usage.example/", mail.TextBody!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Ask_WhenNobodySignsInWithTheAddress_ShouldAnswerTheSameAndSendNothing()
    {
        string known = (await Acme.CreateAsync(Server)).Admin.User.Email;
        string unknown = PeopleOf.NewEmail();

        using HttpResponseMessage ofUnknown = await AskAsync(unknown);
        using HttpResponseMessage ofKnown = await AskAsync(known);

        Assert.Equal(await ShapeAsync(ofUnknown), await ShapeAsync(ofKnown));
        await fixture.Mail.MailAsync(known, "new password"); // asked after it, and they are looked up in order
        Assert.Empty(fixture.Mail.MailsTo(unknown));
    }

    [Fact]
    public async Task Ask_WhenNothingCanBeLookedUp_ShouldAnswerAllTheSame()
    {
        string email = (await Acme.CreateAsync(Server)).Admin.User.Email;
        await using var owner = NpgsqlDataSource.Create(Server.Database.OwnerConnectionString);
        await using NpgsqlConnection connection = await owner.OpenConnectionAsync(
            TestContext.Current.CancellationToken
        );
        await using NpgsqlTransaction blocking = await connection.BeginTransactionAsync(
            TestContext.Current.CancellationToken
        );
        await using (
            var block = new NpgsqlCommand("LOCK TABLE users, account_links IN ACCESS EXCLUSIVE MODE", connection)
        )
        {
            await block.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        // The answer waits for neither table: its time cannot tell what is in them.
        using HttpResponseMessage asked = await AskAsync(email);

        await PeopleOf.EnsureAsync(asked, HttpStatusCode.Accepted);
        await blocking.RollbackAsync(TestContext.Current.CancellationToken);
        await fixture.Mail.MailAsync(email, "new password");
    }

    [Fact]
    public async Task Ask_WhenAskedAgainAndAgain_ShouldSendAFewAndOnlyTheNewestWorks()
    {
        string email = (await Acme.CreateAsync(Server)).Admin.User.Email;
        string after = (await Acme.CreateAsync(Server)).Admin.User.Email;
        for (int i = 0; i < AccountLinks.LinksPerHourMax + 2; i++)
        {
            using HttpResponseMessage asked = await AskAsync(email);
            await PeopleOf.EnsureAsync(asked, HttpStatusCode.Accepted);
        }

        using HttpResponseMessage last = await AskAsync(after);
        await PeopleOf.EnsureAsync(last, HttpStatusCode.Accepted);
        await fixture.Mail.MailAsync(after, "new password");
        await fixture.Mail.MailAsync(email, "new password", AccountLinks.LinksPerHourMax);

        IReadOnlyList<MimeMessage> mails = fixture.Mail.MailsTo(email);
        Assert.Equal(AccountLinks.LinksPerHourMax, mails.Count);
        int good = 0;
        foreach (MimeMessage mail in mails)
        {
            using HttpResponseMessage tried = await CompleteAsync(SmtpServer.TokenIn(mail), "password1234");
            string body = await tried.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
            good += body.Contains("invalid_password", StringComparison.Ordinal) ? 1 : 0;
        }

        Assert.Equal(1, good);
    }

    [Fact]
    public void TryAsk_WhenOneAddressAsksTooOften_ShouldHoldThatOneBack()
    {
        PasswordResets resets = Server.Services.GetRequiredService<PasswordResets>();
        var loud = IPAddress.Parse("203.0.113.9");

        Assert.All(
            Enumerable.Range(0, PasswordResets.PerAddressAndHourMax),
            _ => Assert.True(resets.TryAsk("nobody@example.com", loud))
        );

        Assert.False(resets.TryAsk("nobody@example.com", loud));
        Assert.True(resets.TryAsk("nobody@example.com", IPAddress.Parse("203.0.113.10")));
    }

    private Task<HttpResponseMessage> AskAsync(string email) =>
        Server.PostAsync(Ask, null, new PasswordResetRequest(email));

    private Task<HttpResponseMessage> CompleteAsync(string token, string password) =>
        Server.PostAsync(Complete, null, new CompletePasswordResetRequest(token, password));

    private static async Task<string> ShapeAsync(HttpResponseMessage response)
    {
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        string headers = string.Join(
            ';',
            response.Headers.Where(header => header.Key != "Date").Select(h => $"{h.Key}={string.Join(',', h.Value)}")
        );
        return $"{response.StatusCode} {headers} {body}";
    }
}
