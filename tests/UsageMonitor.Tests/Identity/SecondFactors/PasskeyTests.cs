using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Identity.SecondFactors;

public sealed class PasskeyTests(FactorFixture fixture) : IClassFixture<FactorFixture>
{
    private const string PasskeysPath = FactorPerson.Factors + "/passkeys";

    private const string Origin = FactorFixture.PublicUrl;

    [Fact]
    public async Task Answer_WhenThePasskeySigns_ShouldSignInOnce()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);
        Asked asked = await person.AskedAsync();
        Assert.Equal(["passkey", "recovery"], asked.Methods);
        var answer = new SecondFactorRequest(asked.Challenge, Passkey: device.Get(asked.PasskeyOptions!.Value));

        await person.AnsweredAsync(answer);

        await person.AnswerRefusedAsync(answer, 401, "challenge_over");
        SessionsResponse sessions = await person.SendAsync<SessionsResponse>(HttpMethod.Get, "/v1/me/sessions");
        Assert.Contains(sessions.Sessions, session => session is { Method: "password", SecondFactor: "passkey" });
        Assert.Equal([AccountNotices.PasskeyAdded], await fixture.MailsAsync(person.EnterpriseId));
    }

    [Fact]
    public async Task Answer_WhenTheSignatureIsForAnotherSiteChallengeOrPerson_ShouldBeRefused()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);
        FactorPerson other = await fixture.NewPersonAsync();
        using SoftwareAuthenticator others = await AddAsync(other);
        Asked earlier = await person.AskedAsync();
        Asked asked = await person.AskedAsync();

        async Task AssertRefusedAsync(System.Text.Json.JsonElement passkey) =>
            await person.AnswerRefusedAsync(
                new SecondFactorRequest(asked.Challenge, Passkey: passkey),
                401,
                "invalid_second_factor"
            );

        device.Origin = "https://phishing.example";
        await AssertRefusedAsync(device.Get(asked.PasskeyOptions!.Value));
        device.Origin = Origin;
        device.RelyingParty = "phishing.example";
        await AssertRefusedAsync(device.Get(asked.PasskeyOptions!.Value));
        device.RelyingParty = null;
        await AssertRefusedAsync(device.Get(earlier.PasskeyOptions!.Value));
        await AssertRefusedAsync(others.Get(asked.PasskeyOptions!.Value));
        await person.AnsweredAsync(
            new SecondFactorRequest(asked.Challenge, Passkey: device.Get(asked.PasskeyOptions!.Value))
        );
    }

    [Fact]
    public async Task Answer_WhenTheCounterGoesBack_ShouldTakeItForACopy()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);
        device.SignCount = 10;
        Asked first = await person.AskedAsync();
        await person.AnsweredAsync(
            new SecondFactorRequest(first.Challenge, Passkey: device.Get(first.PasskeyOptions!.Value))
        );
        device.SignCount = 10;

        Asked second = await person.AskedAsync();

        await person.AnswerRefusedAsync(
            new SecondFactorRequest(second.Challenge, Passkey: device.Get(second.PasskeyOptions!.Value)),
            401,
            "invalid_second_factor"
        );
    }

    [Fact]
    public async Task SignIn_WhenThePasskeyIsAlone_ShouldNeedItsOwnerVerifiedAndTakeAnAnswerOnce()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);
        PasskeyOptionsResponse asked = await OptionsAsync();
        device.VerifiesUser = false;
        await SignInRefusedAsync(
            new PasskeySignInRequest(asked.Challenge, device.Get(asked.Options)),
            "invalid_second_factor"
        );
        device.VerifiesUser = true;
        var answer = new PasskeySignInRequest(asked.Challenge, device.Get(asked.Options));

        using HttpResponseMessage response = await fixture.Host.PostAsync("/v1/auth/passkey", answer, null);
        LoginResponse signedIn = await IdentityHost.ReadAsync<LoginResponse>(response, HttpStatusCode.OK);

        Assert.Equal(person.UserId, signedIn.User.UserId);
        await fixture.RequireAsync(person.EnterpriseId);
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync("/v1/usage", signedIn.AccessToken));
        await SignInRefusedAsync(answer, "invalid_second_factor");
    }

    [Fact]
    public async Task SignIn_WhenTheAnswerOfACounterlessPasskeyComesTwiceAtOnce_ShouldLetOneIn()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);
        PasskeyOptionsResponse asked = await OptionsAsync();
        device.SignCount = uint.MaxValue; // becomes 0: as passkeys that are kept in a cloud have it
        var answer = new PasskeySignInRequest(asked.Challenge, device.Get(asked.Options));
        await ExecuteAsync("UPDATE passkeys SET sign_count = 0 WHERE enterprise_id = $1", person.EnterpriseId);

        HttpResponseMessage[] responses = await Task.WhenAll(
            Enumerable.Range(0, 5).Select(_ => fixture.Host.PostAsync("/v1/auth/passkey", answer, null))
        );

        Assert.Single(responses, response => response.StatusCode == HttpStatusCode.OK);
        Assert.Equal(4, responses.Count(response => response.StatusCode == HttpStatusCode.Unauthorized));
    }

    [Fact]
    public async Task SignIn_WhenThePersonOrTheEnterpriseIsOut_ShouldBeRefused()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);

        async Task AssertRefusedAsync(string sql, string undo, int status, string code)
        {
            await ExecuteAsync(sql, person.EnterpriseId);
            PasskeyOptionsResponse asked = await OptionsAsync();
            using (
                HttpResponseMessage refused = await fixture.Host.PostAsync(
                    "/v1/auth/passkey",
                    new PasskeySignInRequest(asked.Challenge, device.Get(asked.Options)),
                    null
                )
            )
            {
                await IdentityHost.AssertProblemAsync(refused, status, code);
            }

            await ExecuteAsync(undo, person.EnterpriseId);
        }

        await AssertRefusedAsync(
            "UPDATE users SET deactivated_at = now() WHERE enterprise_id = $1",
            "UPDATE users SET deactivated_at = NULL WHERE enterprise_id = $1",
            401,
            "invalid_second_factor"
        );
        await AssertRefusedAsync(
            "UPDATE enterprises SET status = 'SUSPENDED' WHERE enterprise_id = $1",
            "UPDATE enterprises SET status = 'ACTIVE' WHERE enterprise_id = $1",
            403,
            "enterprise_suspended"
        );
    }

    [Fact]
    public async Task SignIn_WhenPeopleSignInElsewhere_ShouldBeForWhoMayUseAPasswordOnly()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);

        async Task<HttpResponseMessage> SignInAsync()
        {
            PasskeyOptionsResponse asked = await OptionsAsync();
            var answer = new PasskeySignInRequest(asked.Challenge, device.Get(asked.Options));
            return await fixture.Host.PostAsync("/v1/auth/passkey", answer, null);
        }

        await ExecuteAsync(
            "UPDATE enterprises SET password_sign_in = false WHERE enterprise_id = $1",
            person.EnterpriseId
        );
        using HttpResponseMessage admin = await SignInAsync();
        string token = (await IdentityHost.ReadAsync<LoginResponse>(admin, HttpStatusCode.OK)).AccessToken;
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync("/v1/me", token));

        await ExecuteAsync(
            """
            WITH gone AS (DELETE FROM user_roles WHERE enterprise_id = $1)
            INSERT INTO user_roles SELECT enterprise_id, user_id, 'Analyst' FROM users WHERE enterprise_id = $1 AND email IS NOT NULL
            """,
            person.EnterpriseId
        );

        // The session that stands ends with the right to it, and no new one is begun.
        Assert.Equal(HttpStatusCode.Unauthorized, await person.StatusAsync("/v1/me", token));
        using HttpResponseMessage analyst = await SignInAsync();
        await IdentityHost.AssertProblemAsync(analyst, 401, "invalid_second_factor");
    }

    [Fact]
    public async Task Add_WhenTheCredentialIsRegisteredOrForAnother_ShouldBeRefused()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);
        FactorPerson other = await fixture.NewPersonAsync();
        PasskeyOptionsResponse options = await other.SendAsync<PasskeyOptionsResponse>(
            HttpMethod.Post,
            PasskeysPath + "/options"
        );

        await other.RefusedAsync(
            HttpMethod.Post,
            PasskeysPath,
            new AddPasskeyRequest("stolen", options.Challenge, device.Create(options.Options)),
            422,
            "invalid_passkey"
        );
        using var fresh = new SoftwareAuthenticator(Origin);
        await person.RefusedAsync(
            HttpMethod.Post,
            PasskeysPath,
            new AddPasskeyRequest("a", options.Challenge, fresh.Create(options.Options)),
            422,
            "challenge_over"
        );
        fresh.Origin = "https://phishing.example";
        await other.RefusedAsync(
            HttpMethod.Post,
            PasskeysPath,
            new AddPasskeyRequest("a", options.Challenge, fresh.Create(options.Options)),
            422,
            "invalid_passkey"
        );
        await other.RefusedAsync(
            HttpMethod.Post,
            PasskeysPath,
            new AddPasskeyRequest(new string('x', 101), options.Challenge, null),
            400,
            "invalid_request"
        );
    }

    [Fact]
    public async Task Add_WhenThereAreTen_ShouldRefuseMore()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        var devices = new List<SoftwareAuthenticator>();
        for (int i = 0; i < Passkeys.PerPersonMax; i++)
        {
            devices.Add(await AddAsync(person));
        }

        await person.RefusedAsync(HttpMethod.Post, PasskeysPath + "/options", null, 409, "too_many_passkeys");
        devices.ForEach(device => device.Dispose());
    }

    [Fact]
    public async Task Remove_WhenTheTwoLastAreRemovedAtOnce_ShouldKeepOneForAnEnterpriseThatAsks()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        FactorPerson stranger = await fixture.NewPersonAsync();
        using SoftwareAuthenticator one = await AddAsync(person);
        using SoftwareAuthenticator two = await AddAsync(person);
        await fixture.RequireAsync(person.EnterpriseId);
        SecondFactorsResponse factors = await person.SendAsync<SecondFactorsResponse>(
            HttpMethod.Get,
            FactorPerson.Factors
        );
        await stranger.RefusedAsync(
            HttpMethod.Delete,
            $"{PasskeysPath}/{factors.Passkeys[0].PasskeyId}",
            null,
            404,
            "not_found"
        );

        HttpResponseMessage[] responses = await Task.WhenAll(
            factors.Passkeys.Select(passkey =>
                person.SendAsync(HttpMethod.Delete, $"{PasskeysPath}/{passkey.PasskeyId}")
            )
        );

        Assert.Single(responses, response => response.StatusCode == HttpStatusCode.NoContent);
        Assert.Single(responses, response => response.StatusCode == HttpStatusCode.Conflict);
        factors = await person.SendAsync<SecondFactorsResponse>(HttpMethod.Get, FactorPerson.Factors);
        Assert.Equal("a device", Assert.Single(factors.Passkeys).Name);
    }

    [Fact]
    public async Task Prove_WhenThePasskeySigns_ShouldCountOnce()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using SoftwareAuthenticator device = await AddAsync(person);
        fixture.Time.Advance(RecentProof.GoodFor);
        await person.RefusedAsync(HttpMethod.Post, PasskeysPath + "/options", null, 403, "proof_required");
        PasskeyOptionsResponse asked = await person.SendAsync<PasskeyOptionsResponse>(
            HttpMethod.Post,
            "/v1/me/proof/options"
        );
        var proof = new ProofRequest(Challenge: asked.Challenge, Passkey: device.Get(asked.Options));

        await person.DoneAsync(HttpMethod.Post, "/v1/me/proof", proof);

        await person.SendAsync<PasskeyOptionsResponse>(HttpMethod.Post, PasskeysPath + "/options");
        await person.RefusedAsync(HttpMethod.Post, "/v1/me/proof", proof, 403, "challenge_over");
    }

    [Theory]
    [InlineData(null, "internal", "http://internal:5001")]
    [InlineData("https://usage.example", "usage.example", "https://usage.example")]
    [InlineData("https://usage.example:8443/app", "usage.example", "https://usage.example:8443")]
    public void RelyingParty_WhenAPublicAddressIsSet_ShouldBeThat(string? publicUrl, string domain, string origin)
    {
        var context = new DefaultHttpContext();
        (context.Request.Scheme, context.Request.Host) = ("http", new HostString("internal", 5001));

        RelyingParty party = RelyingParty.Of(context.Request, publicUrl);

        Assert.Equal((domain, true, false), (party.Domain, party.Is(origin), party.Is("https://elsewhere.example")));
    }

    private static async Task<SoftwareAuthenticator> AddAsync(FactorPerson person)
    {
        PasskeyOptionsResponse options = await person.SendAsync<PasskeyOptionsResponse>(
            HttpMethod.Post,
            PasskeysPath + "/options"
        );
        var device = new SoftwareAuthenticator(Origin);
        await person.SendAsync<FactorAddedResponse>(
            HttpMethod.Post,
            PasskeysPath,
            new AddPasskeyRequest("a device", options.Challenge, device.Create(options.Options))
        );
        return device;
    }

    private async Task<PasskeyOptionsResponse> OptionsAsync()
    {
        using HttpResponseMessage response = await fixture.Host.SendAsync(
            HttpMethod.Post,
            "/v1/auth/passkey/options",
            null
        );
        return await IdentityHost.ReadAsync<PasskeyOptionsResponse>(response, HttpStatusCode.OK);
    }

    private async Task SignInRefusedAsync(PasskeySignInRequest request, string code)
    {
        using HttpResponseMessage response = await fixture.Host.PostAsync("/v1/auth/passkey", request, null);
        await IdentityHost.AssertProblemAsync(response, 401, code);
    }

    private async Task ExecuteAsync(string sql, Guid enterpriseId)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using ScopedTransaction own = await fixture.Database.Database.OpenEnterpriseAsync(
            enterpriseId,
            cancellationToken
        );
        await own.ExecuteAsync(sql, [enterpriseId], cancellationToken);
        await fixture.Host.Services.GetRequiredService<IdentityVersion>().CommitAsync(own, cancellationToken);
    }
}
