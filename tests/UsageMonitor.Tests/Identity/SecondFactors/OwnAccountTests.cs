using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SecondFactors;

public sealed class OwnAccountTests(FactorFixture fixture) : IClassFixture<FactorFixture>
{
    private const string Sessions = "/v1/me/sessions";

    [Fact]
    public async Task Me_WhenTheNameIsChanged_ShouldShowItAndKeepItSealed()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.DoneAsync(HttpMethod.Put, "/v1/me", new ChangeMeRequest("  Ada Lovelace "));
        await person.RefusedAsync(
            HttpMethod.Put,
            "/v1/me",
            new ChangeMeRequest(new string('x', 101)),
            400,
            "invalid_request"
        );
        await person.RefusedAsync(HttpMethod.Put, "/v1/me", new ChangeMeRequest("a\nb"), 400, "invalid_request");

        MeResponse me = await person.SendAsync<MeResponse>(HttpMethod.Get, "/v1/me");

        Assert.Equal(
            (person.UserId, person.Email, "Ada Lovelace", person.EnterpriseId, "Example Ltd", true, false),
            (
                me.UserId,
                me.Email,
                me.DisplayName,
                me.EnterpriseId,
                me.EnterpriseName,
                me.HasPassword,
                me.MustSetUpSecondFactor
            )
        );
        Assert.Equal(["EnterpriseAdmin"], me.Roles);
        await person.DoneAsync(HttpMethod.Put, "/v1/me", new ChangeMeRequest());
        Assert.Null((await person.SendAsync<MeResponse>(HttpMethod.Get, "/v1/me")).DisplayName);
    }

    [Fact]
    public async Task Me_WhenAnApiKeyAsks_ShouldBeRefused()
    {
        LoginResponse admin = await fixture.Host.CreateEnterpriseAsync();
        CreateApiKeyResponse key = await fixture.Host.CreateApiKeyAsync(admin, "usage:read");

        using HttpResponseMessage response = await fixture.Host.SendAsync(HttpMethod.Get, "/v1/me", key.ApiKey);

        await IdentityHost.AssertProblemAsync(response, 403, "forbidden");
    }

    [Fact]
    public async Task Sessions_WhenListedInPages_ShouldShowEachOnceNewestFirst()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        for (int i = 0; i < 4; i++)
        {
            fixture.Time.Advance(TimeSpan.FromSeconds(i % 2)); // some at the same instant
            using HttpResponseMessage _ = await person.PasswordAsync();
        }

        var listed = new List<SessionSummary>();
        string? next = null;
        do
        {
            string after = next is null ? "" : "&after=" + next;
            SessionsResponse page = await person.SendAsync<SessionsResponse>(
                HttpMethod.Get,
                $"{Sessions}?limit=2{after}"
            );
            Assert.InRange(page.Sessions.Count, 1, 2);
            listed.AddRange(page.Sessions);
            next = page.Next;
        } while (next is not null);

        Assert.Equal(5, listed.Select(session => session.SessionId).Distinct().Count());
        Assert.Equal(5, listed.Count);
        Assert.Equal(
            listed.OrderByDescending(session => session.CreatedAt).Select(s => s.CreatedAt),
            listed.Select(s => s.CreatedAt)
        );
        SessionSummary mine = Assert.Single(listed, session => session.IsThisOne);
        Assert.Equal(("password", false, "127.0.0.1"), (mine.Method, mine.InBrowser, mine.Address));
        await person.RefusedAsync(HttpMethod.Get, Sessions + "?after=nonsense", null, 400, "invalid_request");
        await person.RefusedAsync(HttpMethod.Get, Sessions + "?limit=0", null, 400, "invalid_request");
        await person.RefusedAsync(HttpMethod.Get, Sessions + "?limit=101", null, 400, "invalid_request");
    }

    [Fact]
    public async Task EndSession_WhenItIsAnothers_ShouldNotFindIt()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        FactorPerson stranger = await fixture.NewPersonAsync();
        (_, string colleague) = await fixture.AddColleagueAsync(person.EnterpriseId, "EnterpriseAdmin");
        Guid sessionId = (await person.SendAsync<MeResponse>(HttpMethod.Get, "/v1/me")).SessionId;

        await stranger.RefusedAsync(HttpMethod.Delete, $"{Sessions}/{sessionId}", null, 404, "not_found");
        await person.RefusedAsync(HttpMethod.Delete, $"{Sessions}/{sessionId}", null, 404, "not_found", colleague);

        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync("/v1/me"));
    }

    [Fact]
    public async Task EndSessions_WhenOthersAreEnded_ShouldKeepThisOne()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        LoginResponse other = await AnotherAsync(person);

        EndedSessionsResponse ended = await person.SendAsync<EndedSessionsResponse>(HttpMethod.Delete, Sessions);

        Assert.Equal(1, ended.Ended);
        Assert.Equal(HttpStatusCode.Unauthorized, await person.StatusAsync("/v1/me", other.AccessToken));
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync("/v1/me"));
        using HttpResponseMessage refresh = await fixture.Host.PostAsync(
            "/v1/auth/refresh",
            new RefreshRequest(other.RefreshToken),
            null
        );
        await IdentityHost.AssertProblemAsync(refresh, 401, "invalid_token");
    }

    [Fact]
    public async Task Password_WhenChanged_ShouldEndOtherSessionsAndTellThePerson()
    {
        const string NewPassword = "another password, quite long";
        FactorPerson person = await fixture.NewPersonAsync();
        LoginResponse other = await AnotherAsync(person);
        const string Path = "/v1/me/password";
        await person.RefusedAsync(
            HttpMethod.Put,
            Path,
            new ChangePasswordRequest("wrong", NewPassword),
            422,
            "wrong_password"
        );
        await person.RefusedAsync(
            HttpMethod.Put,
            Path,
            new ChangePasswordRequest(IdentityHost.AdminPassword, "short"),
            400,
            "weak_password"
        );
        await person.RefusedAsync(
            HttpMethod.Put,
            Path,
            new ChangePasswordRequest(IdentityHost.AdminPassword, IdentityHost.AdminPassword),
            400,
            "weak_password"
        );

        await person.DoneAsync(
            HttpMethod.Put,
            Path,
            new ChangePasswordRequest(IdentityHost.AdminPassword, NewPassword)
        );

        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync("/v1/me"));
        Assert.Equal(HttpStatusCode.Unauthorized, await person.StatusAsync("/v1/me", other.AccessToken));
        using HttpResponseMessage old = await person.PasswordAsync();
        await IdentityHost.AssertProblemAsync(old, 401, "invalid_credentials");
        using HttpResponseMessage now = await person.PasswordAsync(NewPassword);
        Assert.Equal(HttpStatusCode.OK, now.StatusCode);
        Assert.Equal([AccountNotices.PasswordChanged], await fixture.MailsAsync(person.EnterpriseId));
    }

    [Fact]
    public async Task Logout_WhenItHasNoBody_ShouldEndTheTokensSession()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        LoginResponse other = await AnotherAsync(person);

        await person.DoneAsync(HttpMethod.Post, "/v1/auth/logout");

        Assert.Equal(HttpStatusCode.Unauthorized, await person.StatusAsync("/v1/me"));
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync("/v1/me", other.AccessToken));
        await person.RefusedAsync(HttpMethod.Post, "/v1/auth/logout", null, 401, "invalid_token");
        using HttpResponseMessage nothing = await fixture.Host.SendAsync(HttpMethod.Post, "/v1/auth/logout", null);
        await IdentityHost.AssertProblemAsync(nothing, 400, "invalid_request");
    }

    private static async Task<LoginResponse> AnotherAsync(FactorPerson person)
    {
        using HttpResponseMessage response = await person.PasswordAsync();
        return await IdentityHost.ReadAsync<LoginResponse>(response, HttpStatusCode.OK);
    }
}

