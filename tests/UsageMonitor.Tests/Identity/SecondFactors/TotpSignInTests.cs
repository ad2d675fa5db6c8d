using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SecondFactors;
using Xunit;

namespace UsageMonitor.Tests.Identity.SecondFactors;

public sealed class TotpSignInTests(FactorFixture fixture) : IClassFixture<FactorFixture>
{
    [Fact]
    public async Task Login_WhenThePersonHasAnApp_ShouldAskForACodeAndTakeItOnce()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Asked asked = await person.AskedAsync();
        Assert.Equal(["totp", "recovery"], asked.Methods);
        string code = person.NextCode();

        LoginResponse signedIn = await person.AnsweredAsync(new SecondFactorRequest(asked.Challenge, code));

        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync("/v1/usage", signedIn.AccessToken));
        SessionsResponse sessions = await person.SendAsync<SessionsResponse>(HttpMethod.Get, "/v1/me/sessions");
        Assert.Equal("totp", sessions.Sessions[0].SecondFactor);
        Asked again = await person.AskedAsync();
        await person.AnswerRefusedAsync(
            new SecondFactorRequest(asked.Challenge, person.NextCode()),
            401,
            "challenge_over"
        );
        await person.AnswerRefusedAsync(new SecondFactorRequest(again.Challenge, code), 401, "invalid_second_factor");
        await person.AnsweredAsync(new SecondFactorRequest(again.Challenge, person.Code()));
    }

    [Fact]
    public async Task Login_WhenTheCodeIsOfTheConfirmation_ShouldRefuseIt()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();

        Asked asked = await person.AskedAsync();

        await person.AnswerRefusedAsync(
            new SecondFactorRequest(asked.Challenge, person.Code()),
            401,
            "invalid_second_factor"
        );
    }

    [Theory]
    [InlineData(-2, false)]
    [InlineData(-1, true)]
    [InlineData(1, true)]
    [InlineData(2, false)]
    public async Task Answer_WhenTheClocksDiffer_ShouldTakeOneStepEitherSide(int stepsAhead, bool taken)
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        fixture.Time.Advance(TimeSpan.FromMinutes(2));
        Asked asked = await person.AskedAsync();

        using HttpResponseMessage response = await person.AnswerAsync(
            new SecondFactorRequest(asked.Challenge, person.Code(stepsAhead))
        );

        Assert.Equal(taken ? HttpStatusCode.OK : HttpStatusCode.Unauthorized, response.StatusCode);
    }

    [Fact]
    public async Task Answer_WhenManyGiveTheSameCodeAtOnce_ShouldLetOneIn()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Asked[] asked = await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => person.AskedAsync()));
        string code = person.NextCode();

        HttpResponseMessage[] responses = await Task.WhenAll(
            asked.Select(one => person.AnswerAsync(new SecondFactorRequest(one.Challenge, code)))
        );

        Assert.Single(responses, response => response.StatusCode == HttpStatusCode.OK);
        Assert.Equal(5, responses.Count(response => response.StatusCode == HttpStatusCode.Unauthorized));
    }

    [Fact]
    public async Task Answer_WhenManyAnswerOneChallengeAtOnce_ShouldLetOneIn()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Asked asked = await person.AskedAsync();

        HttpResponseMessage[] responses = await Task.WhenAll(
            person
                .RecoveryCodes.Take(Challenges.AttemptsMax)
                .Select(code => person.AnswerAsync(new SecondFactorRequest(asked.Challenge, RecoveryCode: code)))
        );

        Assert.Single(responses, response => response.StatusCode == HttpStatusCode.OK);
        SecondFactorsResponse left = await person.SendAsync<SecondFactorsResponse>(
            HttpMethod.Get,
            FactorPerson.Factors
        );
        Assert.Equal(RecoveryCodes.Count - 1, left.RecoveryCodesLeft);
    }

    [Fact]
    public async Task Answer_WhenARecoveryCodeIsGiven_ShouldTakeItOnceHoweverItIsTyped()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Assert.Equal(RecoveryCodes.Count, person.RecoveryCodes.Distinct().Count());
        string code = person.RecoveryCodes[0];
        string typed = " " + code.Replace('-', ' ').Replace('0', 'o').Replace('1', 'l').ToLowerInvariant();
        Asked asked = await person.AskedAsync();

        await person.AnsweredAsync(new SecondFactorRequest(asked.Challenge, RecoveryCode: typed));

        Asked again = await person.AskedAsync();
        await person.AnswerRefusedAsync(
            new SecondFactorRequest(again.Challenge, RecoveryCode: code),
            401,
            "invalid_second_factor"
        );
        Assert.Contains(AccountNotices.RecoveryCodeUsed, await fixture.MailsAsync(person.EnterpriseId));
    }

    [Fact]
    public async Task Answer_WhenWrongFiveTimes_ShouldEndTheChallenge()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Asked asked = await person.AskedAsync();
        for (int i = 0; i < Challenges.AttemptsMax; i++)
        {
            await person.AnswerRefusedAsync(
                new SecondFactorRequest(asked.Challenge, "000000"),
                401,
                "invalid_second_factor"
            );
        }

        await person.AnswerRefusedAsync(
            new SecondFactorRequest(asked.Challenge, person.NextCode()),
            401,
            "challenge_over"
        );
    }

    [Fact]
    public async Task Answer_WhenWrongTenTimes_ShouldWaitAQuarterOfAnHourAndWarnThePerson()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        for (int i = 0; i < ProofLimit.AttemptsMax; i++)
        {
            Asked asked = await person.AskedAsync();
            await person.AnswerRefusedAsync(
                new SecondFactorRequest(asked.Challenge, "000000"),
                401,
                "invalid_second_factor"
            );
        }

        Asked last = await person.AskedAsync();
        using (
            HttpResponseMessage refused = await person.AnswerAsync(
                new SecondFactorRequest(last.Challenge, person.NextCode())
            )
        )
        {
            await IdentityHost.AssertProblemAsync(refused, 429, "too_many_attempts");
            Assert.NotNull(refused.Headers.RetryAfter);
        }

        Assert.Single(await fixture.MailsAsync(person.EnterpriseId), AccountNotices.Guessed);

        // A proof inside a session is counted apart: a stranger at the door does not lock who is inside.
        await person.DoneAsync(HttpMethod.Post, "/v1/me/proof", new ProofRequest(Code: person.Code()));
        fixture.Time.Advance(ProofLimit.Window);
        Asked later = await person.AskedAsync();
        await person.AnsweredAsync(new SecondFactorRequest(later.Challenge, person.NextCode()));
    }

    [Fact]
    public async Task Answer_WhenTheChallengeIsLateForeignOrForSomethingElse_ShouldRefuseIt()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Asked late = await person.AskedAsync();
        PasskeyOptionsResponse other = await person.SendAsync<PasskeyOptionsResponse>(
            HttpMethod.Post,
            "/v1/auth/passkey/options"
        );
        char[] altered = late.Challenge.ToCharArray();
        altered[^5] = altered[^5] == 'A' ? 'B' : 'A';

        await person.AnswerRefusedAsync(
            new SecondFactorRequest(new string(altered), person.NextCode()),
            401,
            "challenge_over"
        );
        await person.AnswerRefusedAsync(
            new SecondFactorRequest(other.Challenge, person.NextCode()),
            401,
            "challenge_over"
        );
        await person.AnswerRefusedAsync(new SecondFactorRequest("not one", person.NextCode()), 401, "challenge_over");
        fixture.Time.Advance(Challenges.Lifetime);
        await person.AnswerRefusedAsync(
            new SecondFactorRequest(late.Challenge, person.NextCode()),
            401,
            "challenge_over"
        );
    }

    [Fact]
    public async Task Answer_WhenThePasswordHasChangedSince_ShouldRefuseTheChallenge()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Asked asked = await person.AskedAsync();
        fixture.Time.Advance(TimeSpan.FromSeconds(1));
        await person.DoneAsync(
            HttpMethod.Put,
            "/v1/me/password",
            new ChangePasswordRequest(IdentityHost.AdminPassword, "another password, quite long")
        );

        await person.AnswerRefusedAsync(
            new SecondFactorRequest(asked.Challenge, person.NextCode()),
            401,
            "challenge_over"
        );
    }

    [Fact]
    public async Task Login_WhenThePasswordIsWrong_ShouldNotTellThatThereIsASecondFactor()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();

        using HttpResponseMessage response = await person.PasswordAsync("not the password at all");

        await IdentityHost.AssertProblemAsync(response, 401, "invalid_credentials");
    }

    [Fact]
    public async Task Answer_WhenNoneOrTwoProofsAreGiven_ShouldSayWhatIsExpected()
    {
        FactorPerson person = await fixture.NewPersonAsync();

        await person.AnswerRefusedAsync(new SecondFactorRequest("x"), 400, "invalid_request");
        await person.AnswerRefusedAsync(new SecondFactorRequest("x", "123456", "abc"), 400, "invalid_request");
        await person.AnswerRefusedAsync(new SecondFactorRequest(null, "123456"), 400, "invalid_request");
    }

    [Fact]
    public async Task Tables_WhenThePersonHasAnApp_ShouldHoldNeitherSecretNorCodesInTheClear()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.BeginTotpAsync();
        BeginTotpResponse begun = await person.SendAsync<BeginTotpResponse>(
            HttpMethod.Post,
            FactorPerson.Factors + "/totp"
        );
        byte[] secret = OtpNet.Base32Encoding.ToBytes(begun.Secret);
        await using var owner = Npgsql.NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using Npgsql.NpgsqlCommand command = owner.CreateCommand(
            "SELECT pending FROM totp_secrets WHERE enterprise_id = $1"
        );
        command.Parameters.AddWithValue(person.EnterpriseId);

        byte[] kept = (byte[])(await command.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;

        Assert.Equal(-1, kept.AsSpan().IndexOf(secret.AsSpan(0, 4)));
    }
}
