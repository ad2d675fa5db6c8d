using System.Net;
using MimeKit;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Identity.People;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.People;

/// <summary>Invitations over a real mail server.</summary>
public sealed class InvitationTests(MailingServerFixture fixture) : IClassFixture<MailingServerFixture>
{
    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task Accept_WhenTheLinkCameByMail_ShouldWorkOnce()
    {
        Acme acme = await Acme.CreateAsync(Server);
        string email = PeopleOf.NewEmail();

        using HttpResponseMessage invited = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
        SentLinkResponse sent = await RunningServer.ReadAsync<SentLinkResponse>(invited, HttpStatusCode.Created);
        Assert.Null(sent.Link);
        MimeMessage mail = await fixture.Mail.MailAsync(email, "invited");
        Assert.Equal("usage@usage-monitor.example", mail.From.Mailboxes.Single().Address);
        Assert.Contains("https://usage.example/invitation?token=", mail.TextBody, StringComparison.Ordinal);
        string token = SmtpServer.TokenIn(mail);

        using HttpResponseMessage weak = await Server.AcceptAsync(token, "password1234");
        await RunningServer.AssertProblemAsync(weak, 400, "invalid_password");
        HttpResponseMessage[] answers = await Task.WhenAll(
            Enumerable.Range(0, 4).Select(_ => Server.AcceptAsync(token))
        );
        Assert.Single(answers, answer => answer.StatusCode == HttpStatusCode.NoContent);
        foreach (HttpResponseMessage refused in answers.Where(a => a.StatusCode != HttpStatusCode.NoContent))
        {
            await RunningServer.AssertProblemAsync(refused, 400, "invalid_link");
        }

        LoginResponse person = await Server.LoginAsync(email, PeopleOf.Password);
        Assert.Equal([RolePermissions.Analyst], person.User.Roles);
        Assert.Equal(acme.EnterpriseId, person.User.EnterpriseId);
        UserSummary listed = await Server.GetAsync<UserSummary>(
            $"{PeopleOf.Path}/{sent.UserId}",
            acme.Admin.AccessToken
        );
        Assert.Equal((email, "ACTIVE", "LOCAL"), (listed.Email, listed.Status, listed.Origin));
    }

    [Fact]
    public async Task InviteAgain_WhenALinkIsOut_ShouldEndTheEarlierOne()
    {
        Acme acme = await Acme.CreateAsync(Server);
        string email = PeopleOf.NewEmail();
        using HttpResponseMessage invited = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
        SentLinkResponse sent = await RunningServer.ReadAsync<SentLinkResponse>(invited, HttpStatusCode.Created);
        string first = SmtpServer.TokenIn(await fixture.Mail.MailAsync(email, "invited"));
        string again = $"{PeopleOf.Path}/{sent.UserId}/invitation";

        using HttpResponseMessage second = await Server.SendAsync(HttpMethod.Post, again, acme.Admin.AccessToken);

        await RunningServer.ReadAsync<SentLinkResponse>(second, HttpStatusCode.Accepted);
        await fixture.Mail.MailAsync(email, "invited", number: 2);
        string newest = fixture
            .Mail.MailsTo(email)
            .Select(mail => SmtpServer.TokenIn(mail))
            .Single(token => token != first);
        using HttpResponseMessage old = await Server.AcceptAsync(first);
        await RunningServer.AssertProblemAsync(old, 400, "invalid_link");
        using HttpResponseMessage accepted = await Server.AcceptAsync(newest);
        await PeopleOf.EnsureAsync(accepted, HttpStatusCode.NoContent);
        using HttpResponseMessage late = await Server.SendAsync(HttpMethod.Post, again, acme.Admin.AccessToken);
        await RunningServer.AssertProblemAsync(late, 409, "not_invited");
    }

    [Fact]
    public async Task InviteAgain_WhenTooOftenWithinTheHour_ShouldAskToWait()
    {
        Acme acme = await Acme.CreateAsync(Server);
        using HttpResponseMessage invited = await Server.InviteAsync(
            acme.Admin,
            PeopleOf.NewEmail(),
            RolePermissions.Analyst
        );
        SentLinkResponse sent = await RunningServer.ReadAsync<SentLinkResponse>(invited, HttpStatusCode.Created);
        string again = $"{PeopleOf.Path}/{sent.UserId}/invitation";
        for (int i = 1; i < AccountLinks.LinksPerHourMax; i++)
        {
            Assert.Equal(202, await Server.StatusAsync(HttpMethod.Post, again, acme.Admin.AccessToken));
        }

        using HttpResponseMessage tooMany = await Server.SendAsync(HttpMethod.Post, again, acme.Admin.AccessToken);

        await RunningServer.AssertProblemAsync(tooMany, 429, "too_many_links");
        Assert.NotNull(tooMany.Headers.RetryAfter);
    }