/// <summary>Two instances of one platform: what ends a session on one ends it on the other.</summary>
public sealed class OwnSessionsOnInstancesTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    [Fact]
    public async Task EndSession_WhenAnotherInstanceKnowsIt_ShouldBeRefusedThereToo()
    {
        await using IdentityHost other = await IdentityHost.StartAsync(fixture.Database);
        LoginResponse admin = await fixture.Host.CreateEnterpriseAsync();
        LoginResponse second = await fixture.Host.LoginAsync(admin.User.Email, IdentityHost.AdminPassword);
        Assert.Equal(HttpStatusCode.OK, await other.StatusAsync(HttpMethod.Get, "/v1/me", second.AccessToken));
        using HttpResponseMessage list = await fixture.Host.SendAsync(
            HttpMethod.Get,
            "/v1/me/sessions",
            admin.AccessToken
        );
        SessionsResponse sessions = await IdentityHost.ReadAsync<SessionsResponse>(list, HttpStatusCode.OK);
        Guid ended = sessions.Sessions.Single(session => !session.IsThisOne).SessionId;

        Assert.Equal(
            HttpStatusCode.NoContent,
            await fixture.Host.StatusAsync(HttpMethod.Delete, $"/v1/me/sessions/{ended}", admin.AccessToken)
        );

        Assert.Equal(
            HttpStatusCode.Unauthorized,
            await fixture.Host.StatusAsync(HttpMethod.Get, "/v1/me", second.AccessToken)
        );
        await Eventually.TrueAsync(
            async () =>
                await other.StatusAsync(HttpMethod.Get, "/v1/me", second.AccessToken) == HttpStatusCode.Unauthorized,
            "the other instance refuses the ended session"
        );
        Assert.Equal(HttpStatusCode.OK, await other.StatusAsync(HttpMethod.Get, "/v1/me", admin.AccessToken));
    }

    [Fact]
    public async Task Require_WhenAnotherInstanceKnowsTheSession_ShouldTakeItsRightsThereToo()
    {
        await using IdentityHost other = await IdentityHost.StartAsync(fixture.Database);
        LoginResponse admin = await fixture.Host.CreateEnterpriseAsync();
        Assert.Equal(HttpStatusCode.OK, await other.StatusAsync(HttpMethod.Get, "/v1/usage", admin.AccessToken));

        await FactorFixture.RequireAsync(
            fixture.Host,
            fixture.Database,
            admin.User.EnterpriseId!.Value,
            required: true
        );

        await Eventually.TrueAsync(
            async () =>
                await other.StatusAsync(HttpMethod.Get, "/v1/usage", admin.AccessToken) == HttpStatusCode.Forbidden,
            "the other instance lets the session set up only"
        );
        Assert.Equal(HttpStatusCode.OK, await other.StatusAsync(HttpMethod.Get, "/v1/me", admin.AccessToken));
    }
}