    [Fact]
    public async Task Invite_WhenTheAddressSignsInElsewhere_ShouldTellOnlyWhoReadsItsMail()
    {
        Acme acme = await Acme.CreateAsync(Server);
        Acme other = await Acme.CreateAsync(Server);
        string taken = other.Admin.User.Email;
        string free = PeopleOf.NewEmail();

        using HttpResponseMessage ofFree = await Server.InviteAsync(acme.Admin, free, RolePermissions.Analyst);
        using HttpResponseMessage ofTaken = await Server.InviteAsync(acme.Admin, taken, RolePermissions.Analyst);
        SentLinkResponse freeSent = await RunningServer.ReadAsync<SentLinkResponse>(ofFree, HttpStatusCode.Created);
        SentLinkResponse takenSent = await RunningServer.ReadAsync<SentLinkResponse>(ofTaken, HttpStatusCode.Created);

        // To the admin the two are alike, in the answers and in the list.
        Assert.Equal(
            (freeSent.Link, true),
            (takenSent.Link, takenSent.LinkExpiresAt > freeSent.LinkExpiresAt.AddMinutes(-1))
        );
        UserSummary[] listed = (
            await Server.GetAsync<UserPage>($"{PeopleOf.Path}?role=Analyst", acme.Admin.AccessToken)
        ).Users.ToArray();
        Assert.Equal([free, taken], listed.Select(person => person.Email));
        Assert.All(listed, person => Assert.Equal("INVITED", person.Status));
        UserPage found = await Server.GetAsync<UserPage>(
            $"{PeopleOf.Path}?email={Uri.EscapeDataString(taken.ToUpperInvariant())}",
            acme.Admin.AccessToken
        );
        Assert.Equal(takenSent.UserId, Assert.Single(found.Users).UserId);

        // The owner of the address learns it, and loses nothing.
        string token = SmtpServer.TokenIn(await fixture.Mail.MailAsync(taken, "invited"));
        using HttpResponseMessage accepted = await Server.AcceptAsync(token);
        await RunningServer.AssertProblemAsync(accepted, 409, "email_taken");
        Assert.Equal(other.EnterpriseId, (await Server.LoginAsync(taken, Acme.AdminPassword)).User.EnterpriseId);
    }

    [Fact]
    public async Task Invite_WhenTheAddressIsOfTheOwnEnterprise_ShouldBeA409()
    {
        Acme acme = await Acme.CreateAsync(Server);
        string email = PeopleOf.NewEmail();
        using HttpResponseMessage first = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
        await PeopleOf.EnsureAsync(first, HttpStatusCode.Created);

        foreach (string known in new[] { email, acme.Admin.User.Email })
        {
            using HttpResponseMessage again = await Server.InviteAsync(acme.Admin, known, RolePermissions.Analyst);
            await RunningServer.AssertProblemAsync(again, 409, "email_taken");
        }
    }

    [Fact]
    public async Task Accept_WhenTheLinkHasExpiredOrIsForAnotherPurpose_ShouldRefuseIt()
    {
        Acme acme = await Acme.CreateAsync(Server);
        string email = PeopleOf.NewEmail();
        using HttpResponseMessage invited = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
        SentLinkResponse sent = await RunningServer.ReadAsync<SentLinkResponse>(invited, HttpStatusCode.Created);
        string token = SmtpServer.TokenIn(await fixture.Mail.MailAsync(email, "invited"));

        using HttpResponseMessage asReset = await Server.PostAsync(
            "/v1/auth/password-reset/complete",
            null,
            new CompletePasswordResetRequest(token, PeopleOf.Password)
        );
        await RunningServer.AssertProblemAsync(asReset, 400, "invalid_link");
        await ExecuteAsync("UPDATE account_links SET expires_at = now() WHERE user_id = $1", sent.UserId);
        foreach (string bad in new[] { token, "", "no token", new string('x', 5_000), token.ToUpperInvariant() })
        {
            using HttpResponseMessage late = await Server.AcceptAsync(bad);
            await RunningServer.AssertProblemAsync(late, 400, "invalid_link");
        }
    }

    [Fact]
    public async Task Mail_WhenTheTransactionRollsBack_ShouldNotBeSent()
    {
        Acme acme = await Acme.CreateAsync(Server);
        string email = PeopleOf.NewEmail();

        using HttpResponseMessage refused = await Server.InviteAsync(acme.Admin, email, "NoSuchRole");
        await RunningServer.AssertProblemAsync(refused, 400, "unknown_role");
        await using (var owner = NpgsqlDataSource.Create(Server.Database.OwnerConnectionString))
        {
            // The last statement of the act fails: nothing of it is there, its mail neither.
            await ExecuteAsync("ALTER TABLE identity_version ADD CONSTRAINT closed CHECK (version < 0) NOT VALID");
            using HttpResponseMessage failed = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
            await ExecuteAsync("ALTER TABLE identity_version DROP CONSTRAINT closed");
            Assert.Equal(HttpStatusCode.InternalServerError, failed.StatusCode);
        }

        using HttpResponseMessage invited = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
        await PeopleOf.EnsureAsync(invited, HttpStatusCode.Created);
        await fixture.Mail.MailAsync(email, "invited");
        Assert.Single(fixture.Mail.MailsTo(email));
    }

    private async Task ExecuteAsync(string sql, params object[] parameters)
    {
        await using var owner = NpgsqlDataSource.Create(Server.Database.OwnerConnectionString);
        await using NpgsqlCommand command = owner.CreateCommand(sql);
        foreach (object parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
    }
}
